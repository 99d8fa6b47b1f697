"""Measure a model on a data set, or frames that any program restored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.data.light import round_to_8_bit
from unsmear.data.pairs import PairedSequence
from unsmear.errors import ConfigError, InputError, Mistakes
from unsmear.evaluate.frames import Comparison, ImageFrames
from unsmear.evaluate.metrics import temporal_error
from unsmear.evaluate.niqe import PristineModel, check_size, niqe
from unsmear.evaluate.protocol import Protocol
from unsmear.evaluate.saving import Keep, keep_nothing
from unsmear.evaluate.vmaf import VmafMeter
from unsmear.video.headers import read_header
from unsmear.video.images import read_image, unit_from_integer


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
            fewer than two patches of the frame have texture. NIQE is of the whole frame, whatever
            the protocol crops.
        niqe_before: NIQE of the blurry frame.
        niqe_sharp: NIQE of the ground truth.
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
    """

    name: str
    digest: str
    window: int | str
    engine: str
    device: str
    ensemble: int
    refine: int
    burst: int


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


Restore = Callable[[Iterable[Tensor]], Iterable[Tensor]]
"""Restores a sequence: blurry frames (3, H, W), float32, 0..1 -> restored frames in the same order,
of any floating dtype and on any device. It must read a blurry frame before it yields its result.
"""


class _Triple(NamedTuple):
    """One frame of a sequence: restored, its ground truth, and blurry; the last two if given."""

    restored: Tensor
    sharp: Tensor | None = None
    blurry: Tensor | None = None


class Benchmark:
    """Measures sequences frame by frame, with several threads, keeping only a few frames in memory.

    Args:
        protocol: rules of the measurement.
        workers: threads that compute the measures.
        on_frame: called with the name of the sequence after each measured frame.
        ffmpeg: program that computes VMAF, see `find_vmaf`; None: no VMAF.
        pristine: model of NIQE, see `unsmear.evaluate.niqe.load_model`; None: no NIQE.
    """

    def __init__(
        self,
        protocol: Protocol,
        workers: int = 1,
        on_frame: Callable[[str], None] = lambda _: None,
        ffmpeg: str | None = None,
        pristine: PristineModel | None = None,
    ) -> None:
        self.protocol, self._workers, self._on_frame = protocol, max(workers, 1), on_frame
        self._ffmpeg, self._pristine = ffmpeg, pristine

    def run(
        self, sequences: Sequence[PairedSequence], restore: Restore, keep: Keep = keep_nothing
    ) -> list[SequenceResult]:
        """Restore the blurry frames of a data set and compare them with the sharp ones.

        Args:
            sequences: of the data set.
            restore: restores a sequence.
            keep: called with each restored frame as it is measured, also those that do not count.

        Raises:
            InputError: a frame cannot be read, sizes differ, frames are too small, or the protocol
                counts no frame of a sequence (CombinedError: problems of several sequences, found
                before the work).
            ConfigError: `restore` yields something that is not a frame, or too few or too many.
            UnsmearError: ffmpeg could not compute VMAF.
        """
        self._check((pair.name, len(pair.sharp), pair.sharp[0]) for pair in sequences)
        results = []
        for sequence in sequences:
            frames = self._restored(sequence, restore, keep)
            result = self._compare(sequence.name, len(sequence.sharp), frames)
            results.append(replace(result, layout=sequence.layout))
        return results

    def _check(self, sequences: Iterable[tuple[str, int, Path | None]]) -> None:
        """Check sequences before the work: name, number of frames and path of the first frame (None
        if it is not an image file).
        """
        mistakes = Mistakes()
        for sequence in sequences:
            mistakes.attempt(partial(self._check_one, *sequence))
        mistakes.tell()

    def _check_one(self, name: str, frames: int, first: Path | None) -> None:
        try:
            self.protocol.counted(frames)
            found = None if first is None else read_header(first).upright_size
            if found is not None:
                size = self.protocol.resized(*found)
                self.protocol.check_size(*size)
                if self._pristine is not None:
                    check_size(*size)
        except InputError as error:
            raise InputError(f"'{name}': {error}") from None

    def _restored(
        self, sequence: PairedSequence, restore: Restore, keep: Keep
    ) -> Iterator[_Triple]:
        """Restore a sequence. A blurry frame is kept until it is restored."""
        kept: deque[Tensor] = deque()

        def blurry() -> Iterator[Tensor]:
            size: torch.Size | None = None
            for path in sequence.blurry:
                frame = self._eight_bit(read_image(path))
                if size is not None and frame.shape != size:
                    raise InputError(
                        f"'{path}' has {tuple(frame.shape[-2:])} rows and columns, the frames "
                        f"before it in '{sequence.name}' {tuple(size[-2:])}: all must have the "
                        "same size"
                    )
                size = frame.shape
                kept.append(frame)
                yield frame

        made = iter(restore(blurry()))
        for index, path in enumerate(sequence.sharp):
            frame = next(made, None)
            if frame is None:
                raise _broken(sequence, f"yielded {index} frames of {len(sequence.sharp)}")
            if not kept:
                raise _broken(sequence, f"yielded frame {index} before it had read the blurry one")
            _check_restored(sequence, index, frame)
            # Sums over pixels in another order of memory would differ in their last digits.
            ordered = frame.detach().cpu().float().contiguous()
            restored = self.protocol.quantize(ordered)
            keep(sequence, index, restored)
            yield _Triple(restored, self._eight_bit(read_image(path)), kept.popleft())
        if next(made, None) is not None:
            raise _broken(sequence, f"yielded more than the {len(sequence.sharp)} frames there are")

    def compare(self, comparisons: Sequence[Comparison]) -> list[SequenceResult]:
        """Measure frames that were restored before.

        Raises:
            InputError: see `run`.
            UnsmearError: ffmpeg could not compute VMAF.
        """
        self._check(
            (pair.name, len(pair.restored), pair.restored.paths[0])
            if isinstance(pair.restored, ImageFrames)
            else (pair.name, len(pair.restored), None)
            for pair in comparisons
        )
        results = []
        for pair in comparisons:
            result = self._compare(pair.name, len(pair.restored), self._given(pair))
            results.append(replace(result, layout=pair.layout))
        return results

    def _given(self, pair: Comparison) -> Iterator[_Triple]:
        """Read restored frames, and those of the other sides that are there."""
        none = [None] * len(pair.restored)
        sides = pair.restored, pair.sharp or none, pair.blurry or none
        for image, sharp, blurry in zip(*sides, strict=True):
            others = (None if one is None else self._eight_bit(one) for one in (sharp, blurry))
            yield _Triple(self._read(image), *others)

    def _read(self, image: Tensor) -> Tensor:
        """A restored frame from a file, at the protocol's size and quantised by its rule. An 8-bit
        frame is quantised already: if it was downscaled, it is rounded as the ground truth is.
        """
        sized = self._sized(image)
        if image.dtype == torch.uint8 and sized.shape != image.shape:
            return round_to_8_bit(sized)
        return self.protocol.quantize(sized)

    def _sized(self, image: Tensor) -> Tensor:
        return self.protocol.resize(unit_from_integer(image))

    def _eight_bit(self, image: Tensor) -> Tensor:
        """A blurry or sharp frame at the protocol's size, in 8-bit steps as in published sets."""
        return round_to_8_bit(self._sized(image))

    def _compare(self, name: str, count: int, frames: Iterable[_Triple]) -> SequenceResult:
        """Measure a sequence of `count` frames."""
        counted = self.protocol.counted(count)
        scores: list[FrameScore] = []
        waiting: deque[Future[FrameScore]] = deque()
        before: _Triple | None = None
        meter: VmafMeter | None = None
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(self._workers))
            for index, frame in enumerate(frames):
                _check_sizes(name, index, frame, before)
                if self._ffmpeg is not None and frame.sharp is not None:
                    if meter is None:
                        size = frame.sharp.shape[-2:]
                        meter = stack.enter_context(VmafMeter(self._ffmpeg, *size))
                    meter.add(frame.restored, frame.sharp)
                if index in counted:
                    waiting.append(pool.submit(self._score, index, frame, before))
                before = frame
                if len(waiting) > 2 * self._workers:
                    scores.append(waiting.popleft().result())
                    self._on_frame(name)
            while waiting:
                scores.append(waiting.popleft().result())
                self._on_frame(name)
            if meter is not None:
                vmaf = meter.finish()  # of all frames: its motion feature needs skipped ones too
                scores = [replace(score, vmaf=vmaf[score.index]) for score in scores]
        return SequenceResult(name, tuple(scores))

    def _score(self, index: int, frame: _Triple, before: _Triple | None) -> FrameScore:
        """Measure one frame. `before`: the previous one, for flicker."""
        restored, sharp, blurry = frame
        if sharp is None:
            return FrameScore(index, niqe=self._niqe(restored))
        psnr, ssim = self.protocol.scores(restored, sharp)
        psnr_before = ssim_before = flicker = flicker_before = None
        if blurry is not None:
            psnr_before, ssim_before = self.protocol.scores(blurry, sharp)
        if before is not None and before.sharp is not None:
            flicker = temporal_error(restored, before.restored, sharp, before.sharp)
            if blurry is not None and before.blurry is not None:
                flicker_before = temporal_error(blurry, before.blurry, sharp, before.sharp)
        return FrameScore(
            index,
            psnr=psnr,
            ssim=ssim,
            flicker=flicker,
            psnr_before=psnr_before,
            ssim_before=ssim_before,
            flicker_before=flicker_before,
            niqe=self._niqe(restored),
            niqe_before=self._niqe(blurry),
            niqe_sharp=self._niqe(sharp),
        )

    def _niqe(self, frame: Tensor | None) -> float | None:
        """NIQE of a frame; None if there is none, or if it is not requested."""
        return None if frame is None or self._pristine is None else niqe(frame, self._pristine)


def _check_sizes(name: str, index: int, frame: _Triple, before: _Triple | None) -> None:
    """Check that a frame is as large as its ground truth, as the blurry one, and as the one before.

    Raises:
        InputError: it is not.
    """
    restored = frame.restored
    for side, other in (("sharp", frame.sharp), ("blurry", frame.blurry)):
        if other is not None and restored.shape != other.shape:
            raise InputError(
                f"'{name}', frame {index}: restored {tuple(restored.shape[-2:])} and "
                f"{side} {tuple(other.shape[-2:])} differ in height or width"
            )
    if before is not None and restored.shape != before.restored.shape:
        height, width = before.restored.shape[-2:]
        raise InputError(
            f"'{name}', frame {index} is {restored.shape[-1]}x{restored.shape[-2]}, "
            f"the one before {width}x{height}: all frames of a sequence must have the same size"
        )


def _check_restored(sequence: PairedSequence, index: int, frame: object) -> None:
    """Check that `restore` yielded a frame.

    Raises:
        ConfigError: it did not.
    """
    if not isinstance(frame, Tensor):
        raise _broken(sequence, f"yielded frame {index} as {type(frame).__name__}")
    if not frame.is_floating_point():
        raise _broken(sequence, f"yielded frame {index} as {frame.dtype}")
    if frame.dim() != 3 or len(frame) != 3:
        raise _broken(sequence, f"yielded frame {index} of shape {tuple(frame.shape)}")


def _broken(sequence: PairedSequence, what: str) -> ConfigError:
    return ConfigError(
        f"restore {what} of '{sequence.name}': it must yield one frame for each blurry one, in "
        "order, as a floating-point tensor (3, H, W), 0..1"
    )
