"""Batches drawn by worker processes, for GPUs that learn faster than one interpreter draws.

Synthesis takes some thousand small operations for each batch. The device executes them quickly, but
one interpreter takes longer to launch them than a GPU takes to learn from the result, and it shares
its GIL with the training loop. A batch depends only on its step (`unsmear.train.batches`), so each
of n processes draws every n-th batch.
"""

from __future__ import annotations

import multiprocessing
import pickle
import queue
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import cv2
import torch
from torch import Tensor
from torch.multiprocessing import get_context

from unsmear.data.clips import Clips, clips_of
from unsmear.data.packing import share
from unsmear.errors import UnsmearError
from unsmear.train.batches import Batches, PackedBatches
from unsmear.train.prefetch import BatchSource, hand_over

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Event

_WAITING = 2  # batches of each process that are queued
_PATIENCE = 0.5  # seconds between checks whether the other side is still alive
_UNHEARD = (signal.SIGINT, signal.SIGTERM)


def workers_on(device: torch.device, cores: int) -> int:
    """Default number of worker processes: on a GPU one for every two cores, at most 8; else 0."""
    return max(min(cores // 2, 8), 1) if device.type == "cuda" else 0


@contextmanager
def with_workers(
    batches: Batches, last: int, device: torch.device, count: int
) -> Iterator[BatchSource]:
    """The source of a run's batches.

    Args:
        batches: yielded themselves if there are no worker processes.
        last: step before which the run ends.
        device: that learns.
        count: number of worker processes.
    """
    if count == 0:
        yield batches
        return
    with closing(BatchWorkers(batches.packed(), last, device, count)) as workers:
        yield workers


class BatchWorkers:
    """Processes that draw the batches of consecutive steps. They start when the first batch is
    asked for.

    Args:
        batches: to draw.
        last: step before which the processes stop.
        device: that they draw on, and that batches are returned on.
        count: number of processes.
    """

    def __init__(self, batches: PackedBatches, last: int, device: torch.device, count: int) -> None:
        self._batches, self._last, self._device, self._count = batches, last, device, count
        # CUDA cannot be used in a forked process if its parent used it.
        self._context = get_context("spawn")
        self._processes: list[SpawnProcess] = []
        self._ready: list[Queue[list[Tensor] | bytes]] = []
        self._done: Event = self._context.Event()
        self._first = self._next = 0

    def close(self) -> None:
        """End the processes."""
        self._done.set()
        for process in self._processes:
            process.join(4 * _PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()

    def draw(self, step: int, shards: Sequence[int] | None = None) -> Clips:
        """The batch of a step, see `Batches.draw`. Steps must be consecutive, all with the same
        shards.

        Raises:
            UnsmearError: a process failed (any other error of its own is raised too), or is gone.
            ValueError: the step is not the next one.
        """
        if not self._processes:
            self._start(step, shards)
        if step != self._next:
            raise ValueError(f"step {step} is asked for: the next that is drawn is {self._next}")
        self._next += 1
        number = (step - self._first) % self._count
        item = self._taken(number)
        if isinstance(item, bytes):
            raise pickle.loads(item)
        return clips_of(item).to(self._device)

    def _start(self, first: int, shards: Sequence[int] | None) -> None:
        self._first = self._next = first
        for number in range(self._count):
            ready: Queue[list[Tensor] | bytes] = self._context.Queue(_WAITING)
            steps = range(first + number, self._last, self._count)
            process = self._context.Process(
                target=_draw_all,
                args=(self._batches, steps, shards, self._device, ready, self._done),
                name=f"unsmear-draw-{number}",
                daemon=True,
            )
            with _unheard_from_the_start():
                process.start()
            self._ready.append(ready)
            self._processes.append(process)

    def _taken(self, number: int) -> list[Tensor] | bytes:
        process = self._processes[number]
        while True:
            try:
                return self._ready[number].get(timeout=_PATIENCE)
            except queue.Empty:
                if not process.is_alive():
                    raise UnsmearError(
                        f"a process that prepares batches ended (exit code {process.exitcode}), "
                        "perhaps for lack of memory: try fewer --workers"
                    ) from None


@contextmanager
def _unheard_from_the_start() -> Iterator[None]:
    """A process that is started meanwhile hears no Ctrl-C or SIGTERM, even while it still imports
    modules. Does nothing on Windows.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    usual = signal.pthread_sigmask(signal.SIG_BLOCK, _UNHEARD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)


def _draw_all(
    packed: PackedBatches,
    steps: range,
    shards: Sequence[int] | None,
    device: torch.device,
    ready: Queue[list[Tensor] | bytes],
    done: Event,
) -> None:
    """Main function of a worker process."""
    # Ctrl-C in a terminal reaches every process, and so does SIGTERM of a scheduler. The training
    # process ends the workers when it needs them no longer.
    for number in _UNHEARD:
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wanted() -> bool:
        return not done.is_set() and parent.is_alive()

    try:
        batches = packed.unpacked(device)
        for step in steps:
            tensors = [tensor.cpu() for tensor in batches.draw(step, shards).tensors]
            # The queue would do it too, but in a thread that drops what does not fit.
            share(tensors, "each batch that waits needs")
            if not hand_over(ready, tensors, wanted):
                break
    except BaseException as error:
        hand_over(ready, _pickled(error), wanted)
    # Batches lie in this process's memory until they are taken.
    while wanted():
        done.wait(_PATIENCE)
    ready.cancel_join_thread()


def _pickled(error: BaseException) -> bytes:
    """Pickle an error so that it can be raised in another process."""
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # some take other constructor arguments than the message in `args`
        data = pickle.dumps(UnsmearError(f"{type(error).__name__}: {error}"))
    return data
