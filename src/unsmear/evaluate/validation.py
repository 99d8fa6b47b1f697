"""Measure a network on paired sequences, whole frames, as a user's video would be restored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from unsmear.data.light import round_to_8_bit
from unsmear.data.pairs import PairedSequence
from unsmear.engines.base import Runnable
from unsmear.evaluate.metrics import psnr, ssim
from unsmear.restoration.effort import NETWORK_ALONE, Effort
from unsmear.restoration.stream import restore_stream
from unsmear.video.images import unit_from_integer


@dataclass(frozen=True)
class SequenceScore:
    """Mean over the frames of one sequence, before and after.

    Attributes:
        name: of the sequence.
        frames: how many.
        psnr_before: of the blurry frames, dB.
        psnr_after: of the restored ones, dB.
        ssim_before: of the blurry frames; None where SSIM was not asked for.
        ssim_after: of the restored ones; likewise.
        worst_gain: PSNR after over PSNR before of the frame that gains least, dB.
    """

    name: str
    frames: int
    psnr_before: float
    psnr_after: float
    ssim_before: float | None
    ssim_after: float | None
    worst_gain: float


def measure(
    model: Runnable,
    sequences: Sequence[PairedSequence],
    window: int,
    *,
    with_ssim: bool,
    effort: Effort = NETWORK_ALONE,
) -> list[SequenceScore]:
    """Restore and compare: RGB, rounded to 8 bits, no crop, mean over all frames.

    Args:
        model: an engine, or a network in evaluation mode.
        sequences: what to measure on.
        window: frames, odd.
        with_ssim: SSIM too; it takes about as long as `lite` itself.
        effort: what is spent on each frame; by default the network is measured alone.
    """
    scores = []
    for sequence in sequences:
        blurry, sharp = (unit_from_integer(side) for side in sequence.read())
        stream = restore_stream(model, blurry, window, effort=effort)
        restored = [round_to_8_bit(frame.cpu()) for frame in stream]
        after_before = [restored, list(blurry)]
        after, before = (frame_scores(psnr, side, sharp) for side in after_before)
        ssims = [mean_score(ssim, side, sharp) if with_ssim else None for side in after_before]
        scores.append(
            SequenceScore(
                name=sequence.name,
                frames=len(restored),
                psnr_before=fmean(before),
                psnr_after=fmean(after),
                ssim_before=ssims[1],
                ssim_after=ssims[0],
                worst_gain=min(one - other for one, other in zip(after, before, strict=True)),
            )
        )
    return scores


def mean_score(
    metric: Callable[[Tensor, Tensor], float], frames: Sequence[Tensor], sharp: Tensor
) -> float:
    """The mean of a metric over frames (3, H, W) and their truth, (T, 3, H, W)."""
    return fmean(frame_scores(metric, frames, sharp))


def frame_scores(
    metric: Callable[[Tensor, Tensor], float], frames: Sequence[Tensor], sharp: Tensor
) -> list[float]:
    """A metric of each frame (3, H, W) and its truth, (T, 3, H, W)."""
    return [metric(frame, target) for frame, target in zip(frames, sharp, strict=True)]
