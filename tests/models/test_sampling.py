"""Sampling against a naive loop, and sums of samples with and without gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models.conftest import naive_sample
from unsmear.models.sampling import by_pixel, sample, sample_at, sum_at


def test_sampling_agrees_with_a_naive_loop():
    features = torch.rand(2, 3, 5, 7)
    displacement = 6 * torch.rand(2, 2, 5, 7) - 3
    found = sample_at(features, displacement)
    for index in range(2):
        for channel in range(3):
            for y in range(5):
                for x in range(7):
                    dx, dy = displacement[index, :, y, x].tolist()
                    wanted = naive_sample(features[index, channel], x + dx, y + dy)
                    assert float(found[index, channel, y, x]) == pytest.approx(wanted, abs=1e-5)


@given(st.integers(1, 9), st.integers(1, 300))
def test_places_brought_to_the_edge_show_what_lies_beyond_it(height, width):
    """For devices whose grid_sample does not support border padding."""
    features = torch.rand(1, 2, height, width)
    x = torch.cat((torch.arange(width).float(), (2 * torch.rand(50) - 0.5) * width))
    y = (2 * torch.rand(len(x)) - 0.5) * height
    y[:height] = torch.arange(height)
    places = x[None, None], y[None, None]
    found, wanted = sample(features, *places, clamped=True), sample(features, *places)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)  # rounding of places


def test_turning_the_picture_turns_what_is_seen():
    """Sampling along trails commutes with a rotation of the image."""
    features = torch.rand(1, 2, 8, 8)
    vectors = 3 * torch.rand(1, 2, 8, 8)
    turned = torch.rot90(torch.stack((vectors[:, 1], -vectors[:, 0]), 1), 1, (-2, -1))
    torch.testing.assert_close(
        sample_at(torch.rot90(features, 1, (-2, -1)), turned),
        torch.rot90(sample_at(features, vectors), 1, (-2, -1)),
    )


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    st.floats(0, 30),
    st.integers(1, 3),
)
def test_sums_are_the_same_with_gradients_and_without(size, reach, count):
    batch, _, height, width = size
    features = torch.rand(size)
    displacements = [reach * (2 * torch.rand(batch, 2, height, width) - 1) for _ in range(count)]
    wanted = sum(by_pixel(sample_at(features, displacement)) for displacement in displacements)
    torch.testing.assert_close(sum_at(features, displacements), wanted, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        found = sum_at(features, displacements)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_without_gradients_where_nothing_is_moved_is_exactly_what_is_there():
    features = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    with torch.no_grad():
        found = sum_at(features, [torch.zeros(2, 2, 4, 5)])
    assert torch.equal(found, by_pixel(features))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_without_gradients_no_place_is_beyond_the_picture(bad):
    """Displacements that are not finite must not read foreign memory."""
    displacement = torch.zeros(1, 2, 4, 5)
    displacement[0, 0, 1, 2] = displacement[0, 1, 3, 3] = bad
    features = torch.rand(1, 3, 4, 5)
    with torch.no_grad():
        found = sum_at(features, [displacement, displacement])
    assert found.isfinite().all()
    assert found.max() <= 2


def test_gradients_reach_features_and_displacements():
    features = torch.rand(1, 2, 6, 6, requires_grad=True)
    displacement = (3 * torch.rand(1, 2, 6, 6)).requires_grad_(True)
    sum_at(features, [displacement, -displacement]).square().sum().backward()
    assert features.grad.abs().sum() > 0
    assert displacement.grad.abs().sum() > 0


def test_half_precision_is_summed_in_full():
    features = torch.rand(1, 4, 6, 7)
    displacement = 2 * torch.rand(1, 2, 6, 7)
    with torch.no_grad():
        found = sum_at(features.bfloat16(), [displacement])
        wanted = sum_at(features.bfloat16().float(), [displacement])
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)
