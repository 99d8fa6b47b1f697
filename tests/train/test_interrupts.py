"""Ctrl-C and SIGTERM wait for the end of a block, whatever their handlers."""

from __future__ import annotations

import signal
import threading

import pytest

from unsmear.train.interrupts import (
    interrupts_deferred,
    interrupts_noted,
    termination_as_interrupt,
)


def press(number=signal.SIGINT):
    """What Ctrl-C does in the end; a real signal would also reach the test runner."""
    handler = signal.getsignal(number)
    if callable(handler):
        handler(number, None)


@pytest.fixture
def listen():
    """Install a signal handler for the test."""
    usual = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, usual)


def test_it_comes_when_all_is_done(listen):
    listen(signal.default_int_handler)
    done = []
    with pytest.raises(KeyboardInterrupt):
        with interrupts_deferred():
            press()
            done.append("the rest")
        done.append("never")
    assert done == ["the rest"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_others_hear_it_once_and_late(listen):
    heard = []
    listen(lambda number, _: heard.append(number))
    with interrupts_deferred():
        press()
        press()
        assert heard == []
    assert heard == [signal.SIGINT]


def test_where_it_is_ignored_it_stays_so(listen):
    listen(signal.SIG_IGN)
    with interrupts_deferred():
        press()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_an_error_inside_puts_the_handler_back(listen):
    listen(signal.default_int_handler)
    with pytest.raises(ValueError, match="inside"), interrupts_deferred():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_are_never_interrupted(listen):
    listen(signal.default_int_handler)
    seen = []

    def work():
        with interrupts_deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_it_can_be_noted_and_nothing_else(listen):
    listen(signal.default_int_handler)
    with interrupts_noted() as came:
        assert not came()
        with interrupts_deferred():  # a step
            press()
        press()
        assert came()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    listen(signal.SIG_IGN)
    with interrupts_noted() as came:
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        assert not came()


def test_the_end_of_a_job_is_an_interrupt_also_where_ctrl_c_is_ignored(listen):
    listen(signal.SIG_IGN)  # as in a job that a shell started in the background
    usual, done = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(KeyboardInterrupt), termination_as_interrupt():
        with interrupts_deferred():
            press(signal.SIGTERM)
            done.append("the rest")
        done.append("never")
    assert done == ["the rest"]
    with termination_as_interrupt(), interrupts_noted() as came:
        press(signal.SIGTERM)
        assert came()
    assert signal.getsignal(signal.SIGTERM) == usual
