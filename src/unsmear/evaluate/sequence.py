"""One sequence, measured by one protocol as its frames come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from unsmear.errors import InputError
from unsmear.evaluate.metrics import temporal_error
from unsmear.evaluate.niqe import PristineModel, niqe
from unsmear.evaluate.protocol import Protocol
from unsmear.evaluate.scores import FrameScore, SequenceResult
from unsmear.evaluate.vmaf import VmafMeter


class Triple(NamedTuple):
    """One frame of a sequence: restored, its ground truth, and blurry; the last two if given.

    Each is (3, H, W), float32, 0..1, on the CPU, at the size at which it is measured. Blurry and
    sharp frames are in 8-bit steps.
    """

    restored: Tensor
    sharp: Tensor | None = None
    blurry: Tensor | None = None


class SequenceMeter:
    """Measures a sequence by a protocol, keeping only a few frames in memory: `add` every frame in
    order, then `finish`.

    Args:
        protocol: rules of the measurement.
        name: of the sequence.
        frames: number of its frames.
        layout: of the data set, see `SequenceResult`.
        pool: computes the measures.
        most_waiting: frames that may wait for it.
        stack: closes what is opened here.
        on_frame: called with the name of the sequence after each measured frame.
        ffmpeg: program that computes VMAF, see `find_vmaf`; None: no VMAF.
        pristine: model of NIQE, see `unsmear.evaluate.niqe.load_model`; None: no NIQE.

    Raises:
        InputError: the protocol counts none of the frames.
    """

    def __init__(
        self,
        protocol: Protocol,
        name: str,
        frames: int,
        layout: str | None,
        *,
        pool: Executor,
        most_waiting: int,
        stack: ExitStack,
        on_frame: Callable[[str], None],
        ffmpeg: str | None,
        pristine: PristineModel | None,
    ) -> None:
        self._protocol, self._name, self._layout = protocol, name, layout
        self._pool, self._most_waiting, self._stack = pool, most_waiting, stack
        self._on_frame, self._ffmpeg, self._pristine = on_frame, ffmpeg, pristine
        self._counted = protocol.counted(frames)
        self._index = 0
        self._before: Triple | None = None
        self._waiting: deque[Future[FrameScore]] = deque()
        self._scores: list[FrameScore] = []
        self._vmaf: VmafMeter | None = None

    def add(self, frame: Triple) -> Tensor:
        """Add the next frame. Its restored side is quantised here, as the protocol has it, and
        returned.

        Raises:
            UnsmearError: ffmpeg failed.
        """
        frame = frame._replace(restored=self._protocol.quantize(frame.restored))
        if self._ffmpeg is not None and frame.sharp is not None:
            if self._vmaf is None:
                meter = VmafMeter(self._ffmpeg, *frame.sharp.shape[-2:])
                self._vmaf = self._stack.enter_context(meter)
            self._vmaf.add(frame.restored, frame.sharp)
        if self._index in self._counted:
            asked = self._protocol, self._pristine, self._index, frame, self._before
            self._waiting.append(self._pool.submit(_score, *asked))
        self._before = frame
        self._index += 1
        if len(self._waiting) > self._most_waiting:
            self._take()
        return frame.restored

    def finish(self) -> SequenceResult:
        """The result of the sequence.

        Raises:
            UnsmearError: ffmpeg failed.
        """
        while self._waiting:
            self._take()
        scores = self._scores
        if self._vmaf is not None:
            vmaf = self._vmaf.finish()  # of all frames: its motion feature needs skipped ones too
            scores = [replace(score, vmaf=vmaf[score.index]) for score in scores]
        return SequenceResult(self._name, tuple(scores), self._layout)

    def _take(self) -> None:
        self._scores.append(self._waiting.popleft().result())
        self._on_frame(self._name)


def _score(
    protocol: Protocol,
    pristine: PristineModel | None,
    index: int,
    frame: Triple,
    before: Triple | None,
) -> FrameScore:
    """Measure one frame. `before`: the previous one, for flicker."""
    restored, sharp, blurry = frame
    natural = [None if side is None or pristine is None else niqe(side, pristine) for side in frame]
    if any(side is not None and one is None for side, one in zip(frame, natural, strict=True)):
        natural = [None] * 3  # the means of all sides are over the same frames
    if sharp is None:
        return FrameScore(index, niqe=natural[0])
    psnr, ssim = protocol.scores(restored, sharp)
    psnr_before = ssim_before = flicker = flicker_before = None
    if blurry is not None:
        psnr_before, ssim_before = protocol.scores(blurry, sharp)
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
        niqe=natural[0],
        niqe_sharp=natural[1],
        niqe_before=natural[2],
    )


def check_sizes(name: str, index: int, frame: Triple, before: Triple | None) -> None:
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
