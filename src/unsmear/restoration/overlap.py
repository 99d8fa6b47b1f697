"""Concurrency: pipelined stages (`prefetch`), and tasks of one stage in parallel (`Workers`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import torch

Item = TypeVar("Item")
Given = ParamSpec("Given")
One = TypeVar("One")


def prefetch(items: Iterable[Item]) -> Generator[Item, None, None]:
    """Yield the same items, each computed in a background thread while the consumer works
    on the one before.

    Only one item is computed ahead, so memory stays bounded. Exceptions are raised where the item
    would have been yielded. If the iteration may stop early, close the generator
    (`contextlib.closing`): that waits for the item being computed.

    Args:
        items: iterated in the background thread only, and closed there if it is a generator.
    """
    source, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="unsmear-prefetch") as thread:
        coming = thread.submit(next, source, end)
        try:
            while (item := coming.result()) is not end:
                coming = thread.submit(next, source, end)
                yield item  # type: ignore[misc]
                del item  # or it would stay alive until the next one arrives
        finally:
            if isinstance(source, Generator):
                thread.submit(source.close)


class Workers:
    """A pool of threads that run tasks in order of submission, without gradients. Use it as a
    context manager: on exit, tasks that have not started are cancelled, the others awaited.

    Args:
        count: number of threads. With 1 there are none: `submit` runs the task itself.

    Attributes:
        count: as given.
    """

    def __init__(self, count: int = 1) -> None:
        self.count = count
        # In torch, whether gradients are recorded is a setting of each thread.
        self._pool = (
            ThreadPoolExecutor(count, "unsmear-worker", torch.set_grad_enabled, (False,))
            if count > 1
            else None
        )

    def submit(
        self, work: Callable[Given, Item], *args: Given.args, **kwargs: Given.kwargs
    ) -> Future[Item]:
        """Submit a task. It must not wait for one that is submitted later."""
        if self._pool is not None:
            return self._pool.submit(work, *args, **kwargs)
        done: Future[Item] = Future()
        with torch.no_grad():
            done.set_result(work(*args, **kwargs))
        return done

    def map(self, work: Callable[[One], Item], over: Iterable[One]) -> Iterator[Item]:
        """Results in order. At most `count` are in flight or waiting for the consumer."""
        waiting: deque[Future[Item]] = deque()
        ahead = 0 if self._pool is None else self.count
        for given in over:
            waiting.append(self.submit(work, given))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


ALONE = Workers()
"""No threads beside the caller's."""
