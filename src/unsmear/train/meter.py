"""Progress of training: averages between reports, and how the time is spent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unsmear.evaluate.validation import SequenceScore
from unsmear.train.team import Team


@dataclass(frozen=True)
class Report:
    """Progress of training, averaged over the steps since the previous report.

    Attributes:
        step: steps taken.
        steps: of the whole run.
        loss: as configured.
        psnr: of restored crops, dB.
        gain: PSNR over that of the blurry crops, dB.
        frames_per_second: training frames per second, over all processes; validation and saving do
            not count.
        learning: share of the time spent on learning, 0..1, see `LearningClock`.
        seconds_left: at this speed, without validation and saving.
        scores: validation, if this step had one.
        skipped: steps since the previous report whose gradient was not finite. Loss, PSNR and gain
            are those of the other steps, NaN if there are none.
    """

    step: int
    steps: int
    loss: float
    psnr: float
    gain: float
    frames_per_second: float
    learning: float
    seconds_left: float
    scores: tuple[SequenceScore, ...] = ()
    skipped: int = 0


class LearningClock:
    """Measures the share of the time spent on learning rather than on waiting for data.

    Three marks divide a step into two parts: before its batch is drawn, when the batch is there,
    and when the step is done. The share is that of the second parts in the sum of both. Validation
    and checkpoints are outside. On a GPU the marks are events in its stream: drawing then means the
    device's work on synthesis and its idle time while the host prepares, not what the host does
    while the device still learns. Elsewhere the marks are times of the host.

    Args:
        device: that learns.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[Any] = []  # CUDA events, or seconds

    def mark(self) -> None:
        """Set the first, second or third mark of a step, in turn."""
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def share(self) -> float:
        """Share of learning, 0..1, since the last call. Waits for a GPU's last mark.

        Raises:
            ValueError: no step was marked, or a step only in part.
        """
        if not self._marks or len(self._marks) % 3:
            raise ValueError(f"{len(self._marks)} marks: three a step are needed, one step or more")
        drawing = learning = 0.0
        for first in range(0, len(self._marks), 3):
            start, drawn, done = self._marks[first : first + 3]
            drawing += self._seconds(start, drawn)
            learning += self._seconds(drawn, done)
        self._marks.clear()
        return learning / max(drawing + learning, 1e-9)

    def _seconds(self, start: Any, end: Any) -> float:
        """Seconds between two marks; waits until a GPU has reached the later one."""
        if self._device.type != "cuda":
            return float(end - start)
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


class Meter:
    """Averages between reports, kept on the device so that no step waits for it.

    Args:
        device: that learns.
        team: the processes to average over.
    """

    def __init__(self, device: torch.device, team: Team) -> None:
        self._device, self._team = device, team
        self.clock = LearningClock(device)
        self._reset()

    def _reset(self) -> None:
        self._sum = torch.zeros(3, device=self._device)
        self._count = self._skipped = self._frames = 0
        self._since = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of other work than training steps."""
        began = time.monotonic()
        yield
        self._since += time.monotonic() - began

    def add(self, loss: Tensor, after: Tensor, before: Tensor, frames: int, learned: bool) -> None:
        """Add the results of `Stepper.step`."""
        self._count += 1
        self._frames += frames
        if learned:
            self._sum += torch.stack((loss, after, before))
        else:
            self._skipped += 1

    def report(self, step: int, steps: int, scores: tuple[SequenceScore, ...]) -> Report:
        """Averages since the last call, over the whole team. Every process must call it."""
        share = torch.tensor([self.clock.share()], device=self._device)
        learned = self._count - self._skipped  # the same in all processes
        means = self._team.mean(torch.cat((self._sum / learned, share)))
        loss, after, before, learning = means.tolist()
        seconds = max(time.monotonic() - self._since, 1e-9)
        line = Report(
            step=step,
            steps=steps,
            loss=loss,
            psnr=after,
            gain=after - before,
            frames_per_second=self._frames * self._team.size / seconds,
            learning=learning,
            seconds_left=(steps - step) * seconds / self._count,
            scores=scores,
            skipped=self._skipped,
        )
        self._reset()
        return line
