from __future__ import annotations

import pytest
import torch

from unsmear.train.config import LOSS_NAMES, Stage, TrainConfig
from unsmear.train.losses import (
    LOSSES,
    build_loss,
    charbonnier,
    charbonnier_mse,
    frequency,
    l1,
    psnr_loss,
)


def test_every_name_has_a_loss():
    assert set(LOSSES) == set(LOSS_NAMES)


@pytest.mark.parametrize("loss", [*LOSSES.values(), frequency])
def test_losses_fall_towards_the_truth_and_stay_finite_there(loss):
    sharp = torch.rand(2, 3, 3, 8, 8)
    noise = torch.randn_like(sharp)
    far, near = loss(sharp + 0.2 * noise, sharp), loss(sharp + 0.1 * noise, sharp)
    assert near < far
    exact = sharp.clone().requires_grad_()
    loss(exact, sharp).backward()
    assert torch.isfinite(exact.grad).all()


def test_known_values():
    zero, tenth = torch.zeros(1, 2, 3, 4, 4), torch.full((1, 2, 3, 4, 4), 0.1)
    assert l1(tenth, zero) == pytest.approx(0.1)
    assert charbonnier(tenth, zero) == pytest.approx(0.1, abs=1e-5)
    assert charbonnier_mse(tenth, zero) == pytest.approx(0.1 + 10 * 0.01, abs=1e-5)
    assert psnr_loss(tenth, zero) == pytest.approx(-2.0, abs=1e-3)  # 20 dB


def test_psnr_loss_weighs_frames_alike():
    sharp = torch.zeros(1, 2, 3, 4, 4)
    restored = sharp.clone()
    restored[0, 0], restored[0, 1] = 0.1, 0.2
    each = [psnr_loss(restored[:, i : i + 1], sharp[:, i : i + 1]) for i in range(2)]
    assert psnr_loss(restored, sharp) == pytest.approx(float(sum(each)) / 2)


def test_frequency_is_the_mean_modulus_of_the_spectrum():
    """Against the discrete Fourier transform as a plain sum; orthonormal: divided by sqrt(HW)."""
    difference = torch.rand(1, 1, 1, 5, 4, dtype=torch.float64)
    rows, columns = torch.arange(5), torch.arange(4)
    total = 0.0
    for u in range(5):
        for v in range(4):
            angle = -2 * torch.pi * (u * rows[:, None] / 5 + v * columns / 4)
            wave = torch.polar(torch.ones_like(angle), angle).to(torch.complex128)
            total += (difference[0, 0, 0] * wave).sum().abs() / 20**0.5
    value = frequency(difference, torch.zeros_like(difference))
    assert float(value) == pytest.approx(float(total) / 20, rel=1e-6)


def test_a_frequency_weight_means_the_same_for_every_crop():
    small, large = (torch.randn(1, 4, 3, side, side) for side in (32, 128))
    values = [float(frequency(noise, torch.zeros_like(noise))) for noise in (small, large)]
    assert values[0] == pytest.approx(values[1], rel=0.03)


def test_the_configured_loss_is_the_named_one_and_the_weighted_spectrum():
    stages = (Stage(steps=1, clips=1, frames=1, crop=16),)
    restored, sharp = torch.rand(2, 1, 2, 3, 16, 16)
    plain = build_loss(TrainConfig(model="lite", stages=stages, loss="l1"))
    both = build_loss(TrainConfig(model="lite", stages=stages, loss="l1", frequency_weight=0.5))
    assert plain(restored, sharp) == l1(restored, sharp)
    expected = l1(restored, sharp) + 0.5 * frequency(restored, sharp)
    torch.testing.assert_close(both(restored, sharp), expected)
