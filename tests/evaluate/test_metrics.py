from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from unsmear.evaluate.metrics import psnr, ssim


@given(st.integers(11, 40), st.integers(11, 40), st.floats(0.001, 0.5), st.integers(0, 1000))
def test_both_agree_with_scikit_image(height, width, noise, seed):
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


def test_frames_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="11x11"):
        ssim(torch.rand(3, 10, 30), torch.rand(3, 10, 30))
