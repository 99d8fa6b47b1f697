from __future__ import annotations

from typing import get_args

import pytest
import torch

from tests.conftest import SMALL, TRAILS
from unsmear.data.clips import Clips
from unsmear.data.trails import Trails
from unsmear.errors import ConfigError
from unsmear.evaluate.metrics import psnr
from unsmear.models.network import DeblurNetwork
from unsmear.models.trails import doubled
from unsmear.train.config import LossName, Stage, TrainConfig
from unsmear.train.losses import (
    LOSSES,
    build_loss,
    charbonnier,
    charbonnier_mse,
    frequency,
    l1,
    psnr_loss,
    restore_and_compare,
    trail_loss,
    trail_weight_of,
)


def test_every_name_has_a_loss():
    assert set(LOSSES) == set(get_args(LossName))


def test_a_program_may_add_a_loss(monkeypatch):
    stages = (Stage(steps=1, clips=1, frames=1, crop=16),)
    with pytest.raises(ConfigError, match="loss is 'gradient': must be one of charbonnier, "):
        TrainConfig(model="lite", stages=stages, loss="gradient")
    monkeypatch.setitem(LOSSES, "gradient", l1)
    assert build_loss(TrainConfig(model="lite", stages=stages, loss="gradient")) is l1


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
    assert l1(tenth, zero) == l1(zero, tenth) == pytest.approx(0.1)
    assert charbonnier(tenth, zero) == pytest.approx(0.1, abs=1e-5)
    assert charbonnier_mse(tenth, zero) == pytest.approx(0.1 + 10 * 0.01, abs=1e-5)
    assert psnr_loss(tenth, zero) == pytest.approx(-2.0, abs=1e-3)  # 20 dB
    assert psnr_loss(zero, zero) == pytest.approx(-4.81308, abs=1e-4)  # that of a step of 8 bits


def test_psnr_loss_weighs_frames_alike():
    sharp = torch.zeros(1, 2, 3, 4, 4)
    restored = sharp.clone()
    restored[0, 0], restored[0, 1] = 0.1, 0.2
    each = [psnr_loss(restored[:, i : i + 1], sharp[:, i : i + 1]) for i in range(2)]
    assert psnr_loss(restored, sharp) == pytest.approx(float(sum(each)) / 2)
    noisy = torch.rand(2, 3, 3, 4, 4)
    decibels = [psnr(frame, torch.zeros(3, 4, 4)) for clip in noisy for frame in clip]
    assert psnr_loss(noisy, torch.zeros_like(noisy)) == pytest.approx(-sum(decibels) / 60, abs=1e-3)


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


def true_trails():
    """Short and long ones, some unknown."""
    vectors = 20 * torch.randn(2, 3, 2, 4, 5)
    vectors[0, 0, :, 0, 0] = torch.tensor([90.0, -70.0])
    return Trails(vectors, (torch.rand(2, 3, 1, 4, 5) < 0.6).float())


def test_trail_loss_is_a_mean_over_cells():
    truth = true_trails()
    estimated = 20 * torch.randn(2, 3, 2, 4, 5)
    total = 0.0
    for clip in range(2):
        for frame in range(3):
            for row in range(4):
                for column in range(5):
                    if truth.known[clip, frame, 0, row, column]:
                        x, y = truth.vectors[clip, frame, :, row, column].tolist()
                        wanted = complex(min(max(x, -48), 48), min(max(y, -48), 48))
                        wanted *= wanted / abs(wanted)
                        found = complex(*estimated[clip, frame, :, row, column].tolist())
                        error = (abs(found - wanted) ** 2 + 0.01) ** 0.5
                        total += error / (1 + 0.1 * abs(wanted))
    assert float(trail_loss(estimated, truth)) == pytest.approx(total / 120, rel=1e-4)


def test_trail_loss_asks_for_no_sign_and_of_unknown_cells_for_nothing():
    truth = true_trails()
    turned = Trails(-truth.vectors, truth.known)
    exact = doubled(truth.vectors.clamp(-48, 48).flatten(0, 1)).unflatten(0, (2, 3))
    exact.requires_grad_()
    loss = trail_loss(exact, truth)
    assert trail_loss(exact, turned) == loss
    assert loss < trail_loss(exact + 1, truth) < trail_loss(exact + 2, truth)
    (gradient,) = torch.autograd.grad(trail_loss(exact + 1, truth), exact)
    assert torch.equal(gradient != 0, (truth.known == 1).expand_as(gradient))
    (gradient,) = torch.autograd.grad(loss, exact)
    assert torch.isfinite(gradient).all()


def test_the_configured_loss_is_the_named_one_and_the_weighted_spectrum():
    stages = (Stage(steps=1, clips=1, frames=1, crop=16),)
    restored, sharp = torch.rand(2, 1, 2, 3, 16, 16)
    plain = build_loss(TrainConfig(model="lite", stages=stages, loss="l1"))
    both = build_loss(TrainConfig(model="lite", stages=stages, loss="l1", frequency_weight=0.5))
    assert plain(restored, sharp) == l1(restored, sharp)
    expected = l1(restored, sharp) + 0.5 * frequency(restored, sharp)
    torch.testing.assert_close(both(restored, sharp), expected)


def test_what_is_learned_of_trails_has_its_weight():
    truth = true_trails()
    blurry, sharp = torch.rand(2, 2, 3, 3, 32, 40)
    motion, estimated = torch.rand(6, 4, 4, 5), torch.rand(2, 3, 2, 4, 5)
    asked = []

    def network(frames, with_trails=False, **known):
        asked.append((with_trails, sorted(known)))
        restored = frames.bfloat16()
        return (restored, estimated) if with_trails else restored

    clips = Clips(blurry, sharp, truth, motion)
    restore_and_compare(network, clips, l1, 0.0)
    network.config = TRAILS  # motion cannot be measured while a step is recorded
    restored, plain = restore_and_compare(network, clips, l1, 0.0)
    assert plain == l1(restored, sharp)
    seen = clips._replace(seen=sharp)
    for weight, given in ((0.25, clips), (4.0, seen)):
        restored, found = restore_and_compare(network, given, l1, weight)
        torch.testing.assert_close(found, plain + weight * trail_loss(estimated, truth))
        assert restored.dtype == torch.float32
    assert asked == [
        (False, []), (False, ["motion"]), (True, ["motion"]), (True, ["motion", "seen"]),
    ]  # fmt: skip


def test_only_networks_that_follow_trails_learn_them():
    stages = (Stage(steps=1, clips=1, frames=1, crop=16),)
    config = TrainConfig(model="lite", stages=stages, trail_weight=0.3)
    for shape, weight in ((TRAILS, 0.3), (SMALL, 0.0)):
        assert trail_weight_of(DeblurNetwork(shape), config) == weight
    assert trail_weight_of(torch.nn.Identity(), config) == 0
