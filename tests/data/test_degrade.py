from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn, idctn

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


def test_one_grain_spreads_over_its_neighbours_as_a_binomial():
    clean = torch.full((2, 1, 3, 5, 5), 0.5)
    noisy = clean.clone()
    noisy[:, :, 1, 2, 2] += 16
    soft = soften_noise(noisy, clean, torch.tensor([1.0, 0.25])) - clean
    spread = torch.zeros(3, 5, 5)
    spread[1, 1:4, 1:4] = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    torch.testing.assert_close(soft[0, 0], spread)
    torch.testing.assert_close(soft[1, 0], 0.75 * (noisy - clean)[1, 0] + 0.25 * spread)


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


def blockwise(plane: np.ndarray, table: np.ndarray) -> np.ndarray:
    """A plane (H, W), multiples of 8, after quantisation of its blocks one by one."""
    out = np.empty_like(plane)
    for top in range(0, plane.shape[0], 8):
        for left in range(0, plane.shape[1], 8):
            block = (slice(top, top + 8), slice(left, left + 8))
            steps = np.round(dctn(plane[block], norm="ortho") / table)
            out[block] = idctn(steps * table, norm="ortho")
    return out


def test_compression_is_that_of_a_plain_loop():
    """Each frame by itself, with the table that libjpeg writes at quality 50 and the definition of
    YCbCr by its luma weights.
    """
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=50)
    base = np.array(Image.open(file).quantization[0], dtype=float).reshape(8, 8)
    tables = {25: 2 * base, 80: 0.4 * base, 100: np.ones((8, 8))}
    random = torch.Generator().manual_seed(0)
    clips = torch.rand(3, 2, 3, 21, 35, generator=random, dtype=torch.float64)
    found = compress(clips, torch.tensor([float(quality) for quality in tables]))
    for clip, restored, table in zip(clips, found, tables.values(), strict=True):
        for frame, got in zip(clip.numpy(), restored.numpy(), strict=True):
            red, green, blue = np.pad(frame, ((0, 0), (0, 11), (0, 13)), mode="edge") - 128 / 255
            luma = 0.299 * red + 0.587 * green + 0.114 * blue
            luma, planes = (
                blockwise(luma, table / 255),
                [(blue - luma) / 1.772, (red - luma) / 1.402],
            )
            for index, plane in enumerate(planes):
                small = blockwise(plane.reshape(16, 2, 24, 2).mean(axis=(1, 3)), table / 255)
                planes[index] = cv2.resize(small, (48, 32), interpolation=cv2.INTER_LINEAR)
            blue, red = luma + 1.772 * planes[0], luma + 1.402 * planes[1]
            green = (luma - 0.299 * red - 0.114 * blue) / 0.587
            wanted = np.stack((red, green, blue))[:, :21, :35] + 128 / 255
            np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_flat_grey_takes_the_levels_of_libjpeg():
    quality = 5  # steps of 20 levels, counted from 128
    for level in range(0, 256, 15):
        packed = cv2.imencode(
            ".jpg", np.full((16, 16), level, np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality]
        )[1]
        theirs = cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE)
        ours = compress(torch.full((1, 1, 3, 16, 16), level / 255), torch.tensor([float(quality)]))
        np.testing.assert_allclose((ours[0, 0, 0] * 255).clamp(0, 255), theirs, atol=0.01)


def test_compression_takes_any_size_and_leaves_flat_colour():
    clip = torch.full((2, 1, 3, 21, 35), 0.5)
    out = compress(clip, torch.tensor([10.0, 90.0]))
    torch.testing.assert_close(out, clip, atol=0.02, rtol=0)
