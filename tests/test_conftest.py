"""What all tests share, where other tests would hardly notice that it is gone."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st


def test_each_example_begins_with_the_same_random_numbers():
    drawn = []
    before = torch.get_rng_state()

    @given(st.integers())
    def example(number):
        drawn.append(float(torch.rand(())))

    example()
    assert len(drawn) > 1
    assert len(set(drawn)) == 1
    assert torch.equal(torch.get_rng_state(), before)
