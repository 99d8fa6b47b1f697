"""Shifts of channel groups against loops over pixels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from tests.models.fusion.conftest import awake, close
from unsmear.models.fusion.shifted import SHIFTS, ShiftFusion, shift_groups


def naively_shifted(x, shifts):
    """One frame (C, H, W), pixel by pixel."""
    channels, height, width = x.shape
    out = torch.zeros_like(x)
    for channel in range(channels):
        down, right = shifts[channel % len(shifts)]
        for row in range(height):
            for column in range(width):
                if 0 <= row + down < height and 0 <= column + right < width:
                    out[channel, row, column] = x[channel, row + down, column + right]
    return out


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_shifts_against_loops(shifts, channels, height, width):
    """Including fewer channels than groups, and frames smaller than a shift."""
    x = torch.rand(2, 2, channels, height, width)
    moved = shift_groups(x, shifts)
    for batch in range(2):
        for frame in range(2):
            assert torch.equal(moved[batch, frame], naively_shifted(x[batch, frame], shifts))


def test_every_direction_is_looked_in_and_no_shift_twice():
    assert len(set(SHIFTS)) == len(SHIFTS) == 17
    assert SHIFTS[0] == (0, 0)
    assert {(-down, -right) for down, right in SHIFTS} == set(SHIFTS)


@pytest.mark.parametrize("current", [0, 1, 2])
def test_fusion_is_one_stack_of_shifted_neighbours_around_the_current_frame(current):
    fusion = awake(ShiftFusion(20, frames=3))
    features = torch.rand(2, 3, 20, 5, 6)
    stack = [
        features[:, t]
        if t == current
        else torch.stack([naively_shifted(x, SHIFTS) for x in features[:, t]])
        for t in range(3)
    ]
    merged = functional.conv2d(torch.cat(stack, 1), fusion.merge.weight, fusion.merge.bias)
    merged = features[:, current] + merged
    inside = torch.relu(fusion.mix.first(merged))
    close(fusion.fuse(features, current), merged + fusion.mix.second(inside))


def test_a_window_of_one_frame_is_that_frame_unshifted():
    fusion = awake(ShiftFusion(4, frames=1))
    features = torch.rand(2, 1, 4, 5, 6)
    here = features[:, 0]
    close(fusion.fuse(features, 0), fusion.mix(here + fusion.merge(here)))


def test_a_neighbour_that_moved_is_found_by_the_group_that_looks_there():
    """The previous frame lies one pixel lower: exactly one group compensates that."""
    here = torch.rand(1, 1, 8, 8).expand(1, 17, 8, 8)
    before = here.roll(1, dims=-2)
    group = SHIFTS.index((1, 0))
    moved = shift_groups(before)[:, group]
    assert torch.equal(moved[:, :-1], here[:, group, :-1])
