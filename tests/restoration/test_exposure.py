"""The path of an exposure: what it does to a frame, and the fit that finds it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.restoration.conftest import camera_path, moving, texture
from unsmear.restoration import exposure
from unsmear.restoration.exposure import GAMMA, CameraPath, fit_path, reblurred


def test_a_camera_at_rest_blurs_nothing():
    light = texture(24, 40)
    torch.testing.assert_close(reblurred(light, camera_path()), light, rtol=0, atol=1e-5)


def test_blur_is_the_mean_over_the_places_of_an_exposure():
    light = texture(32, 48)
    found = reblurred(light, camera_path(moving(8.0, 0.0), 1.0))
    wanted = torch.stack([light.roll(-step, 3) for step in range(-4, 5)]).mean(0)
    torch.testing.assert_close(found[..., 4:-4], wanted[..., 4:-4], rtol=0, atol=1e-5)


def test_strips_change_nothing(monkeypatch):
    light, along = texture(33, 48), camera_path(moving(5.0, 3.0), 0.8, turn=torch.arange(7) / 3)
    whole = reblurred(light, along)
    monkeypatch.setattr(exposure, "_STRIP", 5 * 48)
    torch.testing.assert_close(reblurred(light, along), whole, rtol=0, atol=1e-6)


@settings(max_examples=10)
@given(
    turn=st.floats(-2, 2), zoom=st.floats(-2, 2), x=st.floats(-3, 3), share=st.floats(0, 1),
    at=st.tuples(st.integers(6, 25), st.integers(6, 41)),
)  # fmt: skip
def test_blur_equals_a_plain_loop(turn, zoom, x, share, at):
    """Points of the curve in straight lines: the path at each moment is known in closed form."""
    light, line = texture(32, 48), torch.linspace(-0.5, 0.5, 7)
    found = reblurred(
        light, camera_path(moving(4.0, -3.0), share, x=x * line, turn=turn * line, zoom=zoom * line)
    )
    row, column = at
    right, below = (column - 23.5) / 24, (row - 15.5) / 24
    total = 0.0
    for moment in torch.linspace(-0.5, 0.5, 9).tolist():
        across = column + moment * (4 * share + x + zoom * right - turn * below)
        down = row + moment * (-3 * share + turn * right + zoom * below)
        left, top = math.floor(across), math.floor(down)
        for y0 in (top, top + 1):
            for x0 in (left, left + 1):
                weight = (1 - abs(across - x0)) * (1 - abs(down - y0))
                total += weight * float(light[0, 0, y0, x0]) / 9
    assert float(found[0, 0, row, column]) == pytest.approx(total, abs=1e-4)


def test_the_reversed_path_is_the_adjoint():
    inner = functional.pad(torch.ones(1, 1, 20, 28), (10,) * 4)  # no light crosses the edges
    one, two = inner * texture(40, 48), inner * texture(40, 48, 1)
    along = camera_path(moving(5.0, 3.0), 0.8, x=[1.0, 0, -1, 0, 2, 1, 0])
    there = (reblurred(one, along) * two).sum()
    back = (one * reblurred(two, along, adjoint=True)).sum()
    torch.testing.assert_close(there, back, rtol=1e-4, atol=0)


@pytest.mark.parametrize("apart", [1, 2])
def test_derivatives_are_those_of_finite_differences(apart):
    # Smooth, as the derivatives of bilinear sampling jump at each pixel.
    smooth = torch.sin(torch.arange(48) / 5)[None] * torch.cos(torch.arange(40) / 6)[:, None]
    restored, slopes = (smooth / 3 + 0.5)[None, None], torch.rand(1, 1, 40, 48)
    torch.manual_seed(0)
    at = CameraPath(moving(4.0, 2.0), torch.tensor(0.6), torch.randn(7, 4) / 2)

    def off(path):
        path = path.at_every_pixel(40, 48)
        return exposure._difference(restored, 0 * restored, path, slopes, apart)

    grid = (40 // apart, 48 // apart)
    found = off(at)[1].unflatten(1, grid)
    inner, size = (slice(6 // apart, -6 // apart),) * 2, 0.5
    for number in (0, 1, 6, 7, 13, 18, 27, 28):
        change = torch.zeros(29)
        change[number] = size / 2
        ends = [
            CameraPath(
                at.velocity, at.share + sign * change[-1], at.curve + sign * change[:-1].view(7, 4)
            )
            for sign in (1, -1)
        ]
        wanted = ((off(ends[0])[0] - off(ends[1])[0]) / size).view(grid)
        error = (found[number] - wanted)[inner].square().mean().sqrt()
        assert error < 0.1 * wanted[inner].square().mean().sqrt() + 1e-6, number


@pytest.mark.parametrize(
    ("velocity", "share", "curve"),
    [
        ((9.0, -4.0), 0.8, {}),
        ((6.0, 5.0), 0.5, {"x": [3.0, 1, -1, -2, -1, 1, 3]}),
        ((0.0, 0.0), 0.0, {"y": [-3.0, -2, -1, 0, 1, 2, 3]}),
        ((5.0, 0.0), 0.6, {"turn": [-4.0, -3, -1, 0, 1, 3, 4]}),
    ],
)
@pytest.mark.parametrize("compared", [exposure._COMPARED, 2000])
def test_the_fitted_path_blurs_like_the_true_one(velocity, share, curve, compared, monkeypatch):
    monkeypatch.setattr(exposure, "_COMPARED", compared)
    sharp = texture(160, 224) ** GAMMA
    true = camera_path(moving(*velocity), share, **curve)
    blurry = reblurred(sharp, true)
    found = fit_path(sharp, blurry, moving(*velocity))
    before = (sharp - blurry).square().mean()
    assert (reblurred(sharp, found) - blurry).square().mean() < 0.06 * before
    if not curve:
        assert float(found.share) == pytest.approx(share, abs=0.1)
