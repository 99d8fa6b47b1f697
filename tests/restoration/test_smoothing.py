"""Smoothing equals a plain convolution."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from unsmear.restoration.smoothing import tent_filtered


@given(
    height=st.integers(1, 24), width=st.integers(1, 24), radius=st.integers(1, 9),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_a_tent_is_two_boxes(height, width, radius, seed):
    x = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(seed))
    side = 2 * radius + 1
    box = torch.full((1, 1, side, side), 1 / side**2)
    wanted = x
    for _ in range(2):
        wanted = functional.conv2d(functional.pad(wanted, (radius,) * 4, mode="replicate"), box)
    torch.testing.assert_close(tent_filtered(x, radius), wanted, rtol=0, atol=1e-5)
