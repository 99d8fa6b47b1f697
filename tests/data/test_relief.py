"""Near parts move and blur more than far ones, and the trails include that."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from unsmear.data.generators import Generators
from unsmear.data.motion import draw_motion
from unsmear.data.relief import Relief, draw_relief
from unsmear.data.render import cell_centres, frame_points, sample_canvas
from unsmear.data.shake import exposure_times, path_length
from unsmear.data.trails import fit_trails

CPU = torch.device("cpu")
SIDE = 128


def drawn(length=12.0, count=4, frames=2, samples=9, seed=0):
    random = Generators.seeded(seed, CPU)
    times = exposure_times(frames, samples, torch.full((count,), 0.8))
    return draw_relief(times, torch.full((count,), length), SIDE, random)


def still(count, frames, samples):
    return torch.eye(3).repeat(count, frames, samples, 1, 1)


def test_reliefs_are_smooth_and_their_camera_goes_as_far_as_wanted():
    relief = drawn(length=2.0, count=12)
    assert relief.nearness.shape == (12, 1, SIDE, SIDE)
    assert relief.travel.shape == (12, 2, 9, 2)
    assert 0 <= relief.nearness.min() < 0.2 < 0.8 < relief.nearness.max() <= 1
    way = path_length(relief.travel)
    assert (way < 2.001).all()
    assert (way > 1.999).sum() > 6
    # The travel is centred, as far as the canvas reaches.
    torch.testing.assert_close(
        relief.travel.amax(dim=(1, 2)), -relief.travel.amin(dim=(1, 2)), rtol=0, atol=1e-4
    )
    assert drawn(length=0.0).travel.abs().max() == 0


def test_no_relief_folds_over_itself():
    relief = drawn(length=500.0, count=12, frames=4, seed=1)
    y, x = torch.meshgrid(torch.arange(SIDE) - 63.5, torch.arange(SIDE) - 63.5, indexing="ij")
    points = torch.stack((x, y), dim=-1).flatten(0, 1).expand(12, 4, 9, -1, -1)
    lands = (points + relief.shift(points)).unflatten(-2, (SIDE, SIDE))
    along, down = lands.diff(dim=-2)[..., :-1, :, :], lands.diff(dim=-3)[..., :, :-1, :]
    area = along[..., 0] * down[..., 1] - along[..., 1] * down[..., 0]
    least = area.flatten(1).amin(dim=1)
    assert least.min() > 0.4  # the travel changes by at most 0.6 pixels per pixel
    assert least.max() < 0.72  # and each goes about as far as it may


def test_between_cells_shifts_are_as_good_as_exact():
    relief, homographies = drawn(), still(4, 2, 9)
    height, width = 44, 50
    points = frame_points(homographies, height, width)
    found, exact = relief.shifts(homographies, height, width), relief.shift(points)
    assert found.shape == points.shape
    inner = (slice(None),) * 3
    difference = (found - exact).norm(dim=-1).unflatten(-1, (height, width))
    assert difference[(*inner, slice(4, 40), slice(4, 46))].max() < 0.4
    assert exact.norm(dim=-1).max() > 2


def test_flattened_undoes_the_shift():
    relief = drawn()
    points = 80 * torch.rand(4, 2, 1, 30, 2) - 40
    at_third = Relief(relief.nearness, relief.travel[:, :, 3:4])
    seen = points + at_third.shift(points)
    torch.testing.assert_close(relief.flattened(seen, 3), points, rtol=0, atol=0.02)
    assert (seen - points).abs().max() > 1


@pytest.mark.parametrize("shaken", [False, True])
def test_a_pixel_sees_what_lies_along_its_trail(shaken):
    """The sub-frame at time t shows at p what the sub-frame at mid-exposure shows at p + v * t,
    except for the curvature of the path. Blur differs from place to place.
    """
    size, frames, random = 64, 2, Generators.seeded(4, CPU)
    lengths = torch.full((3,), 6.0 if shaken else 0.01)
    motion = draw_motion(lengths, frames, size, [], 0.0, random, further=12.0)
    relief = draw_relief(motion.times, torch.full((3,), 12.0), SIDE, random)
    canvas = functional.interpolate(torch.rand(3, 3, 16, 16), (SIDE, SIDE), mode="bicubic")
    points = frame_points(motion.homographies, size, size)
    points = points + relief.shifts(motion.homographies, size, size)
    subframes = sample_canvas(canvas, points).unflatten(-1, (size, size))
    trails = fit_trails(motion.homographies, size, size, relief)
    middle = motion.times.shape[2] // 2
    centres = cell_centres(size, size).flatten(0, 1)
    errors = {}
    for name, way in (("along", trails), ("not at all", torch.zeros_like(trails))):
        error = 0.0
        for moment, time in ((middle - 1, -1), (middle + 1, 1)):
            places = centres + time / (motion.times.shape[2] - 1) * way.flatten(-2).mT
            for frame in range(frames):
                now = sample_canvas(subframes[:, :, frame, moment], centres.expand(3, -1, -1))
                then = sample_canvas(subframes[:, :, frame, middle], places[:, frame])
                error += float((now - then).square().mean())
        errors[name] = error
    assert errors["along"] < 0.1 * errors["not at all"]
    lengths = trails.norm(dim=2).flatten(1)
    assert (lengths.amax(dim=1) > lengths.amin(dim=1) + 2).all()


def test_flat_reliefs_change_no_trail():
    motion = draw_motion(torch.tensor([9.0]), 2, 48, [], 0.0, Generators.seeded(4, CPU))
    near = torch.ones(1, 1, SIDE, SIDE)
    at_rest = Relief(near, torch.zeros(*motion.times.shape, 2))
    plain = fit_trails(motion.homographies, 48, 48)
    torch.testing.assert_close(
        fit_trails(motion.homographies, 48, 48, at_rest), plain, rtol=0, atol=1e-3
    )
    # If everything is equally near, it is a translation of the camera.
    sliding = Relief(
        near,
        torch.linspace(-2, 2, motion.times.shape[2])[None, None, :, None].expand(
            *motion.times.shape, 2
        ),
    )
    moved = motion.homographies.clone()
    moved[..., :2, :] += sliding.travel[..., None] * moved[..., 2:, :]
    torch.testing.assert_close(
        fit_trails(motion.homographies, 48, 48, sliding), fit_trails(moved, 48, 48),
        rtol=0, atol=1e-3,
    )  # fmt: skip
