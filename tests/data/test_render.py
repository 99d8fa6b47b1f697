from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unsmear.data.render import (
    composite,
    expose,
    frame_points,
    pixel_axes,
    render,
    sample_canvas,
    sample_light,
)
from unsmear.data.shake import transform_points


def shifts(*offsets):
    homographies = torch.eye(3).repeat(1, 1, len(offsets), 1, 1)
    for index, (x, y) in enumerate(offsets):
        homographies[0, 0, index, :2, 2] = torch.tensor([x, y])
    return homographies


@given(st.integers(1, 9), st.integers(1, 9))
def test_points_of_a_frame_are_all_its_pixels_transformed(height, width):
    homography = torch.eye(3) + 0.01 * torch.randn(2, 3, 3)
    y, x = pixel_axes(height, width)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    grid = torch.stack((columns, rows), dim=-1).flatten(0, 1)
    torch.testing.assert_close(
        frame_points(homography, height, width), transform_points(homography, grid)
    )


def test_a_still_camera_sees_the_centre_of_the_canvas():
    canvas = torch.rand(1, 3, 12, 14)
    seen = render(canvas, shifts((0.0, 0.0)), 6, 8)
    torch.testing.assert_close(seen[0, :, 0, 0], canvas[0, :, 3:9, 3:11], atol=1e-5, rtol=0)


def test_whole_pixel_shifts_are_exact():
    canvas = torch.rand(1, 1, 12, 14)
    seen = render(canvas, shifts((1.0, -2.0)), 6, 8)[0, 0, 0, 0]
    torch.testing.assert_close(seen, canvas[0, 0, 1:7, 4:12], atol=1e-5, rtol=0)


def test_half_pixels_blend_in_fields_and_lie_between_their_neighbours_in_light():
    canvas = 40 * torch.rand(1, 1, 12, 14) ** 8  # lamps
    canvas[..., 5:7, 5:9] = torch.tensor([55.0, 50.0, 50.0, 55.0])  # bicubic alone gives 58 inside
    points = frame_points(shifts((0.5, 0.0)), 6, 8)
    pair = torch.stack((canvas[0, 0, 3:9, 3:11], canvas[0, 0, 3:9, 4:12]))
    blend = sample_canvas(canvas, points).unflatten(-1, (6, 8))[0, 0, 0, 0]
    torch.testing.assert_close(blend, pair.mean(dim=0), atol=1e-4, rtol=0)
    light = sample_light(canvas, points).unflatten(-1, (6, 8))[0, 0, 0, 0]
    assert not torch.allclose(light, blend, atol=0.1)
    between = sample_light(canvas, frame_points(shifts((0.5, 0.5)), 6, 8)).unflatten(-1, (6, 8))
    around = canvas[0, 0, 3:10, 3:12].unfold(0, 2, 1).unfold(1, 2, 1)  # the four nearest pixels
    assert (between[0, 0, 0, 0] >= around.amin(dim=(-2, -1))).all()
    assert (between[0, 0, 0, 0] <= around.amax(dim=(-2, -1))).all()


@pytest.mark.parametrize("period", [3, 4, 6])
def test_detail_outlives_any_shift(period):
    """Stripes keep their contrast at any subpixel shift; bilinear samples lose the finest."""
    turn = 2 * torch.pi / period
    canvas = (0.5 + 0.4 * torch.sin(turn * torch.arange(60.0))).expand(1, 1, 40, 60)
    kept = {}
    for sample in (sample_canvas, sample_light):
        points = frame_points(shifts((0.0, 0.0), (0.5, 0.0)), 24, 24)
        still, moved = sample(canvas, points)[0, 0, 0].std(dim=-1)
        kept[sample] = float(moved / still)
    assert kept[sample_canvas] == pytest.approx(math.cos(turn / 2), abs=0.03)
    assert kept[sample_light] > (kept[sample_canvas] + 1) / 2 - 0.05


def test_outside_the_canvas():
    canvas = torch.rand(1, 1, 5, 5)
    far = torch.tensor([[[100.0, 0.0]]])
    assert sample_canvas(canvas, far, outside="zeros").item() == 0
    torch.testing.assert_close(
        sample_canvas(canvas, far, outside="border")[0, 0, 0], canvas[0, 0, 2, 4]
    )


def test_exposure_averages_light_and_the_sharp_frame_is_its_middle():
    subframes = torch.rand(2, 3, 4, 5, 6, 7)
    blurry, sharp = expose(subframes)
    assert blurry.shape == sharp.shape == (2, 4, 3, 6, 7)
    torch.testing.assert_close(blurry[1, 2], subframes[1, :, 2].mean(dim=1))
    assert torch.equal(sharp[1, 2], subframes[1, :, 2, 2])


def test_layers_cover_in_proportion_to_alpha():
    background = torch.full((1, 3, 2), 0.2)
    layer = torch.tensor([[[0.8, 0.4]] * 3 + [[1.0, 0.5]]]).reshape(1, 4, 2)
    torch.testing.assert_close(
        composite(layer, background)[0, 0], torch.tensor([0.8, 0.4 + 0.5 * 0.2])
    )
