"""Fusion by attention against naive computations: non-local, factorised and gated."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models.fusion.conftest import awake, close
from unsmear.models.attention import FactorizedAttention
from unsmear.models.fusion.attentive import (
    FactorizedFusion,
    GatedFusion,
    NonLocalFusion,
    join_windows,
    split_windows,
)


@given(st.integers(1, 11), st.integers(1, 11), st.integers(1, 5))
def test_windows_split_and_join(height, width, side):
    x = torch.rand(2, 3, height, width)
    squares = split_windows(x, side)
    assert squares.shape == (2, -(-height // side) * -(-width // side), side * side, 3)
    assert torch.equal(join_windows(squares, side, height, width), x)


@pytest.mark.parametrize("size", [(4, 8), (5, 6)])  # without and with padding
def test_nonlocal_against_loops(size):
    side, (height, width) = 4, size
    fusion = awake(NonLocalFusion(3, hidden=2, side=side))
    features = torch.rand(1, 3, 3, height, width)
    query = fusion.query(features[:, 1])[0]
    key, value = fusion.key(features[0]), fusion.value(features[0])
    mixed = torch.zeros(2, height, width)
    for y in range(height):
        for x in range(width):
            rows = range(y // side * side, min((y // side + 1) * side, height))
            columns = range(x // side * side, min((x // side + 1) * side, width))
            seen = [(t, r, c) for t in range(3) for r in rows for c in columns]
            logits = torch.stack([query[:, y, x] @ key[t, :, r, c] for t, r, c in seen])
            weights = torch.softmax(logits / math.sqrt(2), dim=0)
            mixed[:, y, x] = sum(
                w * value[t, :, r, c] for w, (t, r, c) in zip(weights, seen, strict=True)
            )
    close(fusion.fuse(features, 1), features[:, 1] + fusion.out(mixed[None]))


def test_factorised_is_the_papers_attention():
    fusion = awake(FactorizedFusion(4, 3, 2))
    assert isinstance(fusion.attention, FactorizedAttention)
    features = torch.rand(2, 5, 4, 6, 7)
    y = fusion.attention.fuse(features[:, 1], fusion.attention.describe(features))
    close(fusion.fuse(features, 1), features[:, 1] + fusion.merge(y))


def gated_and_factorised():
    gated, plain = awake(GatedFusion(4, 5, 3, 2)), FactorizedFusion(4, 3, 2)
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if "gate" not in k})
    return gated, plain


def test_an_even_gate_changes_nothing():
    gated, plain = gated_and_factorised()
    torch.nn.init.zeros_(gated.gate[2].weight)
    features = torch.rand(2, 5, 4, 6, 7)
    close(gated.fuse(features, 2), plain.fuse(features, 2))


def test_gate_multiplies_the_squeeze_by_one_minus_the_mask():
    gated, _ = gated_and_factorised()
    features = torch.rand(1, 3, 4, 5, 6)
    attention, sharp = gated.attention, 1 - gated.blur_mask(features[0])
    squeezed = torch.zeros(3, 3, 4)
    for t in range(3):
        logits = attention.f_s(features[:, t])[0]
        for m in range(3):
            weights = torch.softmax(logits[m].flatten(), 0) * sharp[t].flatten()
            squeezed[t, m] = features[0, t].flatten(1) @ (weights / weights.sum())
    temporal = torch.softmax(attention.f_t(features.mean((-2, -1)).transpose(1, 2))[0], dim=1)
    temporal = temporal * sharp.mean((-3, -2, -1))
    temporal = temporal / temporal.sum(dim=1, keepdim=True)
    context = torch.einsum("tmc,nt->mnc", squeezed, temporal).flatten(0, 1)
    taken = torch.softmax(attention.f_p(features[:, 1]), dim=1).flatten(2)
    y = (context.T @ taken[0]).unflatten(-1, (5, 6))[None]
    close(gated.fuse(features, 1), features[:, 1] + gated.merge(y))


def test_a_frame_that_is_all_blur_gives_nothing():
    gated, _ = gated_and_factorised()
    features = torch.rand(1, 3, 4, 6, 7)

    class Gate(torch.nn.Module):
        def forward(self, x):  # bright frames count as blurred
            bright = x.mean(dim=(-3, -2, -1), keepdim=True) > 10
            return torch.where(bright, 300.0, -300.0) + 0 * x[:, :1]

    gated.gate = Gate()
    one, other = features.clone(), features.clone()
    one[:, 0] += 20
    other[:, 0] = other[:, 0] * 3 + 30
    close(gated.fuse(one, 1), gated.fuse(other, 1))
