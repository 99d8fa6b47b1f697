"""Weights of another network for the start of one: what both have in common, as it matters most."""

from __future__ import annotations

import copy
import dataclasses

import torch

from unsmear.engines.trial import laid_out
from unsmear.models.network import DeblurNetwork
from unsmear.models.pruning import Importance, take_part
from unsmear.models.zoo import LoadedModel, find_entry
from unsmear.train.config import TrainConfig
from unsmear.train.losses import build_loss, restore_and_compare, trail_weight_of
from unsmear.train.prefetch import Draws
from unsmear.train.stepper import half_precision

_BATCHES = 16


def needs_pruning(initial: LoadedModel, config: TrainConfig) -> bool:
    """Whether weights are of a network that has more of anything than the one to be trained."""
    return not find_entry(config.model).config.goes_on_from(initial.network.config)


def pruned(
    initial: LoadedModel, config: TrainConfig, batches: Draws, device: torch.device
) -> LoadedModel:
    """The part of trained weights that matters most to the loss, no larger in anything than the
    network that a configuration trains; that network goes on from there.

    Args:
        initial: of another network.
        config: of the training; its first batches are what importance is measured on.
        batches: where they come from.
        device: to measure on.

    Raises:
        ConfigError: the network to be trained has nothing in common with it.
    """
    large = laid_out(copy.deepcopy(initial.network), device)
    large.requires_grad_(True)
    importance = Importance(large)
    loss, trail_weight = build_loss(config), trail_weight_of(large, config)
    for step in range(_BATCHES):
        batch = batches.draw(step).to(device)
        with half_precision(config, device):
            _, error = restore_and_compare(large, batch, loss, trail_weight)
        large.zero_grad(set_to_none=True)
        error.backward()
        importance.add()
    wanted = find_entry(config.model).config
    small = DeblurNetwork(wanted.common_part(initial.network.config))
    take_part(small, initial.network, importance.of_weights)
    return dataclasses.replace(initial, network=small.eval().requires_grad_(False))
