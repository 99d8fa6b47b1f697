"""The polishing network: what it computes, what it sees, and what it leaves alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from unsmear.errors import ConfigError
from unsmear.models import polish
from unsmear.models.flow import luma_of
from unsmear.models.polish import (
    CHANNELS,
    EVIDENCE,
    STRIDE,
    PolishConfig,
    PolishNetwork,
    stack_fusion,
)
from unsmear.models.zoo import load_polish

TINY = PolishConfig(width=4, blocks=1, deep_blocks=1, kernel=3)
TOLD = dataclasses.replace(TINY, told=True)
BOTH = pytest.mark.parametrize("config", [TINY, TOLD])


def lively(config: PolishConfig = TINY, size: float = 0.2) -> PolishNetwork:
    """Random weights everywhere, so that nothing is the identity."""
    network = PolishNetwork(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=size)
    return network


@BOTH
def test_untrained_it_returns_the_fused_frame(config):
    fusion = torch.rand(2, config.channels, 16, 24)
    assert torch.equal(PolishNetwork(config)(fusion), fusion[:, :3])


def test_it_starts_small_and_released_weights_fit_it():
    for told in (False, True):
        network = PolishNetwork(PolishConfig(told=told))
        assert sum(p.numel() for p in network.parameters()) < 300_000
        assert load_polish(told=told).config == network.config


@BOTH
@pytest.mark.parametrize("rows", [polish._ROWS, 2])
def test_kernels_equal_a_plain_loop(config, rows, monkeypatch):
    """Each pixel by itself: its kernel, interpolated between squares, over its surroundings."""
    monkeypatch.setattr(polish, "_ROWS", rows)
    network, side, radius, count = lively(config), TINY.kernel, TINY.kernel // 2, config.lumas
    lumas = torch.rand(1, count, 12, 8)
    kernels = torch.randn(1, count * side**2, 3, 2)
    found = network._filtered(lumas, kernels)[0, 0]
    fine = functional.interpolate(kernels, (12, 8), mode="bilinear", align_corners=False)[0]
    wanted = torch.zeros(12, 8)
    for y in range(12):
        for x in range(8):
            for frame in range(count):
                for place in range(side**2):
                    row = min(max(y + place // side - radius, 0), 11)
                    column = min(max(x + place % side - radius, 0), 7)
                    value = lumas[0, frame, row, column]
                    if frame == 0:
                        value = value - lumas[0, 0, y, x]
                    wanted[y, x] += fine[frame * side**2 + place, y, x] * value
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@BOTH
def test_the_change_is_what_is_added_and_what_is_filtered(config):
    network = lively(config)
    fusion = torch.rand(1, config.channels, 16, 16)
    fused, blurry, restored, lent = fusion[:, :CHANNELS].split((3, 3, 3, 4), dim=1)
    evidence = fusion[:, CHANNELS:]
    luma = luma_of(fused)
    differences = [blurry - fused, restored - fused, lent - luma, evidence]
    seen = torch.cat((fused - 0.5, *(4 * x for x in differences)), dim=1)
    x = network.blocks(network.stem(functional.pixel_unshuffle(seen, 2)))
    added = functional.pixel_shuffle(network.head(x), 2)
    kernels = network.kernel_head(network.deep(network.down(x).relu()))
    lumas = torch.cat((luma, luma_of(restored) - luma, lent - luma, evidence[:, 1:]), dim=1)
    wanted = fused + added + network._filtered(lumas, kernels)
    torch.testing.assert_close(network(fusion), wanted, rtol=0, atol=1e-4)


def test_channels_lie_last_for_the_convolutions():
    network, seen = lively(), []
    network.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for count in (1, 2):
        network(torch.rand(count, CHANNELS, 16, 24))
    assert [x.shape for x in seen] == [(count, 4 * CHANNELS, 8, 12) for count in (1, 2)]
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)


def test_clips_are_polished_frame_by_frame():
    network, clips = lively(), torch.rand(2, 3, CHANNELS, 8, 16)
    found = network(clips)
    assert found.shape == (2, 3, 3, 8, 16)
    torch.testing.assert_close(found[1, 2], network(clips[1, 2:])[0], rtol=0, atol=1e-4)


@settings(max_examples=12)
@given(
    blocks=st.integers(1, 3), deep=st.integers(1, 2), kernel=st.sampled_from([1, 3, 9]),
    at=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)  # fmt: skip
def test_no_pixel_looks_beyond_the_reach(blocks, deep, kernel, at):
    config = PolishConfig(width=2, blocks=blocks, deep_blocks=deep, kernel=kernel, told=True)
    network, reach = lively(config), config.reach
    side = 2 * reach + 32
    fusion = torch.rand(1, config.channels, side, side, requires_grad=True)
    y, x = (reach + 12 + offset for offset in at)
    (slope,) = torch.autograd.grad(network(fusion)[0, :, y, x].sum(), fusion)
    rows = slope.abs().sum((0, 1, 3)).nonzero().flatten()
    columns = slope.abs().sum((0, 1, 2)).nonzero().flatten()
    for centre, seen in ((y, rows), (x, columns)):
        assert centre - reach <= int(seen[0])
        assert int(seen[-1]) <= centre + reach
    assert reach % STRIDE == 0


def test_missing_neighbours_are_the_frame_itself():
    frames = [torch.rand(1, 3, 8, 8) for _ in range(3)]
    one, two = torch.rand(2, 1, 1, 8, 8)
    own = luma_of(frames[2])
    for lent, wanted in (
        ([], [own, own, own, own]),
        ([one, two], [one, two, own, own]),
        ([one, two, two, one], [one, two, two, one]),
    ):
        stack = torch.cat((*frames, *wanted), dim=1)
        assert torch.equal(stack_fusion(*frames, lent), stack)
        told = torch.rand(1, EVIDENCE, 8, 8)
        assert torch.equal(stack_fusion(*frames, lent, told), torch.cat((stack, told), dim=1))


@pytest.mark.parametrize(
    "change", [{"width": 0}, {"blocks": 0}, {"kernel": 4}, {"deep_blocks": -1}]
)
def test_shapes_that_contradict_themselves_are_refused(change):
    with pytest.raises(ConfigError, match="at least 1, and the kernel odd"):
        PolishConfig(**change)
