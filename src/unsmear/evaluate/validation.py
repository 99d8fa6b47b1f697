"""Validation on paired sequences: whole frames, restored as a user's video would be."""

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
from unsmear.data.pairs import PairedSequence, uniform_frames
from unsmear.engines.base import Runnable
from unsmear.evaluate.metrics import gain, psnr, ssim
from unsmear.restoration.quality import NETWORK_ALONE, QualityOptions
from unsmear.restoration.stream import restore_stream
from unsmear.video.images import unit_from_integer

Restore = Callable[[Iterable[Tensor]], Iterable[Tensor]]
"""Restores a sequence: blurry frames (3, H, W), float32, 0..1 -> restored frames in the same order,
of any floating dtype and on any device. It must read a blurry frame before it yields its result.
"""


@dataclass(frozen=True)
class SequenceScore:
    """Mean scores over the frames of one sequence, before and after restoration.

    Attributes:
        name: of the sequence.
        frames: number of frames.
        psnr_before: PSNR of the blurry frames, dB.
        psnr_after: PSNR of the restored frames, dB.
        ssim_before: SSIM of the blurry frames; None if not requested.
        ssim_after: SSIM of the restored frames, likewise.
        worst_gain: lowest gain in PSNR of any frame, dB. A blurry frame that equals the sharp one
            counts 0 if it stays so, else -inf. NaN if the PSNR of a restored frame is NaN.
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
        """Gain in mean PSNR, dB; 0 if both are infinite."""
        return gain(self.psnr_after, self.psnr_before)


def mean_gain(scores: Sequence[SequenceScore]) -> float:
    """Mean gain over sequences, dB; NaN if there are none, or gains of both infinities."""
    # Not `fmean`, which raises an error for both infinities.
    return sum(score.gain for score in scores) / len(scores) if scores else math.nan


def measure(
    model: Runnable,
    sequences: Sequence[PairedSequence],
    window: int,
    *,
    with_ssim: bool,
    quality: QualityOptions = NETWORK_ALONE,
) -> list[SequenceScore]:
    """Restore and measure: RGB, rounded to 8 bits, no crop, mean over all frames.

    Args:
        model: an engine, or a network in evaluation mode.
        sequences: to measure on.
        window: number of frames that contribute to each one, odd.
        with_ssim: whether to compute SSIM, which takes about as long as `lite` itself.
        quality: what runs around the network; by default the network alone.

    Raises:
        InputError: a file cannot be read, or sizes differ.
    """
    restore = partial(restore_stream, model, window=window, quality=quality)
    return [score(sequence, restore, with_ssim=with_ssim) for sequence in sequences]


def score(sequence: PairedSequence, restore: Restore, *, with_ssim: bool) -> SequenceScore:
    """`measure` of one sequence, restored by any function, see `restored_triples`.

    Raises:
        InputError: a file cannot be read, or sizes differ.
    """
    before, after, ssim_before, ssim_after = [], [], [], []
    # Frame by frame, because a whole sequence would take gigabytes.
    for restored, blurry, sharp in restored_triples(sequence, restore):
        before.append(psnr(blurry, sharp))
        after.append(psnr(restored, sharp))
        if with_ssim:
            ssim_before.append(ssim(blurry, sharp))
            ssim_after.append(ssim(restored, sharp))
    gains = [gain(*both) for both in zip(after, before, strict=True)]
    return SequenceScore(
        name=sequence.name,
        frames=len(after),
        psnr_before=fmean(before),
        psnr_after=fmean(after),
        ssim_before=fmean(ssim_before) if with_ssim else None,
        ssim_after=fmean(ssim_after) if with_ssim else None,
        worst_gain=math.nan if any(map(math.isnan, gains)) else min(gains),
    )


def restored_triples(
    sequence: PairedSequence, restore: Restore
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Restore a sequence frame by frame. A blurry frame is kept until it is restored.

    Args:
        sequence: paths of the blurry and sharp frames.
        restore: restores its frames.

    Yields:
        Restored, blurry and sharp frame, (3, H, W) each, float, 0..1, in 8-bit steps, on the CPU.

    Raises:
        InputError: a file cannot be read, or sizes differ.
    """
    given, kept = tee(read_frames(sequence.blurry))
    made = restore(frame.clone() for frame in given)  # networks of others may work in place
    for restored, blurry, sharp in zip(made, kept, read_frames(sequence.sharp), strict=True):
        yield round_to_8_bit(restored.cpu()), blurry, sharp


def read_frames(paths: Sequence[Path]) -> Iterator[Tensor]:
    """Read image files one by one, as frames (3, H, W), float, 0..1, in 8-bit steps.

    Raises:
        InputError: a file cannot be read, or sizes differ.
    """
    return map(unit_from_integer, uniform_frames(paths))
