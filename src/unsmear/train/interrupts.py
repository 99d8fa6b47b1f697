"""Ctrl-C and SIGTERM take effect between training steps, never within one, so that the state stays
whole.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, FrameType | None], object]


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """SIGTERM, which schedulers of clusters send before they kill a job, raises KeyboardInterrupt
    as Ctrl-C does. Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


@contextmanager
def interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Only record Ctrl-C (SIGINT) and SIGTERM instead of raising KeyboardInterrupt. Does nothing
    outside the main thread, nor for a signal without a Python handler.

    Yields:
        A function that says whether one of them came.
    """
    with _noted() as came:
        yield lambda: bool(came)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Delay Ctrl-C (SIGINT) and SIGTERM until the end of the block. Does nothing where
    `interrupts_noted` does nothing.
    """
    came: dict[int, _Handler] = {}
    try:
        with _noted() as came:
            yield
    finally:
        for number, usual in came.items():  # at once, not raised as a signal
            usual(number, None)


@contextmanager
def _noted() -> Iterator[dict[int, _Handler]]:
    """Yields the signals that came so far, with their usual handlers."""
    came: dict[int, _Handler] = {}
    found = {number: signal.getsignal(number) for number in _SIGNALS}
    usual = {number: handler for number, handler in found.items() if callable(handler)}

    def remember(number: int, _frame: FrameType | None) -> None:
        came[number] = usual[signal.Signals(number)]

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    for number in usual:
        signal.signal(number, remember)
    try:
        yield came
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
