from __future__ import annotations

import math

import pytest
import torch

from unsmear.train import meter
from unsmear.train.meter import LearningClock, Meter
from unsmear.train.team import Team

CPU = torch.device("cpu")


class Moments:
    """A clock that shows the given seconds, one after the other."""

    def __init__(self, monkeypatch, *seconds):
        self._left = list(seconds)
        monkeypatch.setattr(meter.time, "perf_counter", lambda: self._left.pop(0))


def test_share_of_learning_is_that_of_drawing_and_learning(monkeypatch):
    # Two steps: 1 s drawn and 3 s learned, 2 s and 2 s; 90 s of validation between them.
    Moments(monkeypatch, 0, 1, 4, 94, 96, 98)
    clock = LearningClock(CPU)
    for _ in range(6):
        clock.mark()
    assert clock.share() == pytest.approx(5 / 8)
    with pytest.raises(ValueError, match="0 marks"):
        clock.share()  # each report covers its own steps


def test_steps_that_were_marked_in_part_are_no_share():
    clock = LearningClock(CPU)
    clock.mark()
    with pytest.raises(ValueError, match="1 marks"):
        clock.share()


def test_on_a_gpu_the_devices_own_time_counts(monkeypatch):
    """The host returns before the device is done, so CUDA events are used instead of clocks."""

    class Event:
        moments = iter([0.0, 10.0, 100.0])  # device time, milliseconds
        waited = 0

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            assert stream == "of cuda:1"
            self.at = next(self.moments)

        def synchronize(self):
            Event.waited += 1

        def elapsed_time(self, later):
            return later.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"of {device}")
    clock = LearningClock(torch.device("cuda:1"))
    for _ in range(3):
        clock.mark()
    assert Event.waited == 0  # no step waits for the device
    assert clock.share() == pytest.approx(0.9)
    assert Event.waited == 2


class Two(Team):
    """A team whose processes have the same results."""

    def mean(self, values):
        return values


def test_what_is_measured_and_saved_meanwhile_does_not_slow_the_figures(monkeypatch):
    # Start at 0 s; two steps in 4 s; validation from 4 to 94 s; report at 96 s.
    moments = [0.0, 4.0, 94.0, 96.0, 96.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: moments.pop(0))
    one = Meter(CPU, Two(0, 2))
    for _ in range(6):
        one.clock.mark()
    for _ in range(2):
        one.add(torch.tensor(1.0), torch.tensor(30.0), torch.tensor(28.0), 12, True)
    with one.paused():
        pass
    line = one.report(2, 10, ())
    assert line.frames_per_second == pytest.approx(2 * 24 / 6)
    assert line.seconds_left == pytest.approx(8 * 6 / 2)


def test_a_report_averages_since_the_one_before():
    one = Meter(CPU, Team())
    for loss in (1.0, 3.0):
        for _ in range(3):
            one.clock.mark()
        one.add(torch.tensor(loss), torch.tensor(30.0), torch.tensor(28.0), 4, True)
    line = one.report(10, 100, ())
    assert (line.loss, line.psnr, line.gain) == (2.0, 30.0, 2.0)
    assert 0 <= line.learning <= 1
    assert line.frames_per_second > 0
    assert line.seconds_left > 0
    assert line.skipped == 0


def test_skipped_steps_are_counted_and_not_averaged():
    one = Meter(CPU, Team())
    nothing = torch.tensor(float("nan"))
    for learned in ((False, True, False), (False,), (True,)):
        for moved in learned:
            for _ in range(3):
                one.clock.mark()
            values = [torch.tensor(value) if moved else nothing for value in (2.0, 30.0, 28.0)]
            one.add(*values, 4, moved)
        line = one.report(10, 100, ())
        assert line.skipped == learned.count(False)
        assert math.isnan(line.loss) if True not in learned else line.loss == 2.0
        assert line.frames_per_second > 0
