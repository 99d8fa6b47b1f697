"""The trails of known motion, and those under a layer that moves on its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.data.conftest import shaking, sliding
from unsmear.data.render import render
from unsmear.data.shake import shutter_times
from unsmear.data.trails import fit_trails, trails_under_layer

CPU = torch.device("cpu")


@pytest.mark.parametrize("samples", [3, 7])
def test_a_translation_leaves_trails_of_its_length(samples):
    found = fit_trails(sliding(7.0, -2.5, samples=samples), 32, 48)
    assert found.shape == (1, 2, 2, 4, 6)
    expected = torch.tensor([7.0, -2.5])[:, None, None].expand_as(found)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_rotation_leaves_trails_across_the_radius():
    angle = 0.08 * shutter_times(9)
    turning = torch.eye(3).repeat(1, 1, 9, 1, 1)
    turning[..., 0, 0] = turning[..., 1, 1] = torch.cos(angle)
    turning[..., 0, 1], turning[..., 1, 0] = -torch.sin(angle), torch.sin(angle)
    x, y = fit_trails(turning, 64, 64)[0, 0]
    across = (torch.arange(8) + 0.5) * 8 - 32
    torch.testing.assert_close(x, -0.08 * across[:, None].expand(8, 8), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(y, 0.08 * across.expand(8, 8), atol=1e-3, rtol=1e-3)


def test_trails_are_the_least_squares_slope_of_each_cell():
    """Single cells and frames, with a quadratic term fitted beside the slope; sizes of any kind."""
    homographies, height, width = shaking(), 44, 50
    found = fit_trails(homographies, height, width)
    assert found.shape == (2, 3, 2, 6, 7)
    times = shutter_times(homographies.shape[2]).double().numpy()
    powers = np.stack((times, times**2), axis=1)
    for clip, frame, row, column in ((0, 0, 0, 0), (1, 2, 5, 6), (1, 0, 3, 1)):
        point = np.array([8 * column + 4 - width / 2, 8 * row + 4 - height / 2, 1])
        matrices = homographies[clip, frame].double().numpy()
        ways = []
        for matrix in matrices:
            lands = np.linalg.inv(matrices[len(matrices) // 2]) @ matrix @ point
            ways.append(lands[:2] / lands[2] - point[:2])
        slope = np.linalg.lstsq(powers, np.array(ways), rcond=None)[0][0]
        np.testing.assert_allclose(found[clip, frame, :, row, column], slope, atol=2e-3)


def test_a_pixel_sees_what_lies_along_its_trail():
    """The sub-frame at time t shows at p what the one at mid-exposure shows at p + v * t."""
    canvas = torch.rand(1, 3, 60, 60)
    homographies = sliding(10.0, 5.0, frames=1, samples=5)  # sub-frames 2 and 1 pixels apart
    subframes = render(canvas, homographies, 32, 32)[0, :, 0]  # (3, S, H, W)
    vx, vy = fit_trails(homographies, 32, 32)[0, 0, :, 0, 0].tolist()
    assert (round(vx), round(vy)) == (10, 5)
    torch.testing.assert_close(
        subframes[:, -1, :30, :28], subframes[:, 2, 2:, 4:], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("samples", [1, 4])
def test_exposures_without_a_middle_are_refused(samples):
    with pytest.raises(ValueError, match=f"has {samples} moments"):
        fit_trails(sliding(1.0, 1.0, samples=samples), 16, 16)


def test_under_a_layer_its_own_trails_count_where_it_stays():
    camera, layer = torch.zeros(1, 1, 2, 2, 3), torch.ones(1, 1, 2, 2, 3)
    alpha = torch.zeros(1, 1, 3, 16, 20)  # the last column of cells is half beyond the frame
    alpha[..., :8, :8] = 1  # is there all the time
    alpha[:, :, 1, :8, 8:16] = 1  # is there for a moment
    alpha[..., 8:, :4] = 1  # covers half a cell
    alpha[..., 8:, 16:] = 1
    trails = trails_under_layer(camera, layer, alpha)
    assert trails.known.dtype == torch.float32
    assert trails.known[0, 0, 0].tolist() == [[1, 0, 1], [0, 1, 1]]
    assert trails.vectors[0, 0, 0].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert torch.equal(trails.vectors[:, :, 0], trails.vectors[:, :, 1])
