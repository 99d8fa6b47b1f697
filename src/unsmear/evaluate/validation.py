"""Measure a network on paired sequences, whole frames, as a user's video would be restored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import tee
from pathlib import Path
from statistics import fmean

from torch import Tensor

from unsmear.data.light import round_to_8_bit
from unsmear.data.pairs import PairedSequence, check_alike
from unsmear.engines.base import Runnable
from unsmear.evaluate.metrics import gain, psnr, ssim
from unsmear.restoration.effort import NETWORK_ALONE, Effort
from unsmear.restoration.stream import restore_stream
from unsmear.video.images import eight_bit, read_image, unit_from_integer


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
        worst_gain: PSNR after over PSNR before of the frame that gains least, dB: 0 for a frame
            that equals the truth and stays as it is, -inf for one that does not stay; nan where
            the network gave a frame that is no number.
    """

    name: str
    frames: int
    psnr_before: float
    psnr_after: float
    ssim_before: float | None
    ssim_after: float | None
    worst_gain: float

    @property
    def gain(self) -> float:
        """PSNR after over PSNR before, dB; 0 where both are infinite."""
        return gain(self.psnr_after, self.psnr_before)


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
        # Measured as it is made: a sequence of full frames takes gigabytes.
        restore = partial(restore_stream, model, window=window, effort=effort)
        before, after, ssim_before, ssim_after = [], [], [], []
        for restored, blurry, sharp in restored_triples(sequence, restore):
            before.append(psnr(blurry, sharp))
            after.append(psnr(restored, sharp))
            if with_ssim:
                ssim_before.append(ssim(blurry, sharp))
                ssim_after.append(ssim(restored, sharp))
        gains = [gain(*both) for both in zip(after, before, strict=True)]
        scores.append(
            SequenceScore(
                name=sequence.name,
                frames=len(after),
                psnr_before=fmean(before),
                psnr_after=fmean(after),
                ssim_before=fmean(ssim_before) if with_ssim else None,
                ssim_after=fmean(ssim_after) if with_ssim else None,
                worst_gain=math.nan if any(map(math.isnan, gains)) else min(gains),
            )
        )
    return scores


def restored_triples(
    sequence: PairedSequence, restore: Callable[[Iterable[Tensor]], Iterable[Tensor]]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Restored frames, rounded to 8 bits, with the blurry and the sharp ones, each (3, H, W),
    float, 0..1, on the CPU: one after the other, a blurry one being kept until it comes back.

    Args:
        sequence: of both.
        restore: blurry frames -> restored ones, as many, on any device.

    Raises:
        InputError: a file cannot be read, or sizes differ.
    """
    given, kept = tee(read_frames(sequence.blurry))
    for restored, blurry, sharp in zip(
        restore(given), kept, read_frames(sequence.sharp), strict=True
    ):
        yield round_to_8_bit(restored.cpu()), blurry, sharp


def read_frames(paths: Sequence[Path]) -> Iterator[Tensor]:
    """Pictures as frames (3, H, W), float, 0..1, in 8-bit steps, one after the other.

    Raises:
        InputError: a file cannot be read, or sizes differ.
    """
    first: Tensor | None = None
    for path in paths:
        frame = eight_bit(read_image(path))
        first = frame if first is None else first
        check_alike(path, frame, paths[0], first)
        yield unit_from_integer(frame)
