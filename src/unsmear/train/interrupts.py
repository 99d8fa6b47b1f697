"""Ctrl-C takes effect between training steps, never within one, so that the state stays whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Only record Ctrl-C (SIGINT) instead of raising KeyboardInterrupt. Does nothing outside the
    main thread, or if SIGINT has no Python handler.

    Yields:
        A function that says whether Ctrl-C was pressed.
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
def interrupts_deferred() -> Iterator[None]:
    """Delay Ctrl-C (SIGINT) until the end of the block. Does nothing where `interrupts_noted` does
    nothing.
    """
    usual = signal.getsignal(signal.SIGINT)
    came: Callable[[], bool] | None = None
    try:
        with interrupts_noted() as came:
            yield
    finally:
        if came is not None and came() and callable(usual):  # at once, not raised as a signal
            usual(signal.SIGINT, None)
