from __future__ import annotations

import pytest
import torch

from unsmear.train.config import LOSS_NAMES
from unsmear.train.losses import LOSSES, charbonnier, charbonnier_mse, l1, psnr_loss


def test_every_name_has_a_loss():
    assert set(LOSSES) == set(LOSS_NAMES)


@pytest.mark.parametrize("loss", LOSSES.values())
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
