"""The three operations against loops written from the equations, gradients included."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unsmear.models.attention import (
    Descriptor,
    FactorizedAttention,
    distribute,
    spatial_squeeze,
    temporal_squeeze,
    temporal_sum,
)

small = st.integers(1, 3)


def naive_softmax(values: list[Tensor]) -> list[Tensor]:
    top = max(float(value.detach()) for value in values)
    powers = [torch.exp(value - top) for value in values]
    total = sum(powers)
    return [power / total for power in powers]


def naive_spatial_squeeze(x: Tensor, logits: Tensor) -> Tensor:
    """Eq. 1-2, one number at a time."""
    batch, frames, channels, height, width = x.shape
    maps = logits.shape[2]
    out = [
        sum(
            weight * x[b, t, c, i // width, i % width]
            for i, weight in enumerate(
                naive_softmax(
                    [logits[b, t, m, i // width, i % width] for i in range(height * width)]
                )
            )
        )
        for b in range(batch)
        for t in range(frames)
        for m in range(maps)
        for c in range(channels)
    ]
    return torch.stack(out).reshape(batch, frames, maps, channels)


def naive_temporal_squeeze(descriptors: Tensor, logits: Tensor) -> Tensor:
    """Eq. 3-4, one number at a time."""
    batch, frames, maps, channels = descriptors.shape
    mixtures = logits.shape[1]
    out = [
        sum(
            weight * descriptors[b, t, m, c]
            for t, weight in enumerate(naive_softmax([logits[b, n, t] for t in range(frames)]))
        )
        for b in range(batch)
        for m in range(maps)
        for n in range(mixtures)
        for c in range(channels)
    ]
    return torch.stack(out).reshape(batch, maps, mixtures, channels)


def naive_distribute(context: Tensor, logits: Tensor) -> Tensor:
    """Eq. 5-6, one number at a time."""
    batch, elements, channels = context.shape
    height, width = logits.shape[-2:]
    out = [
        sum(
            weight * context[b, k, c]
            for k, weight in enumerate(naive_softmax([logits[b, k, i, j] for k in range(elements)]))
        )
        for b in range(batch)
        for c in range(channels)
        for i in range(height)
        for j in range(width)
    ]
    return torch.stack(out).reshape(batch, channels, height, width)


def assert_same_with_gradients(function, naive, first: Tensor, second: Tensor) -> None:
    """Equal values, and equal gradients of a random projection of them."""
    pairs = []
    for implementation in (function, naive):
        a, b = (value.clone().requires_grad_() for value in (first, second))
        out = implementation(a, b)
        weights = torch.randn(
            out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(7)
        )
        (out * weights).sum().backward()
        pairs.append((out.detach(), a.grad, b.grad))
    for got, expected in zip(*pairs, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def doubles(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64) * 3


@given(small, small, small, small, small, small)
def test_spatial_squeeze_is_equations_1_and_2(b, t, c, m, h, w):
    assert_same_with_gradients(
        spatial_squeeze, naive_spatial_squeeze, doubles(b, t, c, h, w), doubles(b, t, m, h, w)
    )


@given(small, small, small, small, small)
def test_temporal_squeeze_is_equations_3_and_4(b, t, m, n, c):
    assert_same_with_gradients(
        temporal_squeeze, naive_temporal_squeeze, doubles(b, t, m, c), doubles(b, n, t)
    )


@given(small, small, small, small, small)
def test_distribute_is_equations_5_and_6(b, k, c, h, w):
    assert_same_with_gradients(distribute, naive_distribute, doubles(b, k, c), doubles(b, k, h, w))


def test_equal_logits_give_plain_means():
    x = torch.rand(1, 2, 3, 4, 5)
    squeezed = spatial_squeeze(x, torch.zeros(1, 2, 1, 4, 5))
    torch.testing.assert_close(squeezed[:, :, 0], x.mean(dim=(-2, -1)))
    mixed = temporal_squeeze(squeezed, torch.zeros(1, 1, 2))
    torch.testing.assert_close(mixed[0, 0, 0], x.mean(dim=(0, 1, 3, 4)))


def test_a_huge_logit_picks_its_pixel_and_stays_finite():
    x = torch.rand(1, 1, 3, 4, 5)
    logits = torch.full((1, 1, 1, 4, 5), -1e4)
    logits[..., 2, 3] = 1e4
    torch.testing.assert_close(spatial_squeeze(x, logits)[0, 0, 0], x[0, 0, :, 2, 3])


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1.0, 300.0]))
def test_temporal_sums_merge_into_the_softmax_over_both(left, right, scale):
    g = torch.randn(2, left + right, 3, 4, dtype=torch.float64)
    logits = scale * torch.randn(2, 2, left + right, dtype=torch.float64)
    one = temporal_sum(g[:, :left], logits[..., :left])
    other = temporal_sum(g[:, left:], logits[..., left:])
    expected = temporal_squeeze(g, logits)
    for merged in (one.merge(other), other.merge(one)):
        torch.testing.assert_close(merged.mean(), expected)


def naive_attention(module: FactorizedAttention, x: Tensor, reference: int) -> Tensor:
    """Eq. 1-6 from the module's convolutions, in the notation of the paper."""
    _, frames, _, height, width = x.shape
    area = height * width
    f_s = torch.stack([module.f_s(x[:, t]) for t in range(frames)], dim=1)
    a_s = f_s.flatten(3).softmax(-1)  # (B, T, M, HW)
    g_s = torch.einsum("btmi,btci->btmc", a_s, x.flatten(3))
    pooled = x.flatten(3).sum(-1) / area  # (B, T, C)
    a_t = module.f_t(pooled.transpose(1, 2)).softmax(-1)  # (B, N, T)
    g_st = torch.einsum("btmc,bnt->bmnc", g_s, a_t).flatten(1, 2)  # (B, MN, C)
    a_p = module.f_p(x[:, reference]).flatten(2).softmax(1)  # (B, MN, HW)
    return torch.einsum("bkc,bki->bci", g_st, a_p).unflatten(-1, (height, width))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_module_is_equations_1_to_6(frames):
    module = FactorizedAttention(6, spatial_maps=3, temporal_maps=2).double()
    x = torch.randn(2, frames, 6, 5, 7, dtype=torch.float64)
    for reference in range(frames):
        got = module.fuse(x[:, reference], module.describe(x))
        torch.testing.assert_close(got, naive_attention(module, x, reference))


def test_describing_frames_alone_or_together_is_the_same():
    module = FactorizedAttention(6, spatial_maps=3, temporal_maps=2)
    x = torch.randn(1, 4, 6, 5, 7)
    together = module.describe(x)
    for index in range(4):
        alone = module.describe(x[:, index : index + 1])
        torch.testing.assert_close(alone.squeezed[:, 0], together.squeezed[:, index])
        torch.testing.assert_close(alone.pooled[:, 0], together.pooled[:, index])


def test_every_parameter_gets_a_gradient():
    module = FactorizedAttention(6, spatial_maps=3, temporal_maps=2)
    x = torch.randn(1, 3, 6, 5, 7)
    module.fuse(x[:, 1], module.describe(x)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0, name


def test_calling_the_module_describes_the_window_and_fuses_it():
    module = FactorizedAttention(4, spatial_maps=2, temporal_maps=3)
    x = torch.randn(2, 5, 4, 6, 7)
    assert torch.equal(module(x, x[:, 2]), module.fuse(x[:, 2], module.describe(x)))


def test_what_is_summed_stays_float32_under_autocast():
    # With 16384 pixels, a softmax or sums in bfloat16 would lose the last ones.
    module = FactorizedAttention(4, spatial_maps=2, temporal_maps=2)
    x = torch.randn(1, 2, 4, 128, 128)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        descriptor = module.describe(x)
        fused = module.fuse(x[:, 0], descriptor)
        temporal, mixed = module.temporal_logits(descriptor.pooled), module.mix(descriptor)
        summed = module.sum(descriptor).mean()
    exactly, double = copy.deepcopy(module).double(), Descriptor(*(y.double() for y in descriptor))
    for got, wanted in (
        (temporal, exactly.temporal_logits(double.pooled)),
        (mixed, exactly.mix(double)),
        (summed.flatten(1, 2), exactly.mix(double)),
    ):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)
    assert descriptor.squeezed.dtype == descriptor.pooled.dtype == torch.float32
    with torch.no_grad():
        logits = torch.autocast("cpu", dtype=torch.bfloat16)
        with logits:
            half_logits = module.f_s(x.flatten(0, 1)).unflatten(0, (1, 2))
    assert half_logits.dtype == torch.bfloat16
    expected = spatial_squeeze(x.double(), half_logits.double())
    torch.testing.assert_close(descriptor.squeezed.double(), expected, rtol=1e-4, atol=1e-5)
    exact = module.fuse(x[:, 0], module.describe(x))
    assert math.isclose(
        float(fused.detach().float().mean()), float(exact.detach().mean()), abs_tol=2e-2
    )
