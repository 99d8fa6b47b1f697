from __future__ import annotations

import threading

import pytest
import torch

from unsmear.data.clips import Clips
from unsmear.data.trails import Trails
from unsmear.errors import InputError
from unsmear.train.prefetch import batch_iterator

CPU = torch.device("cpu")


class Numbers:
    """Batches that hold their step; notes which threads drew them."""

    def __init__(self, fails_at=None):
        self.steps, self.threads, self.fails_at = [], set(), fails_at
        self.drew = threading.Semaphore(0)

    def draw(self, step, shards=None):
        if step == self.fails_at:
            raise InputError(f"step {step} is damaged")
        self.steps.append((step, tuple(shards)))
        self.threads.add(threading.current_thread())
        self.drew.release()
        sides = (torch.full((1,), value) for value in (step, -step))
        return Clips(*sides, Trails(torch.full((1,), 2 * step), torch.ones(1)))


@pytest.mark.parametrize("ahead", [False, True])
def test_batches_come_in_order_each_once(ahead):
    batches = Numbers()
    with batch_iterator(batches, range(3, 8), [1], CPU, ahead=ahead) as draws:
        found = [tuple(int(tensor) for tensor in clips.tensors) for clips in draws]
    assert found == [(step, -step, 2 * step, 1) for step in range(3, 8)]
    assert batches.steps == [(step, (1,)) for step in range(3, 8)]
    assert (threading.current_thread() in batches.threads) == (not ahead)


def test_the_next_is_drawn_while_one_is_learned_from_and_no_more_than_two_wait():
    batches = Numbers()
    with batch_iterator(batches, range(100), [0], CPU, ahead=True) as draws:
        next(draws)
        for _ in range(3):  # one taken, one queued, one ready to be queued
            assert batches.drew.acquire(timeout=10)
        assert not batches.drew.acquire(timeout=0.5)
    assert not any(thread.is_alive() for thread in batches.threads)


def test_without_drawing_ahead_nothing_is_drawn_before_it_is_wanted():
    batches = Numbers()
    with batch_iterator(batches, range(9), [0], CPU, ahead=False) as draws:
        next(draws)
    assert len(batches.steps) == 1


def test_what_goes_wrong_in_the_thread_is_raised_where_the_batch_is_wanted():
    with batch_iterator(Numbers(fails_at=2), range(9), [0], CPU, ahead=True) as draws:
        assert int(next(draws)[0]) == 0
        assert int(next(draws)[0]) == 1
        with pytest.raises(InputError, match="step 2 is damaged"):
            next(draws)


def test_an_interrupted_run_leaves_no_thread():
    batches = Numbers()
    with (
        pytest.raises(KeyboardInterrupt),
        batch_iterator(batches, range(9), [0], CPU, ahead=True) as draws,
    ):
        next(draws)
        raise KeyboardInterrupt
    assert not any(thread.is_alive() for thread in batches.threads)
