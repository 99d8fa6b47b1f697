from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from tests.conftest import picture
from unsmear.data.degrade import compress, sensor_noise, soften_noise


def test_noise_has_the_variance_it_should():
    linear = torch.tensor([0.0, 0.25, 1.0])[:, None, None, None, None].expand(3, 1, 3, 200, 200)
    shot, read = torch.full((3,), 1e-3), torch.full((3,), 0.01)
    noise = sensor_noise(linear, shot, read, torch.Generator().manual_seed(0)) - linear
    expected = torch.tensor([1e-4, 1e-4 + 0.25e-3, 1e-4 + 1e-3])
    torch.testing.assert_close(noise.flatten(1).var(dim=1), expected, rtol=0.03, atol=0)
    assert noise.mean().abs() < 1e-4


def test_no_noise_and_no_softening_change_nothing():
    clip = torch.rand(1, 2, 3, 8, 8)
    zero = torch.zeros(1)
    assert torch.equal(sensor_noise(clip, zero, zero, torch.Generator()), clip)
    noisy = clip + torch.randn_like(clip)
    torch.testing.assert_close(soften_noise(noisy, clip, zero), noisy)


def test_softening_correlates_neighbours_but_keeps_the_mean():
    clean = torch.zeros(1, 1, 3, 64, 64)
    noisy = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    soft = soften_noise(noisy, clean, torch.ones(1))
    assert soft.std() < 0.5 * noisy.std()
    assert (soft[..., 1:] * soft[..., :-1]).mean() > 0.4 * soft.var()


@pytest.mark.parametrize("quality", [20, 50, 85])
def test_compression_loses_about_what_libjpeg_loses(quality):
    image = cv2.GaussianBlur(picture(96, 128), (0, 0), 1).astype(np.float32)
    image += np.random.default_rng(0).normal(0, 6, image.shape)
    image = image.clip(0, 255).astype(np.uint8)
    # `compress` uses one table for all channels; libjpeg's table for chroma is coarser.
    packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    theirs = cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1]
    clip = torch.from_numpy(image).permute(2, 0, 1)[None, None].float() / 255
    ours = compress(clip, torch.tensor([float(quality)])) * 255
    error_theirs = np.square(theirs.astype(float) - image).mean()
    error_ours = float((ours - clip * 255).square().mean())
    assert 0.45 < error_ours / error_theirs < 1.5


def test_compression_takes_any_size_and_leaves_flat_colour():
    clip = torch.full((2, 1, 3, 21, 35), 0.5)
    out = compress(clip, torch.tensor([10.0, 90.0]))
    torch.testing.assert_close(out, clip, atol=0.02, rtol=0)
