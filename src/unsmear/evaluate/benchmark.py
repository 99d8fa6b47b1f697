"""Measure a network on a data set, or frames that anything has restored against sharp ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from unsmear.data.light import round_to_8_bit
from unsmear.data.pairs import PairedSequence
from unsmear.errors import InputError
from unsmear.evaluate.frames import Frames, PictureFrames, open_frames
from unsmear.evaluate.metrics import temporal_error
from unsmear.evaluate.niqe import PristineModel, niqe
from unsmear.evaluate.protocol import Protocol
from unsmear.evaluate.vmaf import VmafMeter
from unsmear.video.images import list_images, paths_below, read_image, unit_from_integer


@dataclass(frozen=True)
class FrameScore:
    """One frame that counts.

    Attributes:
        index: in its sequence, from 0.
        psnr: dB; None where there is no truth.
        ssim: as the protocol has it, likewise.
        flicker: `temporal_error` against the frame before, None where there is none.
        psnr_before: of the blurry frame, None where only restored frames are known.
        ssim_before: likewise.
        flicker_before: of the blurry frames.
        vmaf: 0..100, see `VmafMeter`; None where it was not asked for.
        niqe: see `unsmear.evaluate.niqe`; None where it was not asked for, or nothing in the frame
            has any texture. Like the two below it is of the whole frame.
        niqe_before: of the blurry frame.
        niqe_sharp: of the truth.
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
    """All frames of a sequence that count."""

    name: str
    frames: tuple[FrameScore, ...]


@dataclass(frozen=True)
class BenchmarkResult:
    """What was measured.

    Attributes:
        title: what was restored, by what.
        protocol: by which rules.
        sequences: results.
    """

    title: str
    protocol: Protocol
    sequences: tuple[SequenceResult, ...]

    @property
    def frames(self) -> list[FrameScore]:
        """All frames of all sequences."""
        return [frame for sequence in self.sequences for frame in sequence.frames]


def mean_of(frames: Sequence[FrameScore], measure: str) -> float | None:
    """Mean of a measure (a field of `FrameScore`) over the frames that have it; None if none."""
    values = [value for frame in frames if (value := getattr(frame, measure)) is not None]
    return fmean(values) if values else None


@dataclass(frozen=True)
class Comparison:
    """Restored frames and their truth, as many of each; None where nobody knows it."""

    name: str
    restored: Frames
    sharp: Frames | None


def find_comparisons(restored: Path, sharp: Path) -> list[Comparison]:
    """Pair two folders of pictures, or of folders of pictures, by their names; or a video with a
    video (or a folder of pictures) by the order of their frames.

    Raises:
        InputError: something is missing or empty, names or numbers of frames differ, or there are
            restored frames without a truth.
    """
    if restored.is_file() or sharp.is_file():
        sides = [open_frames(path) for path in (restored, sharp)]
        if len(sides[0]) != len(sides[1]):
            raise InputError(
                f"'{restored}' has {len(sides[0])} frames, '{sharp}' has {len(sides[1])}: they are "
                "compared one by one; cut the longer one to what the other shows"
            )
        return [Comparison(restored.stem, *sides)]
    for folder in (restored, sharp):
        if not folder.is_dir():
            raise InputError(f"'{folder}' is not a folder of pictures, nor a video file")
    truths, results = (dict(_pictures_below(side)) for side in (sharp, restored))
    if not truths:
        raise InputError(f"'{sharp}' holds no pictures")
    if alone := [place for place in results if place not in truths]:
        raise InputError(
            f"'{restored / alone[0]}' holds pictures, '{sharp / alone[0]}' none to compare them "
            "with: take them out, or compare folders one by one"
        )
    found = []
    for relative, truth in truths.items():
        folder = sharp / relative
        made = results.get(relative, ())
        if [path.stem for path in made] != [path.stem for path in truth]:
            raise InputError(
                f"'{restored / relative}' and '{folder}' must hold frames of the same names; "
                f"they hold {len(made)} and {len(truth)}"
            )
        name = sharp.name if relative == Path() else relative.as_posix()
        found.append(Comparison(name, PictureFrames(made), PictureFrames(truth)))
    return found


def find_alone(restored: Path) -> list[Comparison]:
    """Frames whose truth nobody knows: a video, a folder of pictures, or one of such folders.

    Raises:
        InputError: there are none.
    """
    if restored.is_file():
        return [Comparison(restored.stem, open_frames(restored), None)]
    if not restored.is_dir():
        raise InputError(f"'{restored}' is not a folder of pictures, nor a video file")
    found = [
        Comparison(
            restored.name if place == Path() else place.as_posix(), PictureFrames(pictures), None
        )
        for place, pictures in _pictures_below(restored)
    ]
    if not found:
        raise InputError(f"'{restored}' holds no pictures")
    return found


def _pictures_below(root: Path) -> list[tuple[Path, tuple[Path, ...]]]:
    """Folders that hold pictures, relative to a folder, in order, and these."""
    folders = sorted({path.parent for path in paths_below(root) if path.is_file()})
    held = ((folder.relative_to(root), tuple(list_images(folder))) for folder in folders)
    return [(place, pictures) for place, pictures in held if pictures]


Restore = Callable[[Iterable[Tensor]], Iterator[Tensor]]
"""Blurry frames (3, H, W), float, 0..1 -> restored ones, as many."""


class Benchmark:
    """Compares frame by frame, several at once, holding no more than it must.

    Args:
        protocol: by which rules.
        workers: threads that compute the measures.
        on_frame: called with the name of the sequence after each frame that was compared.
        ffmpeg: program that computes VMAF, see `find_vmaf`; None: no VMAF.
        pristine: what NIQE measures against, see `unsmear.evaluate.niqe.load_model`; None: no NIQE.
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

    def run(self, sequences: Sequence[PairedSequence], restore: Restore) -> list[SequenceResult]:
        """Restore the blurry frames of a data set and compare.

        Raises:
            InputError: a frame cannot be read, sizes differ, or no frame of a sequence counts.
        """
        results = []
        for sequence in sequences:
            self.protocol.counted(len(sequence.sharp))  # before the work, not after
            triples = self._restored(sequence, restore)
            results.append(self._compare(sequence.name, len(sequence.sharp), triples))
        return results

    def _restored(
        self, sequence: PairedSequence, restore: Restore
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Restored, sharp and blurry frames; a blurry one is kept until it comes back restored."""
        kept: deque[Tensor] = deque()

        def blurry() -> Iterator[Tensor]:
            size: torch.Size | None = None
            for path in sequence.blurry:
                frame = self._eight_bit(read_image(path))
                if size is not None and frame.shape != size:
                    raise InputError(
                        f"'{path}' has {tuple(frame.shape[-2:])} rows and columns, those before it "
                        f"in '{sequence.name}' {tuple(size[-2:])}: all of a sequence must agree"
                    )
                size = frame.shape
                kept.append(frame)
                yield frame

        for frame, path in zip(restore(blurry()), sequence.sharp, strict=True):
            sharp = self._eight_bit(read_image(path))
            yield self.protocol.quantize(frame.cpu()), sharp, kept.popleft()

    def compare(self, comparisons: Sequence[Comparison]) -> list[SequenceResult]:
        """Compare frames that were restored before.

        Raises:
            InputError: a frame cannot be read, sizes differ, or no frame of a sequence counts.
        """
        return [
            self._compare(pair.name, len(pair.restored), self._given(pair)) for pair in comparisons
        ]

    def _given(self, pair: Comparison) -> Iterator[tuple[Tensor, Tensor | None, None]]:
        """Restored and sharp frames, these where they are known."""
        if pair.sharp is None:
            yield from ((self._made(made), None, None) for made in pair.restored)
            return
        for made, truth in zip(pair.restored, pair.sharp, strict=True):
            yield self._made(made), self._eight_bit(truth), None

    def _made(self, image: Tensor) -> Tensor:
        """A restored frame from a file. One of 8 bits has been quantised: shrunk, it is rounded as
        the truth is.
        """
        sized = self._sized(image)
        if image.dtype == torch.uint8 and sized.shape != image.shape:
            return round_to_8_bit(sized)
        return self.protocol.quantize(sized)

    def _sized(self, image: Tensor) -> Tensor:
        return self.protocol.resize(unit_from_integer(image))

    def _eight_bit(self, image: Tensor) -> Tensor:
        """A given frame at the protocol's size, in 8-bit steps as the published sets hold it."""
        return round_to_8_bit(self._sized(image))

    def _compare(
        self, name: str, count: int, triples: Iterable[tuple[Tensor, Tensor | None, Tensor | None]]
    ) -> SequenceResult:
        counted = self.protocol.counted(count)
        scores: list[FrameScore] = []
        waiting: deque[Future[FrameScore]] = deque()
        before: tuple[Tensor, Tensor | None, Tensor | None] | None = None
        meter: VmafMeter | None = None
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(self._workers))
            for index, (restored, sharp, blurry) in enumerate(triples):
                if sharp is not None and restored.shape != sharp.shape:
                    raise InputError(
                        f"'{name}', frame {index}: restored {tuple(restored.shape[-2:])} and "
                        f"sharp {tuple(sharp.shape[-2:])} differ in height or width"
                    )
                if before is not None and restored.shape != before[0].shape:
                    raise InputError(
                        f"'{name}', frame {index} is of another size than the one before, "
                        f"{restored.shape[-1]}x{restored.shape[-2]} and {before[0].shape[-1]}x"
                        f"{before[0].shape[-2]}: frames of a sequence must be of one size"
                    )
                if self._ffmpeg is not None and sharp is not None:
                    if meter is None:
                        meter = stack.enter_context(VmafMeter(self._ffmpeg, *sharp.shape[-2:]))
                    meter.add(restored, sharp)
                if index in counted:
                    job = pool.submit(self._score, index, restored, sharp, blurry, before)
                    waiting.append(job)
                before = (restored, sharp, blurry)
                if len(waiting) > 2 * self._workers:
                    scores.append(waiting.popleft().result())
                    self._on_frame(name)
            while waiting:
                scores.append(waiting.popleft().result())
                self._on_frame(name)
            if meter is not None:
                vmaf = meter.finish()  # of all frames; its motion needs those that do not count
                scores = [replace(score, vmaf=vmaf[score.index]) for score in scores]
        return SequenceResult(name, tuple(scores))

    def _score(
        self,
        index: int,
        restored: Tensor,
        sharp: Tensor | None,
        blurry: Tensor | None,
        before: tuple[Tensor, Tensor | None, Tensor | None] | None,
    ) -> FrameScore:
        model = self._pristine
        if sharp is None:
            return FrameScore(index, niqe=None if model is None else niqe(restored, model))
        psnr, ssim = self.protocol.scores(restored, sharp)
        score = FrameScore(index, psnr, ssim)
        if blurry is not None:
            psnr, ssim = self.protocol.scores(blurry, sharp)
            score = replace(score, psnr_before=psnr, ssim_before=ssim)
        last, true, seen = before or (None, None, None)
        if last is not None and true is not None:
            score = replace(score, flicker=temporal_error(restored, last, sharp, true))
            if blurry is not None and seen is not None:
                score = replace(score, flicker_before=temporal_error(blurry, seen, sharp, true))
        if model is None:
            return score
        return replace(
            score,
            niqe=niqe(restored, model),
            niqe_before=None if blurry is None else niqe(blurry, model),
            niqe_sharp=niqe(sharp, model),
        )
