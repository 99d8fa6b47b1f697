"""Batches drawn by processes of their own, for GPUs that learn faster than one interpreter draws.

Synthesis is some thousand small operations a batch. The device works them out in no time, but
one interpreter takes longer to ask for them than a GPU to learn from the result, and shares its
lock with the training loop. Every batch depends on nothing but its step (`unsmear.train.batches`),
so that with n processes each draws every n-th.
"""

from __future__ import annotations

import multiprocessing
import pickle
import queue
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import torch
from torch import Tensor
from torch.multiprocessing import get_context

from unsmear.data.clips import Clips, clips_of
from unsmear.errors import UnsmearError
from unsmear.train.batches import Batches, PackedBatches
from unsmear.train.prefetch import Draws, hand_over

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Event

_WAITING = 2  # batches of each process that wait to be taken
_PATIENCE = 0.5  # seconds between looks at whether the other side still lives


def workers_on(device: torch.device, cores: int) -> int:
    """How many processes draw where nobody says: on a GPU one for every two cores, at most 8."""
    return max(min(cores // 2, 8), 1) if device.type == "cuda" else 0


@contextmanager
def drawing(batches: Batches, last: int, device: torch.device, count: int) -> Iterator[Draws]:
    """What draws the batches of a run.

    Args:
        batches: themselves what is yielded, where there are no processes.
        last: step before which the run ends.
        device: that learns.
        count: processes.
    """
    if count == 0:
        yield batches
        return
    with DrawingProcesses(batches.packed(), last, device, count) as processes:
        yield processes


class DrawingProcesses(AbstractContextManager["DrawingProcesses"]):
    """Draws batches of steps on end. A context manager: at its end the processes end.

    They start with the first batch that is wanted.

    Args:
        batches: what is drawn from.
        last: step before which they stop.
        device: that they draw on, and that batches are wanted on.
        count: how many processes.
    """

    def __init__(self, batches: PackedBatches, last: int, device: torch.device, count: int) -> None:
        self._batches, self._last, self._device, self._count = batches, last, device, count
        # A process that was forked can use no GPU that was used before.
        self._context = get_context("spawn")
        self._processes: list[SpawnProcess] = []
        self._ready: list[Queue[list[Tensor] | bytes]] = []
        self._done: Event = self._context.Event()
        self._first = self._next = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        for process in self._processes:
            process.join(4 * _PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()

    def draw(self, step: int, shards: Sequence[int] | None = None) -> Clips:
        """The batch of a step, see `Batches.draw`. Steps must be asked for on end, all with the
        same shards.

        Raises:
            UnsmearError: what went wrong in a process, or that one is gone.
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


def _draw_all(
    packed: PackedBatches,
    steps: range,
    shards: Sequence[int] | None,
    device: torch.device,
    ready: Queue[list[Tensor] | bytes],
    done: Event,
) -> None:
    """What each process does."""
    # A terminal's Ctrl-C reaches every process: the one that trains ends the others, once it needs
    # no more of them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
            if not hand_over(ready, tensors, wanted):
                break
    except BaseException as error:
        hand_over(ready, _pickled(error), wanted)
    # What was handed over lies in memory of this process until it is taken.
    while wanted():
        done.wait(_PATIENCE)
    ready.cancel_join_thread()


def _pickled(error: BaseException) -> bytes:
    """An error that can be raised in another process."""
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # some take other arguments than the message they hand to their base
        data = pickle.dumps(UnsmearError(f"{type(error).__name__}: {error}"))
    return data
