"""Batches drawn by processes: the same as in this one, in order; errors, deaths and ends."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch

from tests.conftest import ALIGNED, picture
from unsmear.data.clips import Clips
from unsmear.data.sources import find_training_files
from unsmear.data.trails import Trails
from unsmear.errors import InputError, UnsmearError
from unsmear.models import zoo
from unsmear.models.flow import clip_motion
from unsmear.models.zoo import Entry
from unsmear.train.batches import Batches
from unsmear.train.config import Stage, TrainConfig
from unsmear.train.processes import DrawingProcesses, drawing, workers_on
from unsmear.video.images import write_image

CPU = torch.device("cpu")


class TellsNobodyError(Exception):
    """Cannot be pickled: made of two arguments, it tells its base one."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Numbers:
    """Stands in for packed batches: batches that are their step, and who drew them."""

    def __init__(self, fails_at=None, error=None, dies_at=None):
        self.fails_at, self.error, self.dies_at = fails_at, error, dies_at

    def unpacked(self, device):
        return self

    def draw(self, step, shards=None):
        if step == self.fails_at:
            raise InputError("damaged") if self.error is None else TellsNobodyError("a", "b")
        if step == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        value = torch.tensor([step, os.getpid(), *(shards or ())])
        return Clips(value, -value, Trails(value, value))


def test_processes_take_turns_and_end_with_the_run():
    with DrawingProcesses(Numbers(), 9, CPU, 2) as draws:
        found = [draws.draw(step, [4, 5]).blurry.tolist() for step in range(3, 9)]
        with pytest.raises(ValueError, match="step 3 is asked for: the next"):
            draws.draw(3)
        processes = draws._processes
        assert all(process.is_alive() for process in processes)
    assert [(step, rest) for step, _, *rest in found] == [(step, [4, 5]) for step in range(3, 9)]
    drawers = [pid for _, pid, *_ in found]
    assert drawers == [processes[0].pid, processes[1].pid] * 3
    assert not any(process.is_alive() for process in processes)


def test_a_run_that_breaks_off_leaves_no_process_behind():
    with pytest.raises(KeyboardInterrupt), DrawingProcesses(Numbers(), 99, CPU, 1) as draws:
        draws.draw(0)
        processes = draws._processes
        raise KeyboardInterrupt
    assert processes
    assert not any(process.is_alive() for process in processes)


@pytest.mark.parametrize(
    ("numbers", "error", "message"),
    [
        (Numbers(fails_at=1), InputError, "damaged"),
        (Numbers(fails_at=1, error="odd"), UnsmearError, "TellsNobodyError: a and b"),
    ],
)
def test_what_goes_wrong_is_told_where_the_batch_is_wanted(numbers, error, message):
    with DrawingProcesses(numbers, 9, CPU, 1) as draws:
        assert draws.draw(0).blurry[0] == 0
        with pytest.raises(error, match=message):
            draws.draw(1)


def test_a_process_that_was_killed_is_missed():
    message = r"gone \(exit code -9\).*fewer --workers"
    draws = DrawingProcesses(Numbers(dies_at=0), 9, CPU, 1)
    with draws, pytest.raises(UnsmearError, match=message):
        draws.draw(0)


def test_synthesis_is_the_same_in_other_processes(tmp_path, monkeypatch):
    """Photographs, a clip and its flow, trails and the motion that the network looks at."""
    entry = Entry(name="finder", summary="", config=ALIGNED, window=3)
    monkeypatch.setitem(zoo.ZOO, "finder", entry)
    for index in range(3):
        image = torch.from_numpy(picture(90, 120 + index, index).transpose(2, 0, 1).copy())
        write_image(tmp_path / f"{index}.png", image)
    (tmp_path / "clips" / "a").mkdir(parents=True)
    for index in range(7):
        image = torch.from_numpy(picture(60, 80, 9)[:, index:].transpose(2, 0, 1).copy())
        write_image(tmp_path / "clips" / "a" / f"{index}.png", image[..., :60])
    config = TrainConfig(
        model="finder", stages=(Stage(steps=4, clips=4, frames=2, crop=32),), shards=2
    )
    batches = Batches(config, find_training_files([tmp_path]), [], CPU, 1)
    with drawing(batches, 4, CPU, 0) as draws:
        assert draws is batches
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with drawing(batches, 4, CPU, 2) as draws:
        for step in range(1, 4):
            here, there = batches.draw(step), draws.draw(step)
            assert len(there.tensors) == 5
            for one, other in zip(here.tensors, there.tensors, strict=True):
                assert torch.equal(one, other)
            assert torch.equal(here.motion, clip_motion(here.blurry))
    torch.set_num_threads(threads)


def test_processes_that_nobody_waits_for_end():
    """They look from time to time whether they are still wanted."""
    with DrawingProcesses(Numbers(), 99, CPU, 1) as draws:
        draws.draw(0)
        process = draws._processes[0]
        draws._done.set()
        began = time.monotonic()
        process.join(20)
        assert not process.is_alive()
        assert time.monotonic() - began < 15


def test_a_gpu_has_a_process_for_every_two_cores():
    cuda = torch.device("cuda")
    assert [workers_on(cuda, cores) for cores in (1, 4, 16, 64)] == [1, 2, 8, 8]
    assert workers_on(CPU, 16) == 0
