"""Objects that move on their own: their outlines and how far they move."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unsmear.data.cutouts import draw_outline, draw_paths
from unsmear.data.generators import Generators
from unsmear.data.shake import blur_length, exposure_times, path_length, transform_points


def seeded(seed):
    return Generators.seeded(seed, torch.device("cpu"))


@given(st.integers(0, 1000))
def test_an_outline_is_one_blob_around_the_centre_with_a_soft_edge(seed):
    size = 32
    alpha = draw_outline(2 * size, size, seeded(seed))[0]
    assert alpha.shape == (2 * size, 2 * size)
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    assert alpha[size, size] > 0.9
    assert (alpha[0] == 0).any()  # it does not fill its canvas
    soft = (alpha > 0) & (alpha < 1)
    assert 0 < soft.sum() < 0.25 * alpha.numel()


def test_seeds_repeat_and_differ():
    one, again, other = (draw_outline(64, 32, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_each_smears_by_its_length_and_stays_near_the_centre():
    size, lengths = 64, torch.tensor([2.0, 8.0, 20.0])
    times = exposure_times(1, 33, torch.full((3,), 0.5))
    ways = draw_paths(times, lengths, size, seeded(3))
    assert ways.shape == (3, 1, 33, 3, 3)
    centre = transform_points(ways, torch.zeros(1, 2))[..., 0, :]
    gone = path_length(centre)
    torch.testing.assert_close(gone, lengths, rtol=1e-3, atol=1e-3)
    middle = centre[:, 0, 16]
    assert (middle.abs() <= size / 3 + lengths[:, None]).all()
    # Rotation adds little to the way of a point near the centre.
    assert blur_length(ways, 8, 8)[:, 0].tolist() == pytest.approx(lengths.tolist(), rel=0.2)
