"""Batches drawn by processes: the same as in one process, in order; errors, deaths and ends."""

from __future__ import annotations

import os
import pickle
import re
import signal
import threading
from contextlib import closing
from multiprocessing import current_process

import pytest
import torch

from tests.conftest import TWO_ALIGNED, picture
from tests.train.drawn import Failing
from unsmear.data.sources import find_training_files
from unsmear.errors import InputError, UnsmearError
from unsmear.models import zoo
from unsmear.models.flow import clip_motion
from unsmear.models.zoo import Entry
from unsmear.train import processes
from unsmear.train.batches import Batches
from unsmear.train.config import Stage, TrainConfig
from unsmear.train.processes import BatchWorkers, with_workers, workers_on
from unsmear.video.images import write_image

CPU = torch.device("cpu")


def test_processes_take_turns_tell_what_goes_wrong_and_end_with_the_run():
    with (
        pytest.raises(KeyboardInterrupt),
        closing(BatchWorkers(Failing(), 11, CPU, 2)) as draws,
    ):
        draws._start(3, [4, 5])
        found = []
        for last in (6, 7):  # also while they start
            for process in draws._processes:
                for number in (signal.SIGINT, signal.SIGTERM):  # of a terminal, of a scheduler
                    os.kill(process.pid, number)  # only the trainer ends
            steps = range(3 + len(found), last)
            found += [draws.draw(step, [4, 5]).blurry.tolist() for step in steps]
        found += [draws.draw(step, [4, 5]).blurry.tolist() for step in range(7, 9)]
        with pytest.raises(ValueError, match="step 3 is asked for: the next"):
            draws.draw(3)
        with pytest.raises(InputError, match="damaged"):
            draws.draw(9, [4, 5])
        one, other = draws._processes
        other.kill()
        with pytest.raises(UnsmearError, match=r"ended \(exit code -9\).*fewer --workers"):
            draws.draw(10, [4, 5])
        assert one.is_alive()
        draws._done.set()  # as if the trainer were gone: they poll
        one.join(60)
        assert one.exitcode == 0
        raise KeyboardInterrupt
    assert [(step, rest) for step, _, *rest in found] == [(step, [4, 5]) for step in range(3, 9)]
    drawers = [pid for _, pid, *_ in found]
    assert drawers == [one.pid, other.pid] * 3


class Ready:
    """Stands in for the queue of a process, which ends when something is in it."""

    def __init__(self):
        self.done = threading.Event()

    def put(self, item, timeout):
        self.item = item
        self.done.set()

    def cancel_join_thread(self):
        pass


@pytest.fixture
def handed_over(monkeypatch):
    """What a process that draws one step would hand over."""
    monkeypatch.setattr(processes.signal, "signal", lambda *_: None)
    monkeypatch.setattr(processes.multiprocessing, "parent_process", current_process)
    monkeypatch.setattr(processes.cv2, "setNumThreads", lambda _: None)

    def drawn(step):
        ready = Ready()
        processes._draw_all(Failing(), range(step, step + 1), None, CPU, ready, ready.done)
        return ready.item

    return drawn


def test_an_error_that_cannot_be_pickled_is_told_by_its_name(handed_over):
    error = pickle.loads(handed_over(11))
    assert (type(error), str(error)) == (UnsmearError, "TellsNobodyError: a and b")


def test_a_batch_for_which_memory_lacks_is_told(handed_over, monkeypatch):
    """There is no room for one tensor, then there is again."""
    usual = torch.UntypedStorage._share_fd_cpu_

    def refuse(storage):
        if storage.is_shared():
            return usual(storage)
        monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", usual)
        raise RuntimeError("unable to allocate shared memory(shm)")

    assert handed_over(0)[0].is_shared()
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", refuse)
    error = pickle.loads(handed_over(0))
    assert isinstance(error, UnsmearError)
    assert re.search(r"each batch that waits needs .* --shm-size", str(error))


def test_synthesis_is_the_same_in_another_process(tmp_path, monkeypatch):
    """Photographs, a clip with optical flow, trails, and the motion that the network uses."""
    entry = Entry(name="finder", summary="", config=TWO_ALIGNED, window=3)
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
    with with_workers(batches, 4, CPU, 0) as draws:
        assert draws is batches
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with with_workers(batches, 4, CPU, 1) as draws:
            for step in range(1, 4):
                here, there = batches.draw(step), draws.draw(step)
                assert len(there.tensors) == 5
                for one, other in zip(here.tensors, there.tensors, strict=True):
                    assert torch.equal(one, other)
                assert torch.equal(here.motion, clip_motion(here.blurry))
            started = draws._processes
            assert [process.is_alive() for process in started] == [True]
        assert not any(process.is_alive() for process in started)
    finally:
        torch.set_num_threads(threads)


def test_a_gpu_has_a_process_for_every_two_cores():
    cuda = torch.device("cuda")
    assert [workers_on(cuda, cores) for cores in (1, 4, 16, 64)] == [1, 2, 8, 8]
    assert workers_on(CPU, 16) == 0
