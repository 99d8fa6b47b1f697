"""Items made in another thread: the same ones, one ahead, errors and ends where they belong."""

from __future__ import annotations

import threading

import pytest

from unsmear.restoration.overlap import ahead


def test_the_same_items_in_order():
    assert list(ahead(range(50))) == list(range(50))
    assert list(ahead([])) == []


def test_one_is_made_ahead_and_no_more():
    made = []
    reached = threading.Semaphore(0)

    def source():
        for number in range(5):
            made.append(number)
            reached.release()
            yield number

    items = ahead(source())
    assert next(items) == 0
    for _ in range(2):
        assert reached.acquire(timeout=5)
    assert not reached.acquire(timeout=0.05)
    assert made == [0, 1]
    items.close()


def test_items_are_made_while_others_are_worked_with():
    """Each item waits for the work on the one before: in one thread this would stand still."""
    worked = threading.Event()

    def source():
        yield 0
        assert worked.wait(timeout=5)
        yield 1

    found = []
    for item in ahead(source()):
        found.append(item)
        worked.set()
    assert found == [0, 1]


def test_an_error_comes_where_the_item_would_have_come():
    def source():
        yield 1
        raise ValueError("broken")

    items = ahead(source())
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_closing_closes_the_source_and_ends_the_thread():
    closed = []

    def source():
        try:
            while True:
                yield threading.current_thread().name
        finally:
            closed.append(threading.current_thread().name)

    items = ahead(source())
    name = next(items)
    items.close()
    assert closed == [name]
    assert name not in [thread.name for thread in threading.enumerate()]
