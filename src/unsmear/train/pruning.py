"""Initial weights from another network: the part that both have in common and that matters most."""

from __future__ import annotations

import copy
import dataclasses

import torch

from unsmear.engines.base import to_device
from unsmear.models.network import DeblurNetwork
from unsmear.models.pruning import Importance, prune_from
from unsmear.models.zoo import LoadedModel, find_entry
from unsmear.train.config import TrainConfig
from unsmear.train.losses import build_loss, restore_and_compare, trail_weight_of
from unsmear.train.prefetch import BatchSource
from unsmear.train.stepper import half_precision

_BATCHES = 16


def needs_pruning(initial: LoadedModel, config: TrainConfig) -> bool:
    """Whether weights belong to a network that is larger in anything than the one to be trained."""
    return not find_entry(config.model).config.can_grow_from(initial.network.config)


def pruned(
    initial: LoadedModel, config: TrainConfig, batches: BatchSource, device: torch.device
) -> LoadedModel:
    """The part of trained weights that matters most to the loss, nowhere larger than the network to
    be trained, which can start from it.

    Args:
        initial: of another network.
        config: of the training; importance is measured on its first batches.
        batches: their source.
        device: to measure on.

    Raises:
        ConfigError: the two networks have nothing in common.
    """
    large = to_device(copy.deepcopy(initial.network), device)
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
    prune_from(small, initial.network, importance.of_weights)
    return dataclasses.replace(initial, network=small.eval().requires_grad_(False))
