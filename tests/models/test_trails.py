"""Trails: doubled angles and back, no dependence on the sign, and sampling along them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unsmear.models.sampling import sample_at
from unsmear.models.trails import LONGEST, AlongTrail, TrailHead, doubled, halved, upsampled

components = st.floats(-60, 60)


@given(components, components)
def test_doubling_is_the_square_over_the_length_and_has_no_sign(x, y):
    vector = torch.tensor([x, y]).view(1, 2, 1, 1)
    found = complex(*doubled(vector).flatten().tolist())
    wanted = complex(x, y) ** 2 / max(abs(complex(x, y)), 1e-9)
    assert abs(found - wanted) < 0.02
    assert torch.equal(doubled(vector), doubled(-vector))


@given(components, components)
def test_halving_gives_the_vector_or_its_opposite(x, y):
    vector = torch.tensor([x, y]).view(1, 2, 1, 1)
    back = halved(doubled(vector))
    nearest = min(float((back - vector).norm()), float((back + vector).norm()))
    assert nearest < 0.02 + 0.002 * math.hypot(x, y)


@pytest.mark.parametrize("angle", [0, 45, 90, 135, 180, 225, 270, 315])
def test_halving_jumps_to_the_opposite_vector_or_not_at_all(angle):
    """For a small change of the doubled angle, the pair of v and -v changes little."""
    for step in (-1e-7, 1e-7):
        turn = [math.radians(angle), math.radians(angle) + step]
        ends = [torch.tensor([math.cos(t), math.sin(t)]).mul(40).view(1, 2, 1, 1) for t in turn]
        one, other = (halved(end) for end in ends)
        assert min(float((one - other).norm()), float((one + other).norm())) < 1e-4


def test_doubling_and_halving_have_gradients_at_zero():
    vector = torch.zeros(1, 2, 1, 1, requires_grad=True)
    halved(doubled(vector)).sum().backward()
    assert torch.isfinite(vector.grad).all()


def test_looking_along_starts_as_the_identity_and_has_no_sign():
    module = AlongTrail(6, 4)
    features, vectors = torch.rand(1, 6, 9, 11), 20 * torch.rand(1, 2, 9, 11) - 10
    assert torch.equal(module(features, doubled(vectors), 4), features)
    torch.nn.init.normal_(module.leave.weight)
    seen = module(features, doubled(vectors), 4)
    assert not torch.allclose(seen, features)
    torch.testing.assert_close(module(features, doubled(-vectors), 4), seen)


@pytest.mark.parametrize("stride", [2, 4])
def test_nothing_beyond_the_reach_is_seen(stride):
    module = AlongTrail(2, 2)
    torch.nn.init.normal_(module.leave.weight)
    width = 2 * AlongTrail.reach(stride) + 21
    features = torch.rand(1, 2, 1, width, requires_grad=True)
    longest = torch.full((1, 2, 1, width), 0.0)
    longest[:, 0] = 3 * LONGEST
    middle = width // 2
    module(features, longest, stride)[..., middle].sum().backward()
    seen = features.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    furthest = int((seen - middle).abs().max())
    assert AlongTrail.reach(stride) - 2 <= furthest <= AlongTrail.reach(stride)


def test_still_pictures_start_without_trails_and_moving_ones_with_their_motion():
    head = TrailHead(6)
    torch.nn.init.zeros_(head.leave.weight)
    torch.nn.init.zeros_(head.leave.bias)
    features = torch.rand(1, 6, 4, 5)
    assert head(features, torch.zeros(1, 4, 4, 5)).abs().max() < 0.01
    motion = torch.tensor([-10.0, 0.0, 10.0, 0.0]).view(1, 4, 1, 1).expand(1, 4, 4, 5)
    torch.testing.assert_close(
        halved(head(features, motion))[0, :, 0, 0], torch.tensor([6.0, 0.0]), atol=0.05, rtol=0
    )


def test_enlarged_trails_keep_their_unit():
    trails = torch.full((1, 2, 3, 4), 7.0)
    assert torch.equal(upsampled(trails), torch.full((1, 2, 6, 8), 7.0))


def woken() -> AlongTrail:
    """As if trained; initially its last convolution is zero."""
    torch.manual_seed(0)
    module = AlongTrail(8, 6)
    torch.nn.init.normal_(module.leave.weight, std=0.1)
    return module


def test_part_by_part_is_the_convolution_of_all_parts_joined():
    module = woken()
    features, trails = torch.randn(2, 8, 12, 10), 9 * torch.randn(2, 2, 12, 10)
    sampled, trail = module.enter(features), halved(trails) / 4
    parts = [
        sample_at(sampled, trail * place) + sample_at(sampled, trail * -place)
        for place in (0.25, 0.5, 0.75, 1.0, 1.5)
    ]
    mixed = module.mix(torch.cat([features, *parts], dim=1)).relu()
    torch.testing.assert_close(module(features, trails, 4), module.leave(mixed) + features)


def test_half_precision_looks_along_too_and_learns():
    """With convolutions under autocast, as on a GPU."""
    module = woken()
    features, trails = torch.randn(1, 8, 12, 10), 9 * torch.randn(1, 2, 12, 10)
    wanted = module(features, trails, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(features, trails, 4)
    torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.05)
    found.float().square().mean().backward()
    gradients = [parameter.grad for parameter in module.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
