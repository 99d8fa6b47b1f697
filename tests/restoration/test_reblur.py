"""Correction by reblurring: the model of blur, the fit of the path, and what is put right."""

from __future__ import annotations

import dataclasses
import math
from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.conftest import assert_same_frames
from tests.elsewhere import Elsewhere, pretending
from unsmear.data.codec import Coding, code_clip
from unsmear.data.light import round_to_8_bit
from unsmear.demo import shaky_clip
from unsmear.evaluate.metrics import psnr
from unsmear.models.flow import luma_of
from unsmear.models.zoo import load_model
from unsmear.restoration import reblur
from unsmear.restoration.burst import Corrections, accumulate_bursts
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.reblur import (
    GAMMA,
    Blur,
    CameraPath,
    correction,
    evidence,
    fit_path,
    reblurred,
)
from unsmear.restoration.stream import restore_stream

STILL = torch.zeros(1, 2, 2, 2)


def texture(height, width, seed=0):
    """Detail at several scales, (1, 1, H, W), 0..1."""
    random = torch.Generator().manual_seed(seed)
    layers = [
        functional.interpolate(
            torch.rand(1, 1, -(-height // size) + 1, -(-width // size) + 1, generator=random),
            scale_factor=size,
            mode="bicubic",
        )[..., :height, :width]
        for size in (2, 4, 8, 16)
    ]
    return torch.stack(layers).mean(0).clamp(0.02, 0.95)


def wrong(height, width):
    """An error without fine detail."""
    coarse = texture(height // 8, width // 8, 5)
    return 0.4 * functional.interpolate(coarse - coarse.mean(), (height, width), mode="bicubic")


def moving(x, y):
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, 3, 5).clone()


def corrected_by(restored, blurry, velocity):
    return correction(restored, Blur.fitted(restored, blurry, velocity))


def path(velocity=STILL, share=0.0, **curve):
    """`curve`: values at the seven points, by number of the freedom."""
    points = torch.zeros(7, 4)
    for name, values in curve.items():
        points[:, ("x", "y", "turn", "zoom").index(name)] = torch.as_tensor(values)
    return CameraPath(velocity, torch.tensor(share), points)


def test_a_camera_at_rest_blurs_nothing():
    light = texture(24, 40)
    torch.testing.assert_close(reblurred(light, path()), light, rtol=0, atol=1e-5)


def test_blur_is_the_mean_over_the_places_of_an_exposure():
    light = texture(32, 48)
    found = reblurred(light, path(moving(8.0, 0.0), 1.0))
    wanted = torch.stack([light.roll(-step, 3) for step in range(-4, 5)]).mean(0)
    torch.testing.assert_close(found[..., 4:-4], wanted[..., 4:-4], rtol=0, atol=1e-5)


@settings(max_examples=10)
@given(
    turn=st.floats(-2, 2), zoom=st.floats(-2, 2), x=st.floats(-3, 3), share=st.floats(0, 1),
    at=st.tuples(st.integers(6, 25), st.integers(6, 41)),
)  # fmt: skip
def test_blur_equals_a_plain_loop(turn, zoom, x, share, at):
    """Points of the curve in straight lines: the path at each moment is known in closed form."""
    light, line = texture(32, 48), torch.linspace(-0.5, 0.5, 7)
    found = reblurred(
        light, path(moving(4.0, -3.0), share, x=x * line, turn=turn * line, zoom=zoom * line)
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
    along = path(moving(5.0, 3.0), 0.8, x=[1.0, 0, -1, 0, 2, 1, 0])
    there = (reblurred(one, along) * two).sum()
    back = (one * reblurred(two, along, adjoint=True)).sum()
    torch.testing.assert_close(there, back, rtol=1e-4, atol=0)


def test_derivatives_are_those_of_finite_differences():
    # Smooth, as the derivatives of bilinear sampling jump at each pixel.
    smooth = torch.sin(torch.arange(48) / 5)[None] * torch.cos(torch.arange(40) / 6)[:, None]
    restored, slopes = (smooth / 3 + 0.5)[None, None], torch.rand(1, 1, 40, 48)
    torch.manual_seed(0)
    at = CameraPath(moving(4.0, 2.0), torch.tensor(0.6), torch.randn(7, 4) / 2)

    def off(path):
        return reblur._difference(restored, 0 * restored, path, slopes)[0]

    found = reblur._difference(restored, 0 * restored, at, slopes)[1].unflatten(1, (40, 48))
    inner, size = (slice(6, -6), slice(6, -6)), 0.5
    for number in (0, 1, 6, 7, 13, 18, 27, 28):
        change = torch.zeros(29)
        change[number] = size / 2
        ends = [
            CameraPath(
                at.velocity, at.share + sign * change[-1], at.curve + sign * change[:-1].view(7, 4)
            )
            for sign in (1, -1)
        ]
        wanted = ((off(ends[0]) - off(ends[1])) / size).view(40, 48)
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
def test_the_fitted_path_blurs_like_the_true_one(velocity, share, curve):
    sharp = texture(160, 224) ** GAMMA
    true = path(moving(*velocity), share, **curve)
    blurry = reblurred(sharp, true)
    found = fit_path(sharp, blurry, moving(*velocity))
    before = (sharp - blurry).square().mean()
    assert (reblurred(sharp, found) - blurry).square().mean() < 0.06 * before
    if not curve:
        assert float(found.share) == pytest.approx(share, abs=0.1)


def test_detail_that_blur_has_left_is_put_right():
    sharp, velocity = texture(160, 224), moving(8.0, 3.0)
    blurry = reblurred(sharp**GAMMA, path(velocity, 0.6)) ** (1 / GAMMA)
    restored = (sharp + wrong(160, 224)).clamp(0, 1)
    found = (restored + corrected_by(restored, blurry, velocity)).clamp(0, 1)
    assert psnr(found[0], sharp[0]) > psnr(restored[0], sharp[0]) + 3


def test_a_network_is_told_what_is_lacking_and_what_would_nearly_undo_it():
    sharp, velocity = texture(160, 224), moving(8.0, 3.0)
    blurry = reblurred(sharp**GAMMA, path(velocity, 0.6)) ** (1 / GAMMA)
    restored = (sharp + wrong(160, 224)).clamp(0, 1)
    blur = Blur.fitted(restored, blurry, velocity)._replace(path=path(velocity, 0.6))
    lacking, first, last = evidence(restored, blur).unsqueeze(2).unbind(1)
    torch.testing.assert_close(lacking, blur.lacking(restored))
    left = [
        float((blur.forth(change) - lacking).square().sum() + 0.03 * change.square().sum())
        for change in (0 * first, first, last)
    ]
    assert left[2] < 0.95 * left[1] < 0.5 * left[0]
    scores = [psnr((restored + change)[0], sharp[0]) for change in (0 * first, first, last)]
    assert min(scores[1:]) > scores[0] + 0.5


def test_without_blur_it_is_told_the_difference():
    sharp = texture(96, 128)
    restored = sharp + 0.02 * texture(96, 128, 3)
    blur = Blur.fitted(sharp, sharp, STILL)._replace(path=path())
    lacking, first, last = evidence(restored, blur)[0]
    wanted = (sharp - restored)[0, 0]
    assert (lacking - wanted).square().mean() < 0.05 * wanted.square().mean()
    for change in (first, last):
        torch.testing.assert_close(change, lacking / 1.03, rtol=0, atol=1e-4)


class Contrary(Blur):
    """Its adjoint has the wrong sign, as the approximate one may have where paths cross."""

    def back(self, change):
        return -super().back(change)


def test_a_step_that_leads_upwards_is_not_taken():
    sharp, velocity = texture(96, 128), moving(8.0, 3.0)
    blurry = reblurred(sharp**GAMMA, path(velocity, 0.6)) ** (1 / GAMMA)
    blur = Contrary(*Blur.fitted(sharp, blurry, velocity))
    _, *changes = evidence((sharp + wrong(96, 128)).clamp(0, 1), blur)[0]
    assert all(change.abs().max() < 1 for change in changes)


def test_noise_is_not_put_back():
    sharp = texture(160, 224)
    noise = 0.1 * torch.randn(sharp.shape, generator=torch.Generator().manual_seed(0))
    change = corrected_by(sharp, (sharp + noise).clamp(0, 1), STILL)
    assert change.square().mean().sqrt() < 0.2 * noise.square().mean().sqrt()


def test_clipped_light_says_nothing():
    sharp, velocity = texture(96, 128), moving(6.0, 0.0)
    sharp[..., 30:60, 40:90] = 3.0  # brighter than white
    blurry = (reblurred(sharp**GAMMA, path(velocity, 0.6)) ** (1 / GAMMA)).clamp(0, 1)
    change = corrected_by(sharp.clamp(0, 1), blurry, velocity)
    assert change[..., 34:56, 50:80].abs().max() < 0.02


def test_the_coarser_a_frame_was_coded_the_less_it_is_trusted():
    clip, _ = shaky_clip(4, 96, 128)
    clip = round_to_8_bit(clip)
    codings = (Coding("libx264", 28), Coding("libx264", 33))
    coded = [clip, *(code_clip(clip, coding) for coding in codings)]
    factors = [float(reblur._coding_caution(luma_of(x[2:3]))) for x in coded]
    assert factors[0] == 1
    assert 2 < factors[1] < factors[2]
    assert float(reblur._coding_caution(torch.zeros(1, 1, 16, 24))) == 1


@pytest.mark.parametrize("size", [(8, 8), (8, 200), (48, 16)])
@pytest.mark.parametrize("value", [0.0, 1.0, math.nan, math.inf])
def test_frames_without_detail_or_with_odd_values_stay(size, value):
    frame = torch.full((1, 1, *size), value)
    restored = texture(*size) if math.isnan(value) else frame
    blur = Blur.fitted(restored, frame, STILL)
    for change in (correction(restored, blur), evidence(restored, blur)):
        assert change.abs().max() < 1e-3


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_gpu_finds_the_same(kind):
    sharp, velocity, device = texture(64, 96), moving(6.0, 2.0), torch.device(kind, 0)
    blurry = reblurred(sharp**GAMMA, path(velocity, 0.6)) ** (1 / GAMMA)

    def found(restored, *known):
        blur = Blur.fitted(restored, *known)
        return torch.cat((correction(restored, blur), evidence(restored, blur)), dim=1)

    wanted = found(sharp, blurry, velocity)
    with torch.no_grad(), pretending(device):
        there = found(*(Elsewhere(x, device) for x in (sharp, blurry, velocity))).cpu()
    torch.testing.assert_close(there, wanted, rtol=0, atol=1e-5)


def test_it_looks_at_luma_and_at_both_neighbours():
    sharp = texture(64, 96)[0].expand(3, -1, -1)
    clip = [sharp.roll(6 * n, 2) for n in range(3)]
    blurry = [reblurred(x[None] ** GAMMA, path(moving(6.0, 0.0), 0.8))[0] ** (1 / GAMMA)
              for x in clip]  # fmt: skip
    restored = [(x + wrong(64, 96)[0]).clamp(0, 1) for x in clip]
    plain = list(accumulate_bursts(restored, 1))
    found = list(accumulate_bursts(restored, 1, corrections=Corrections(iter(blurry), reblur=True)))
    inner = (slice(None), slice(None), slice(16, -16))
    for number in range(3):
        change = found[number] - plain[number]
        assert change.std(dim=0).max() < 1e-5  # the same for all colours
        errors = [(x[number] - clip[number])[inner].square().mean() for x in (found, plain)]
        assert errors[0] < 0.5 * errors[1]
    alone = accumulate_bursts([sharp], 1, corrections=Corrections(iter([sharp]), reblur=True))
    assert_same_frames(alone, [sharp])


def test_results_of_released_networks_come_nearer_to_the_truth():
    model, (blurry, sharp) = load_model("lite"), shaky_clip(5, 192, 256)
    quality = QualityOptions()

    def means(quality):
        frames = restore_stream(model.network, blurry, model.window, quality=quality)
        return fmean(psnr(*both) for both in zip(frames, sharp, strict=True))

    assert means(dataclasses.replace(quality, reblur=True)) > means(quality) + 0.1
