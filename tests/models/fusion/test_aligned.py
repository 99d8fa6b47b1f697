"""Alignment by flow, deformable convolution and adaptive filters against naive computations."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.models.fusion.conftest import close
from unsmear.models.fusion.aligned import (
    DeformableFusion,
    FilterAdaptiveFusion,
    FlowFusion,
    adaptive_filter,
    deformable_convolution,
)


@pytest.mark.parametrize("size", [(6, 7), (1, 5)])
def test_deformable_convolution_without_offsets_is_a_convolution(size):
    x, weight, bias = torch.rand(2, 4, *size), torch.randn(3, 4, 3, 3), torch.randn(3)
    offsets, modulation = torch.zeros(2, 2, 9, 2, *size), torch.ones(2, 2, 9, *size)
    close(
        deformable_convolution(x, offsets, modulation, weight, bias),
        functional.conv2d(x, weight, bias, padding=1),
    )


def test_deformable_convolution_against_loops():
    x, weight, bias = torch.rand(1, 4, 5, 6), torch.randn(3, 4, 3, 3), torch.randn(3)
    offsets = torch.randint(-2, 3, (1, 2, 9, 2, 5, 6)).float()  # whole pixels: no interpolation
    modulation = torch.rand(1, 2, 9, 5, 6)
    expected = bias[:, None, None].repeat(1, 5, 6)
    for row in range(5):
        for column in range(6):
            for channel in range(4):
                for tap in range(9):
                    group = channel // 2
                    right, down = offsets[0, group, tap, :, row, column].int().tolist()
                    y, z = row + tap // 3 - 1 + down, column + tap % 3 - 1 + right
                    if 0 <= y < 5 and 0 <= z < 6:
                        value = x[0, channel, y, z] * modulation[0, group, tap, row, column]
                        expected[:, row, column] += weight[:, channel, tap // 3, tap % 3] * value
    close(deformable_convolution(x, offsets, modulation, weight, bias)[0], expected)


@pytest.mark.parametrize("build", [FlowFusion, DeformableFusion])
def test_alignment_is_as_precise_in_half_precision(build):
    """In bfloat16, positions from 32 to 64 pixels have steps of a quarter of a pixel."""
    features = (torch.arange(64) % 2).float().expand(1, 3, 4, 5, 64)  # stripes of one pixel
    fusion = build(4, frames=3, hidden=5)
    with torch.no_grad():
        (fusion.flow if build is FlowFusion else fusion.moves).bias.fill_(0.3)  # pixels
        fusion.merge.weight.fill_(0.25)
        expected = fusion.fuse(features, 1)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = fusion.fuse(features.bfloat16(), 1)
        half = fusion.bfloat16().fuse(features.bfloat16(), 1)
    for found in (mixed, half):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), expected, rtol=0.01, atol=0.01)


def test_delta_filters_change_nothing_and_others_shift():
    x = torch.rand(2, 3, 5, 6)
    filters = torch.zeros(2, 3, 9, 5, 6)
    filters[:, :, 4] = 1
    assert torch.equal(adaptive_filter(x, filters), x)
    left = torch.zeros_like(filters)
    left[:, :, 3] = 1  # the pixel to the left, the first column repeated
    assert torch.equal(adaptive_filter(x, left), x[..., [0, 0, 1, 2, 3, 4]])


def test_equal_filters_are_a_convolution_of_each_channel():
    x, kernel = torch.rand(2, 3, 5, 6), torch.randn(3, 1, 3, 3)
    filters = kernel.reshape(1, 3, 9, 1, 1).expand(2, 3, 9, 5, 6)
    padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    close(adaptive_filter(x, filters), functional.conv2d(padded, kernel, groups=3))


@pytest.mark.parametrize("kind", [FlowFusion, FilterAdaptiveFusion])
def test_alignment_starts_as_none_and_frames_keep_their_order(kind):
    fusion = kind(4, 3, 5)
    features = torch.rand(2, 3, 4, 6, 7)
    mixed = functional.conv2d(features.flatten(1, 2), fusion.merge.weight, fusion.merge.bias)
    close(fusion.fuse(features, 1), features[:, 1] + mixed)


def test_deformable_fusion_starts_as_a_convolution_of_each_neighbour():
    fusion = DeformableFusion(4, 3, 5)
    features = torch.rand(2, 3, 4, 6, 7)
    aligned = torch.cat(
        (fusion.align(features[:, 0]), features[:, 1], fusion.align(features[:, 2])), dim=1
    )
    close(fusion.fuse(features, 1), features[:, 1] + fusion.merge(aligned))


def test_flow_fusion_can_undo_a_shift():
    """With the right flow, the neighbours equal the current frame."""
    fusion = FlowFusion(4, 3, 5)
    torch.nn.init.constant_(fusion.flow.bias, 2.0)
    with torch.no_grad():
        fusion.merge.weight.zero_()[:, :4, 0, 0] = torch.eye(4)  # only the previous frame
        fusion.merge.bias.zero_()
    here = torch.rand(1, 4, 12, 12)
    before = here.roll((2, 2), dims=(-2, -1))
    fused = fusion.fuse(torch.stack((before, here, here), dim=1), 1)
    close((fused - here)[..., :10, :10], here[..., :10, :10])
