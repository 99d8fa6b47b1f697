from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.conftest import SMALL, TRAILS
from unsmear.models.network import DeblurNetwork
from unsmear.train.config import PRESETS, Stage, TrainConfig
from unsmear.train.optimizers import Muon, build_optimizers, orthogonalize

CONFIG = TrainConfig(model="lite", stages=(Stage(steps=1, clips=1, frames=1, crop=16),))


@pytest.mark.parametrize("shape", [(8, 8), (24, 216), (216, 24), (1, 9)])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e4])
def test_orthogonal_whatever_the_scale(shape, scale):
    matrix = scale * torch.randn(shape)
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_orthogonalize_keeps_the_singular_vectors():
    u, _, vt = torch.linalg.svd(torch.randn(6, 20), full_matrices=False)
    matrix = u @ torch.diag(torch.linspace(1, 2, 6)) @ vt
    nearest = u @ vt
    cosine = (orthogonalize(matrix) * nearest).sum() / nearest.norm() ** 2
    assert 0.8 < cosine < 1.2


def test_a_zero_gradient_moves_nothing():
    weight = torch.nn.Parameter(torch.randn(4, 3, 3, 3))
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    Muon([weight]).step()
    assert torch.equal(weight, before)


def test_muon_step_has_a_size_in_learning_rates():
    """The RMS of a step is about 0.6 times the learning rate, whatever the gradient."""
    for scale in (1e-6, 1.0):
        weight = torch.nn.Parameter(torch.randn(48, 48, 3, 3))
        before = weight.detach().clone()
        weight.grad = scale * torch.randn_like(weight)
        Muon([weight], lr=0.01).step()
        assert (weight.detach() - before).square().mean().sqrt() == pytest.approx(0.006, rel=0.3)


def test_momentum_is_a_running_mean_that_is_applied_ahead():
    """By hand, for one row of two weights, whose direction an orthogonal update keeps."""
    weight = torch.nn.Parameter(torch.zeros(1, 2, 1, 1))
    optimizer = Muon([weight], momentum=0.95)
    places = []
    for gradient in ([1.0, 0.0], [0.0, 1.0]):
        weight.grad = torch.tensor(gradient).view(1, 2, 1, 1)
        optimizer.step()
        places.append(weight.detach().flatten().clone())
    assert places[0][0] < 0 == places[0][1]
    # The mean of the gradients is 0.05 * (0.95, 1); ahead is 0.95 of it and 0.05 of the last one.
    along, across = (places[1] - places[0]).tolist()
    assert across / along == pytest.approx((0.95 * 0.05 + 0.05) / (0.95 * 0.0475), rel=1e-4)


def test_muon_minimises():
    torch.manual_seed(0)
    target = torch.randn(6, 4, 3, 3)
    weight = torch.nn.Parameter(torch.zeros_like(target))
    optimizer = Muon([weight], lr=0.1)
    closure_losses = []

    def closure() -> float:
        optimizer.zero_grad()
        loss = (weight - target).square().mean()
        loss.backward()
        closure_losses.append(loss.item())
        return closure_losses[-1]

    for step in range(100):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 100)
        assert optimizer.step(closure) == closure_losses[-1]
    assert closure_losses[-1] < 0.05 * closure_losses[0]


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_each_parameter_has_exactly_one_optimizer(name):
    network = DeblurNetwork(SMALL)
    optimizers = build_optimizers(network, dataclasses.replace(CONFIG, optimizer=name))
    owned = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in network.parameters())
    assert len(optimizers) == (2 if name == "muon" else 1)
    if name == "muon":
        hidden = {id(p) for p in optimizers[0].param_groups[0]["params"]}
        assert id(network.head.weight) not in hidden
        assert id(network.stem.weight) not in hidden


def test_adam_takes_full_steps_along_tiny_gradients():
    """While the head is small, gradients behind it are far below the usual epsilon of 1e-8."""
    network = torch.nn.Conv2d(1, 1, 1)
    (adam,) = build_optimizers(network, dataclasses.replace(CONFIG, learning_rate=1e-2))
    before = network.bias.item()
    network.bias.grad = torch.full((1,), 1e-10)
    adam.step()
    assert before - network.bias.item() == pytest.approx(1e-2, rel=0.02)


def test_networks_without_biases_need_no_adam():
    network = torch.nn.Conv3d(3, 3, 3, bias=False)
    (muon,) = build_optimizers(network, dataclasses.replace(CONFIG, optimizer="muon"))
    assert isinstance(muon, Muon)


def test_what_estimates_trails_is_left_to_adam():
    network = DeblurNetwork(TRAILS)
    muon, adam = build_optimizers(network, dataclasses.replace(CONFIG, optimizer="muon"))
    hidden, rest = (
        {id(p) for group in one.param_groups for p in group["params"]} for one in (muon, adam)
    )
    parameters = dict(network.named_parameters())
    estimating = [key for key in parameters if key.startswith("trail_head.")]
    assert estimating
    assert {id(parameters[key]) for key in estimating} <= rest
    along = [key for key in parameters if key.startswith("trails.") and parameters[key].dim() == 4]
    assert along
    assert {id(parameters[key]) for key in along} <= hidden
    assert not hidden & rest
    assert len(hidden) + len(rest) == len(parameters)


def test_the_paper_preset_is_adam():
    assert PRESETS["paper"].optimizer == "adam"
