"""Scores of frames and sequences, the result of a benchmark, and means over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from unsmear.evaluate.protocol import Protocol


@dataclass(frozen=True)
class FrameScore:
    """Scores of one frame that the protocol counts. What was not measured is None.

    Attributes:
        index: index in its sequence, from 0.
        psnr: PSNR of the restored frame, dB; None without ground truth.
        ssim: SSIM of the restored frame, as the protocol defines it; likewise.
        flicker: `temporal_error` from the previous frame; None without ground truth or for the
            first frame.
        psnr_before: PSNR of the blurry frame; None if only restored frames are given.
        ssim_before: SSIM of the blurry frame, likewise.
        flicker_before: `temporal_error` of the blurry frames, likewise.
        vmaf: 0..100, see `VmafMeter`; None if not requested, or without ground truth.
        niqe: NIQE of the restored frame, see `unsmear.evaluate.niqe`; None if not requested, or if
            it or one of the next two has fewer than two patches with texture. NIQE is of the whole
            frame, whatever the protocol crops.
        niqe_before: NIQE of the blurry frame, likewise.
        niqe_sharp: NIQE of the ground truth, likewise.
    """

    index: int
    psnr: float | None = None
    ssim: float | None = None
    flicker: float | None = None
    psnr_before: float | None = None
    ssim_before: float | None = None
    flicker_before: float | None = None
    vmaf: float | None = None
    niqe: float | None = None
    niqe_before: float | None = None
    niqe_sharp: float | None = None


@dataclass(frozen=True)
class SequenceResult:
    """Scores of a sequence.

    Attributes:
        name: of the sequence.
        frames: scores of the frames that the protocol counts, in order.
        layout: layout of the data set, see `unsmear.data.pairs`; None if the frames are from
            elsewhere.
    """

    name: str
    frames: tuple[FrameScore, ...]
    layout: str | None = None


SequenceResults = tuple[SequenceResult, ...]
"""Results of one sequence, one for each protocol."""


@dataclass(frozen=True, kw_only=True)
class MeasuredModel:
    """The model and settings that restored the frames.

    Attributes:
        name: row of the zoo, or file name without its suffix.
        digest: of the network's shape and weights, see `unsmear.models.checkpoint.digest_of`.
        window: number of frames that contribute to each one, or `all`.
        engine: name of the engine, never `auto`.
        device: device that it ran on.
        ensemble: number of views that were averaged.
        refine: number of refinement passes.
        burst: restored frames on each side that were fused with each frame.
        polish: digest of the network that corrected what was fused; None if none did.
        reblur: whether frames were corrected by reblurring.
    """

    name: str
    digest: str
    window: int | str
    engine: str
    device: str
    ensemble: int
    refine: int
    burst: int
    polish: str | None = None
    reblur: bool = False


@dataclass(frozen=True)
class BenchmarkResult:
    """Result of a benchmark.

    Attributes:
        title: what was measured: model, what ran around it, and data; or folder.
        protocol: protocol of the measurement.
        sequences: results of each sequence.
        model: model that restored the frames; None if unknown.
        notes: what a reader should know of the frames.
    """

    title: str
    protocol: Protocol
    sequences: tuple[SequenceResult, ...]
    model: MeasuredModel | None = None
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> list[FrameScore]:
        """All frames of all sequences."""
        return [frame for sequence in self.sequences for frame in sequence.frames]


def mean_of(frames: Sequence[FrameScore], measure: str) -> float | None:
    """Mean of a measure (a field of `FrameScore`) over the frames that have it; None if none do."""
    values = [value for frame in frames if (value := getattr(frame, measure)) is not None]
    return fmean(values) if values else None


def mean_of_sequences(sequences: Sequence[SequenceResult], measure: str) -> float | None:
    """Mean over sequences of their means (`mean_of`), so that all sequences count alike; None if no
    frame has the measure.
    """
    values = [mean_of(sequence.frames, measure) for sequence in sequences]
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
