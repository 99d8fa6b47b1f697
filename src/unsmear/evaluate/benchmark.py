"""Measure a model on a data set, or frames that any program restored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import torch
from torch import Tensor

from unsmear import __version__
from unsmear.data.light import round_to_8_bit
from unsmear.data.pairs import PairedSequence
from unsmear.errors import ConfigError, InputError, Mistakes
from unsmear.evaluate.finished import FinishedSequences
from unsmear.evaluate.frames import Comparison, ImageFrames
from unsmear.evaluate.niqe import PristineModel, check_size
from unsmear.evaluate.protocol import Protocol, check_together
from unsmear.evaluate.saving import Keep, keep_nothing
from unsmear.evaluate.scores import SequenceResult, SequenceResults
from unsmear.evaluate.sequence import SequenceMeter, Triple, check_sizes
from unsmear.evaluate.validation import Restore
from unsmear.restoration.work import fingerprints
from unsmear.video.headers import read_header
from unsmear.video.images import read_image, unit_from_integer

_Result = TypeVar("_Result")


class Benchmark:
    """Measures sequences frame by frame, with several threads, keeping only a few frames in memory.

    Args:
        protocol: rules of the measurement.
        more: further protocols, by which the same frames are measured.
        workers: threads that compute the measures.
        on_frame: called with the name of the sequence after each measured frame.
        ffmpeg: program that computes VMAF, see `find_vmaf`; None: no VMAF.
        pristine: model of NIQE, see `unsmear.evaluate.niqe.load_model`; None: no NIQE.
        finished: sequences of an earlier run; None: all are measured.

    Raises:
        ConfigError: see `check_together`.
    """

    def __init__(
        self,
        protocol: Protocol,
        *more: Protocol,
        workers: int = 1,
        on_frame: Callable[[str], None] = lambda _: None,
        ffmpeg: str | None = None,
        pristine: PristineModel | None = None,
        finished: FinishedSequences | None = None,
    ) -> None:
        self.protocols = (protocol, *more)
        check_together(self.protocols)
        self._workers, self._on_frame = max(workers, 1), on_frame
        self._ffmpeg, self._pristine = ffmpeg, pristine
        self._finished = finished

    def run(
        self,
        sequences: Sequence[PairedSequence],
        restore: Restore,
        keep: Keep = keep_nothing,
        *,
        restorer: Mapping[str, object] | None = None,
    ) -> list[list[SequenceResult]]:
        """Restore the blurry frames of a data set and compare them with the sharp ones. Each is
        restored once, whatever the number of protocols.

        Args:
            sequences: of the data set.
            restore: restores a sequence.
            keep: called with each restored frame as it is measured by the first protocol, also
                those that do not count.
            restorer: all that determines what `restore` makes of a sequence, as plain values. With
                it, sequences that an earlier run finished are neither restored nor kept again.

        Returns:
            For each protocol, the results of the sequences.

        Raises:
            InputError: a frame cannot be read, sizes differ, frames are too small, or the protocol
                counts no frame of a sequence (CombinedError: problems of several sequences, found
                before the work).
            ConfigError: `restore` yields something that is not a frame, or too few or too many.
            UnsmearError: ffmpeg could not compute VMAF.
            OutputError: finished sequences could not be noted.
        """
        self._check((pair.name, len(pair.sharp), pair.sharp[0]) for pair in sequences)

        def measure(pair: PairedSequence) -> SequenceResults:
            frames = self._restored(pair, restore)
            kept = partial(keep, pair)
            return self._measure(pair.name, len(pair.sharp), pair.layout, frames, kept)

        return self._by_protocol(
            [self._once(pair, restorer, partial(measure, pair)) for pair in sequences]
        )

    def _once(
        self,
        pair: PairedSequence | Comparison,
        restorer: Mapping[str, object] | None,
        measure: Callable[[], SequenceResults],
    ) -> SequenceResults:
        """Results of a sequence, measured unless an earlier run did; always without `restorer`."""
        if self._finished is None or restorer is None:
            return measure()
        job = {
            "versions": [__version__, str(torch.__version__), cv2.__version__],
            "protocols": [asdict(protocol) for protocol in self.protocols],
            "vmaf": self._ffmpeg is not None,
            "niqe": self._pristine is not None,
            "restorer": restorer,
            "name": pair.name,
            "layout": pair.layout,
            "files": [(str(path.resolve()), fingerprints(path)) for path in pair.files],
        }
        found = self._finished.find(job)
        if found is not None:
            for _ in (frame for result in found for frame in result.frames):
                self._on_frame(pair.name)
            return found
        results = measure()
        self._finished.add(job, results)
        return results

    def _check(self, sequences: Iterable[tuple[str, int, Path | None]]) -> None:
        """Check sequences before the work: name, number of frames and path of the first frame (None
        if it is not an image file).
        """
        mistakes = Mistakes()
        for name, frames, first in sequences:
            size = mistakes.attempt(partial(_naming, name, partial(_size_of, first)))
            for protocol in self.protocols:
                check = partial(self._check_one, protocol, frames, size)
                mistakes.attempt(partial(_naming, name, check))
        mistakes.tell()

    def _check_one(self, protocol: Protocol, frames: int, size: tuple[int, int] | None) -> None:
        protocol.counted(frames)
        if size is not None:
            measured = protocol.resized(*size)
            protocol.check_size(*measured)
            if self._pristine is not None and protocol == self.protocols[0]:  # all have one size
                check_size(*measured)

    def _restored(self, sequence: PairedSequence, restore: Restore) -> Iterator[Triple]:
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
                yield frame.clone()  # networks of others may work in place

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
            yield Triple(ordered, self._eight_bit(read_image(path)), kept.popleft())
        if next(made, None) is not None:
            raise _broken(sequence, f"yielded more than the {len(sequence.sharp)} frames there are")

    def compare(self, comparisons: Sequence[Comparison]) -> list[list[SequenceResult]]:
        """Measure frames that were restored before.

        Returns:
            For each protocol, the results of the sequences.

        Raises:
            InputError: see `run`.
            UnsmearError: ffmpeg could not compute VMAF.
            OutputError: see `run`.
        """
        self._check(
            (pair.name, len(pair.restored), pair.restored.paths[0])
            if isinstance(pair.restored, ImageFrames)
            else (pair.name, len(pair.restored), None)
            for pair in comparisons
        )

        def measure(pair: Comparison) -> SequenceResults:
            return self._measure(pair.name, len(pair.restored), pair.layout, self._given(pair))

        return self._by_protocol(
            [self._once(pair, {}, partial(measure, pair)) for pair in comparisons]
        )

    def _given(self, pair: Comparison) -> Iterator[Triple]:
        """Read restored frames, and those of the other sides that are there."""
        none = [None] * len(pair.restored)
        sides = pair.restored, pair.sharp or none, pair.blurry or none
        for image, sharp, blurry in zip(*sides, strict=True):
            others = (None if one is None else self._eight_bit(one) for one in (sharp, blurry))
            yield Triple(self._read(image), *others)

    def _read(self, image: Tensor) -> Tensor:
        """A restored frame from a file, at the protocols' size. An 8-bit frame is quantised
        already: if it was downscaled, it is rounded as the ground truth is.
        """
        sized = self._sized(image)
        shrunk = sized.shape != image.shape
        return round_to_8_bit(sized) if image.dtype == torch.uint8 and shrunk else sized

    def _sized(self, image: Tensor) -> Tensor:
        return self.protocols[0].resize(unit_from_integer(image))  # all have one size

    def _eight_bit(self, image: Tensor) -> Tensor:
        """A blurry or sharp frame at the protocols' size, in 8-bit steps as in published sets."""
        return round_to_8_bit(self._sized(image))

    def _measure(
        self,
        name: str,
        count: int,
        layout: str | None,
        frames: Iterable[Triple],
        keep: Callable[[int, Tensor], None] | None = None,
    ) -> SequenceResults:
        """Measure a sequence of `count` frames by each protocol."""
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(self._workers))
            meters = [
                SequenceMeter(
                    protocol,
                    name,
                    count,
                    layout,
                    pool=pool,
                    most_waiting=max(2 * self._workers // len(self.protocols), 1),
                    stack=stack,
                    on_frame=self._on_frame,
                    ffmpeg=self._ffmpeg,
                    pristine=self._pristine,
                )
                for protocol in self.protocols
            ]
            before: Triple | None = None
            for index, frame in enumerate(frames):
                check_sizes(name, index, frame, before)
                measured = [meter.add(frame) for meter in meters]
                if keep is not None:
                    keep(index, measured[0])
                before = frame
            return tuple(meter.finish() for meter in meters)

    def _by_protocol(self, measured: Sequence[SequenceResults]) -> list[list[SequenceResult]]:
        """Results of sequences by each protocol -> for each protocol, those of its sequences."""
        return [[results[index] for results in measured] for index in range(len(self.protocols))]


def _naming(sequence: str, check: Callable[[], _Result]) -> _Result:
    """The result of a check, whose error names the sequence."""
    try:
        return check()
    except InputError as error:
        raise InputError(f"'{sequence}': {error}") from None


def _size_of(path: Path | None) -> tuple[int, int] | None:
    """Width and height of an image file as its header has them, upright; None if unknown."""
    return None if path is None else read_header(path).upright_size


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
