"""Let one stage of the work go on while the next one works with what it gave."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


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
