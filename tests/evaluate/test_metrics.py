from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from unsmear.evaluate.metrics import (
    gain,
    mirrored_ssim,
    psnr,
    ssim,
    temporal_error,
    volume_ssim,
)


@given(st.integers(11, 40), st.integers(11, 40), st.floats(0.001, 0.5), st.integers(0, 1000))
def test_both_agree_with_scikit_image(height, width, noise, seed):
    # Here, as it imports all of scipy.stats, which takes seconds.
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    generator = torch.Generator().manual_seed(seed)
    sharp = torch.rand(3, height, width, generator=generator)
    restored = sharp + noise * torch.randn(sharp.shape, generator=generator)
    a, b = sharp.double().numpy(), restored.double().numpy()
    assert math.isclose(
        psnr(restored, sharp), peak_signal_noise_ratio(a, b, data_range=1), abs_tol=1e-6
    )
    theirs = structural_similarity(
        a, b, channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert math.isclose(ssim(restored, sharp), theirs, abs_tol=1e-6)


def test_equal_frames():
    frame = torch.rand(3, 16, 16)
    assert psnr(frame, frame) == math.inf
    assert ssim(frame, frame) == pytest.approx(1)


def test_known_psnr():
    assert psnr(torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.1)) == pytest.approx(20)


def test_a_gain_is_a_difference_even_of_equal_frames():
    assert gain(30.5, 28.0) == 2.5
    assert gain(28.0, 30.5) == -2.5
    assert gain(math.inf, 30.0) == math.inf
    assert gain(math.inf, math.inf) == 0


def test_frames_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="11x11"):
        ssim(torch.rand(3, 10, 30), torch.rand(3, 10, 30))


@pytest.mark.parametrize("metric", [psnr, ssim, volume_ssim, mirrored_ssim])
def test_only_two_frames_of_one_size_are_compared(metric):
    with pytest.raises(ValueError, match=r"one by one"):
        metric(torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16))
    with pytest.raises(ValueError, match=r"\(3, 16, 16\) and \(3, 16, 1\)"):
        metric(torch.rand(3, 16, 16), torch.rand(3, 16, 1))


def direct_volume_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Computed from the definition, one voxel at a time: (3, H, W) each, float64, 0..1."""
    offset = np.arange(-5, 6)
    tap = np.exp(-(offset**2) / (2 * 1.5**2))
    weights = tap[:, None, None] * tap[None, :, None] * tap[None, None, :]
    weights /= weights.sum()
    wide = [np.pad(side, 5, mode="edge") for side in (x, y)]
    values = []
    for voxel in np.ndindex(x.shape):
        around = tuple(slice(i, i + 11) for i in voxel)
        a, b = wide[0][around], wide[1][around]
        ma, mb = (weights * a).sum(), (weights * b).sum()
        va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
        cov = (weights * (a - ma) * (b - mb)).sum()
        top = (2 * ma * mb + 0.01**2) * (2 * cov + 0.03**2)
        values.append(top / ((ma**2 + mb**2 + 0.01**2) * (va + vb + 0.03**2)))
    return float(np.mean(values))


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_volume_ssim_agrees_with_a_direct_computation(noise):
    sharp = torch.rand(3, 9, 13, dtype=torch.float64)
    restored = (sharp + noise * torch.randn(3, 9, 13)).clamp(0, 1)
    assert volume_ssim(restored, sharp) == pytest.approx(
        direct_volume_ssim(restored.numpy(), sharp.numpy()), abs=1e-9
    )


@pytest.mark.parametrize("size", [(3, 9, 13), (3, 4, 5)])  # the second is smaller than the window
def test_mirrored_ssim_agrees_with_scipy(size):
    """As in Shift-Net, with the defaults of `gaussian_filter`."""
    sharp = torch.rand(size, dtype=torch.float64)
    restored = (sharp + 0.1 * torch.randn(size)).clamp(0, 1)

    def blur(x):
        return gaussian_filter(x, 1.5)

    x, y = restored.numpy(), sharp.numpy()
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    top = (2 * mx * my + 0.01**2) * (2 * cov + 0.03**2)
    values = top / ((mx**2 + my**2 + 0.01**2) * (vx + vy + 0.03**2))
    assert mirrored_ssim(restored, sharp) == pytest.approx(float(values.mean()), abs=1e-12)


def test_flicker_counts_changing_errors_only():
    sharp = torch.rand(2, 3, 8, 8)
    steady = sharp + 0.1
    assert temporal_error(steady[1], steady[0], sharp[1], sharp[0]) == pytest.approx(0, abs=1e-4)
    flicker = torch.stack([sharp[0] + 0.1, sharp[1] - 0.1])
    assert temporal_error(flicker[1], flicker[0], sharp[1], sharp[0]) == pytest.approx(51, rel=1e-4)
