"""Work in other threads: the same items, a few ahead; errors and ends in their places."""

from __future__ import annotations

import threading

import pytest
import torch

from unsmear.restoration.overlap import ALONE, Workers, prefetch


def test_the_same_items_in_order():
    assert list(prefetch(range(50))) == list(range(50))
    assert list(prefetch([])) == []


def test_one_is_made_ahead_and_no_more():
    made = []
    reached = threading.Semaphore(0)

    def source():
        for number in range(5):
            made.append(number)
            reached.release()
            yield number

    items = prefetch(source())
    assert next(items) == 0
    for _ in range(2):
        assert reached.acquire(timeout=5)
    assert not reached.acquire(timeout=0.05)
    assert made == [0, 1]
    items.close()


def test_items_are_made_while_others_are_worked_with():
    """Each item waits for the work on the previous one: a single thread would deadlock."""
    worked = threading.Event()

    def source():
        yield 0
        assert worked.wait(timeout=5)
        yield 1

    found = []
    for item in prefetch(source()):
        found.append(item)
        worked.set()
    assert found == [0, 1]


def test_an_error_comes_where_the_item_would_have_come():
    def source():
        yield 1
        raise ValueError("broken")

    items = prefetch(source())
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

    items = prefetch(source())
    name = next(items)
    items.close()
    assert closed == [name]
    assert name not in [thread.name for thread in threading.enumerate()]


def test_workers_work_side_by_side_and_results_keep_their_order():
    """Two pieces of work wait for each other: one after the other they would deadlock."""
    meeting = threading.Barrier(2, timeout=5)

    def work(number):
        meeting.wait()
        return number

    with Workers(2) as workers:
        assert list(workers.map(work, range(6))) == list(range(6))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_no_more_results_wait_than_there_are_workers(count):
    begun = []
    with Workers(count) as workers:
        for done, _ in enumerate(workers.map(begun.append, range(20)), start=1):
            assert len(begun) <= done + (count if count > 1 else 0)
    assert len(begun) == 20


@pytest.mark.parametrize("count", [1, 2])
def test_workers_need_no_gradients_and_hand_errors_on(count):
    weight = torch.ones(2, requires_grad=True)

    def broken():
        raise ValueError("broken")

    with Workers(count) as workers:
        assert not workers.submit(lambda: weight * 2).result().requires_grad
        with pytest.raises(ValueError, match="broken"):
            workers.submit(broken).result()
    assert torch.is_grad_enabled()


def test_alone_there_is_no_other_thread():
    here = threading.current_thread()
    assert ALONE.submit(threading.current_thread).result() is here


def test_what_has_not_begun_is_dropped_at_the_end():
    """Running work waits until the last queued piece has been cancelled."""
    begun, release = [], threading.Event()

    def work(number):
        begun.append(number)
        release.wait(timeout=5)

    with Workers(2) as workers:
        last = [workers.submit(work, number) for number in range(9)][-1]
        last.add_done_callback(lambda _: release.set())
    assert last.cancelled()
    assert set(begun) <= {0, 1}
    assert "unsmear-worker" not in " ".join(thread.name for thread in threading.enumerate())
