"""Batches drawn while the network learns from the previous one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch

from unsmear.data.clips import Clips

if TYPE_CHECKING:
    from multiprocessing.queues import Queue as MultiprocessingQueue

Item = TypeVar("Item")

_PATIENCE = 0.2  # seconds between checks whether batches are still wanted


class BatchSource(Protocol):
    """A source of batches: `Batches`, or a stand-in."""

    def draw(self, step: int, shards: Sequence[int] | None = None) -> Clips:
        """The clips of a step."""


@contextmanager
def batch_iterator(
    batches: BatchSource, steps: range, shards: Sequence[int], device: torch.device, *, ahead: bool
) -> Iterator[Iterator[Clips]]:
    """The batches of steps, in order. They are the same whether drawn ahead or not.

    Args:
        batches: their source.
        steps: 0-based.
        shards: those of this process.
        device: that batches are made and learned on.
        ahead: draw the next batch in a thread; on a GPU in a stream of its own.

    Yields:
        An iterator. It raises any error of the thread.
    """
    if not ahead:
        yield (batches.draw(step, shards) for step in steps)
        return
    prefetcher = _Prefetcher(batches, steps, shards, device)
    prefetcher.start()
    try:
        yield prefetcher.taken()
    finally:
        prefetcher.stop()


def hand_over(
    ready: queue.Queue[Item] | MultiprocessingQueue[Item], item: Item, wanted: Callable[[], bool]
) -> bool:
    """Put an item into a queue as soon as there is room. Returns False if it stopped being wanted
    before that.
    """
    while wanted():
        try:
            ready.put(item, timeout=_PATIENCE)
            return True
        except queue.Full:
            continue
    return False


class _Prefetcher(threading.Thread):
    """Draws batches one ahead: one is queued while the next is made."""

    def __init__(
        self, batches: BatchSource, steps: range, shards: Sequence[int], device: torch.device
    ) -> None:
        super().__init__(name="unsmear-draw", daemon=True)
        self._batches, self._steps, self._shards = batches, steps, shards
        self._device = device
        self._ready: queue.Queue[tuple[Clips, torch.cuda.Event | None] | BaseException] = (
            queue.Queue(maxsize=1)
        )
        self._unwanted = threading.Event()
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            # The sources were copied to the device in the current stream.
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def run(self) -> None:
        if self._stream is not None:
            # A thread starts on the first GPU, where a context would take some 500 MB.
            torch.cuda.set_device(self._stream.device)
        try:
            for step in self._steps:
                event = None
                with torch.cuda.stream(self._stream) if self._stream else nullcontext():
                    batch = self._batches.draw(step, self._shards)
                    if self._stream is not None:
                        event = torch.cuda.Event()
                        event.record(self._stream)
                if not hand_over(self._ready, (batch, event), self._wanted):
                    return
        except BaseException as error:
            hand_over(self._ready, error, self._wanted)

    def _wanted(self) -> bool:
        return not self._unwanted.is_set()

    def taken(self) -> Iterator[Clips]:
        """The batches, in order, as the caller asks for them."""
        for _ in self._steps:
            item = self._ready.get()
            if isinstance(item, BaseException):
                raise item
            batch, event = item
            if event is not None:
                here = torch.cuda.current_stream(self._device)
                here.wait_event(event)
                for tensor in batch.tensors:
                    tensor.record_stream(here)  # memory is reused only after this stream is done
            yield batch

    def stop(self) -> None:
        """End the thread, and wait for it."""
        self._unwanted.set()
        self.join()
