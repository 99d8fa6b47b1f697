"""Let one stage of the work go on while the next one works with what it gave, and several pieces
of one stage side by side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import torch

Item = TypeVar("Item")
Given = ParamSpec("Given")
One = TypeVar("One")


def ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The same items, each made in a thread of its own while the one before is worked with.

    One is made ahead and no more, so that memory stays bounded. What goes wrong in the making is
    raised here, where the item would have come. Close it (`contextlib.closing`) if it may not
    run to its end: that waits for the item in the making.

    Args:
        items: gone through in that thread alone; closed there too, if it is a generator.
    """
    source, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="unsmear-ahead") as thread:
        coming = thread.submit(next, source, end)
        try:
            while (item := coming.result()) is not end:
                coming = thread.submit(next, source, end)
                yield item  # type: ignore[misc]
                del item  # or it would stay until the next one is there
        finally:
            if isinstance(source, Generator):
                thread.submit(source.close)


class Workers:
    """Do pieces of work side by side, in the order in which they are handed in, without gradients.
    Use as a context manager: at its end what has not begun is dropped, the rest waited for.

    Args:
        count: of threads; 1: none, each piece is done at once, where it is handed in.

    Attributes:
        count: as given.
    """

    def __init__(self, count: int = 1) -> None:
        self.count = count
        # torch's switch for gradients is each thread's own.
        self._pool = (
            ThreadPoolExecutor(count, "unsmear-worker", torch.set_grad_enabled, (False,))
            if count > 1
            else None
        )

    def submit(
        self, work: Callable[Given, Item], *args: Given.args, **kwargs: Given.kwargs
    ) -> Future[Item]:
        """Hand in a piece of work; a piece must not wait for a later one."""
        if self._pool is not None:
            return self._pool.submit(work, *args, **kwargs)
        done: Future[Item] = Future()
        with torch.no_grad():
            done.set_result(work(*args, **kwargs))
        return done

    def map(self, work: Callable[[One], Item], over: Iterable[One]) -> Iterator[Item]:
        """Results in order; no more than there are workers wait to be taken."""
        waiting: deque[Future[Item]] = deque()
        for given in over:
            waiting.append(self.submit(work, given))
            if len(waiting) > self.count - (self._pool is None):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


ALONE = Workers()
"""Nobody beside the caller."""
