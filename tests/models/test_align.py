"""Aligned neighbours: warping against a naive loop, missing neighbours, clips, and the module."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from tests.models.conftest import naive_sample
from unsmear.models.align import (
    TripletFusion,
    aligned_triplet,
    clip_triplets,
    on_pixels,
    smoothed,
    warp,
)
from unsmear.models.flow import clip_motion


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_warping_by_one_motion_everywhere_agrees_with_a_naive_loop(x, y):
    frame = torch.rand(1, 1, 16, 24)
    found = warp(frame, torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, 2, 3))
    for row in range(0, 16, 5):
        for column in range(0, 24, 5):
            wanted = naive_sample(frame[0, 0], column + x, row + y)
            assert float(found[0, 0, row, column]) == pytest.approx(wanted, abs=1e-4)


def test_motion_belongs_to_the_centres_of_cells():
    """In between it is linear: a zoom, whose motion grows with the place, is a zoom of pixels."""
    places = torch.arange(48) / 100
    cells = 8 * torch.arange(6) + 3.5  # the centre of the first cell is between its pixels 3 and 4
    motion = torch.stack((0.25 * cells.expand(3, 6), torch.zeros(3, 6)))[None]
    found = warp(places.expand(1, 1, 24, 48), motion)
    torch.testing.assert_close(found[0, 0, :, 4:36], 1.25 * places[4:36].expand(24, 32))


def test_a_picture_that_moved_comes_back():
    """With smooth images, for which bilinear sampling is accurate."""
    picture = functional.interpolate(torch.rand(1, 3, 9, 12), scale_factor=16, mode="bicubic")
    before, current, after = (picture[..., 8:-8, at : at + 160] for at in (24, 16, 8))
    motion = torch.tensor([-8.0, 0, 8, 0]).view(1, 4, 1, 1).expand(1, 4, 16, 20)
    triplet = aligned_triplet(before, current, after, motion)
    inner = (..., slice(8, -8))  # beyond the edge, edge pixels are repeated
    for part in triplet.split(3, dim=1):
        torch.testing.assert_close(part[inner], current[inner], rtol=0, atol=1e-5)


def test_where_a_neighbour_is_missing_stands_the_frame_itself():
    current, other = torch.rand(2, 1, 3, 16, 16)
    motion = 5 * torch.rand(1, 4, 2, 2)
    alone = aligned_triplet(None, current, None, motion)
    assert torch.equal(alone, torch.cat((current,) * 3, dim=1))
    last = aligned_triplet(other, current, None, motion)
    assert torch.equal(last[:, 3:], alone[:, 3:])
    assert not torch.equal(last[:, :3], alone[:, :3])


@given(st.integers(1, 5), st.integers(1, 2))
def test_triplets_of_a_clip_are_those_of_its_frames(frames, batch):
    clip = torch.rand(batch, frames, 3, 32, 40)
    motion = clip_motion(clip)
    found = clip_triplets(clip, motion).unflatten(0, (batch, frames))
    by_frame = motion.unflatten(0, (batch, frames))
    for t in range(frames):
        before = clip[:, t - 1] if t else None
        after = clip[:, t + 1] if t + 1 < frames else None
        wanted = aligned_triplet(before, clip[:, t], after, by_frame[:, t])
        torch.testing.assert_close(found[:, t], wanted, rtol=0, atol=1e-6)


def test_smoothing_keeps_what_is_even_and_sums_a_bell_elsewhere():
    even = torch.full((1, 4, 3, 5), 7.0)
    torch.testing.assert_close(smoothed(even), even)
    spike = torch.zeros(1, 2, 9, 9)
    spike[0, 1, 4, 4] = 256
    bell = torch.tensor([1.0, 4, 6, 4, 1])
    found = smoothed(spike)
    torch.testing.assert_close(found[0, 1, 2:7, 2:7], bell[:, None] * bell)
    assert not found[0, 0].any()


@pytest.mark.parametrize("stride", [2, 4])
def test_fusion_starts_as_the_identity_and_then_looks_at_all_three(stride):
    module = TripletFusion(6, 8, stride)
    features, triplet = torch.rand(1, 6, 8, 10), torch.rand(1, 9, 8 * stride, 10 * stride)
    assert torch.equal(module(features, triplet), features)
    torch.nn.init.normal_(module.leave.weight)
    seen = module(features, triplet)
    for part in range(3):
        other = triplet.clone()
        other[:, 3 * part : 3 * part + 3] = 0.5
        assert not torch.allclose(module(features, other), seen)


@given(
    stride=st.integers(1, 4),
    channels=st.integers(1, 5),
    outputs=st.integers(1, 5),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
)
def test_convolving_pixels_is_convolving_what_they_become(stride, channels, outputs, rows, columns):
    weight = torch.randn(outputs, channels * stride**2, 3, 3)
    x = torch.randn(2, channels, rows * stride, columns * stride)
    found = functional.conv2d(x, on_pixels(weight, stride), stride=stride, padding=stride)
    wanted = functional.conv2d(functional.pixel_unshuffle(x, stride), weight, padding=1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_fusion_enters_by_one_convolution_of_features_and_pixels():
    module = TripletFusion(6, 8, 2)
    torch.nn.init.normal_(module.leave.weight)
    features, triplet = torch.rand(1, 6, 8, 10), torch.rand(1, 9, 16, 20)
    joined = torch.cat((features, functional.pixel_unshuffle(triplet, 2)), dim=1)
    wanted = module.leave(module.blocks(module.enter(joined))) + features
    torch.testing.assert_close(module(features, triplet), wanted, rtol=0, atol=1e-5)


def test_neighbours_are_moved_in_full_precision_where_the_rest_is_half():
    """In bfloat16, a displacement of 40 pixels is precise to a quarter of a pixel only."""
    motion = 40 * torch.rand(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    exact = smoothed(motion)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(smoothed(motion), exact)
