"""Correction by reblurring: what is put right, what is not, and what a network is told."""

from __future__ import annotations

import dataclasses
import math
from statistics import fmean

import pytest
import torch
from torch.nn import functional

from tests.conftest import assert_same_frames
from tests.elsewhere import Elsewhere, pretending
from tests.restoration.conftest import STILL, camera_path, moving, texture
from unsmear.data.codec import Coding, code_clip
from unsmear.data.light import round_to_8_bit
from unsmear.demo import shaky_clip
from unsmear.evaluate.metrics import psnr
from unsmear.models.flow import luma_of
from unsmear.models.zoo import load_model
from unsmear.restoration import reblur
from unsmear.restoration.burst import Corrections, accumulate_bursts
from unsmear.restoration.exposure import GAMMA, reblurred
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.reblur import Blur, correction, evidence
from unsmear.restoration.stream import restore_stream


def wrong(height, width):
    """An error without fine detail."""
    coarse = texture(height // 8, width // 8, 5)
    return 0.4 * functional.interpolate(coarse - coarse.mean(), (height, width), mode="bicubic")


def corrected_by(restored, blurry, velocity):
    return correction(restored, Blur.fitted(restored, blurry, velocity))


def test_detail_that_blur_has_left_is_put_right():
    sharp, velocity = texture(160, 224), moving(8.0, 3.0)
    blurry = reblurred(sharp**GAMMA, camera_path(velocity, 0.6)) ** (1 / GAMMA)
    restored = (sharp + wrong(160, 224)).clamp(0, 1)
    found = (restored + corrected_by(restored, blurry, velocity)).clamp(0, 1)
    assert psnr(found[0], sharp[0]) > psnr(restored[0], sharp[0]) + 3


def test_a_network_is_told_what_is_lacking_and_what_would_nearly_undo_it():
    sharp, velocity = texture(160, 224), moving(8.0, 3.0)
    blurry = reblurred(sharp**GAMMA, camera_path(velocity, 0.6)) ** (1 / GAMMA)
    restored = (sharp + wrong(160, 224)).clamp(0, 1)
    blur = Blur.fitted(restored, blurry, velocity)._replace(path=camera_path(velocity, 0.6))
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
    blur = Blur.fitted(sharp, sharp, STILL)._replace(path=camera_path())
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
    blurry = reblurred(sharp**GAMMA, camera_path(velocity, 0.6)) ** (1 / GAMMA)
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
    blurry = (reblurred(sharp**GAMMA, camera_path(velocity, 0.6)) ** (1 / GAMMA)).clamp(0, 1)
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
    blurry = reblurred(sharp**GAMMA, camera_path(velocity, 0.6)) ** (1 / GAMMA)

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
    blurry = [reblurred(x[None] ** GAMMA, camera_path(moving(6.0, 0.0), 0.8))[0] ** (1 / GAMMA)
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
