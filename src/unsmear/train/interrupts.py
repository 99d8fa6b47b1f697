"""Ctrl-C between steps, never in the middle of one: what it leaves must be a whole state."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """Have Ctrl-C (SIGINT) do nothing but be noted, where it is listened to.

    Yields:
        What tells whether it came.
    """
    usual = signal.getsignal(signal.SIGINT)
    came = False

    def remember(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True

    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield lambda: came
        return
    signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, usual)


@contextmanager
def held_back() -> Iterator[None]:
    """Have Ctrl-C (SIGINT) wait until the end of the block.

    Only the main thread is ever interrupted: in others this does nothing.
    """
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or usual is None:
        yield
        return
    came = False

    def remember(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if came and callable(usual):  # at once, where a signal would come when it likes
            usual(signal.SIGINT, None)
        elif came:
            signal.raise_signal(signal.SIGINT)
