"""Initialise a network from a smaller trained one, so that at first both give the same output:
networks of the zoo, and those that polish.

Channels, blocks and modules are added. They do not affect the trained ones until they have
learned. Source: function-preserving transformations of Net2Net (Chen et al. 2016, arXiv
1511.05641). Unlike there, new channels are not copies: they start random, and their weights into
trained channels are zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unsmear.models.config import NetworkConfig
from unsmear.models.layers import start_at_zero
from unsmear.models.network import DeblurNetwork
from unsmear.models.polish import PolishNetwork
from unsmear.models.trails import PLACES

Parts = Sequence[tuple[int, int, int]]
"""Input channels of a convolution that map to those of a larger one, as runs: first channel in the
small one, first channel in the large one, count.
"""


@torch.no_grad()
def grow_from(network: DeblurNetwork, trained: DeblurNetwork) -> None:
    """Copy a trained network into an untrained one of the same or larger shape, in place.

    Args:
        network: untrained; its additional parameters keep their initial values, except that those
            that would affect trained channels become zero.
        trained: of the same shape, or smaller.

    Raises:
        ValueError: the trained network does not fit, see `NetworkConfig.can_grow_from`.
    """
    if not network.config.can_grow_from(trained.config):
        raise ValueError("the trained network is no part of the other, see can_grow_from")
    small, large = trained.config, network.config
    theirs = dict(trained.named_parameters())
    for name, parameter in network.named_parameters():
        if name not in theirs:
            continue
        if parameter.dim() < 2:  # single numbers may be of an attention of one's own
            parameter.flatten()[: theirs[name].numel()] = theirs[name].flatten()
            continue
        outputs = len(theirs[name])
        parameter[:outputs] = 0
        for first, place, count in _inputs(name, theirs[name], small, large):
            parameter[:outputs, place : place + count] = theirs[name][:, first : first + count]
    for sequence in ("encoder", "decoder"):
        for level, blocks in enumerate(getattr(network, sequence)):
            for block in blocks[len(getattr(trained, sequence)[level]) :]:
                start_at_zero(block.second)
    for level in large.attention_levels:
        if level not in small.attention_levels:
            start_at_zero(network.merges[str(level)])


@torch.no_grad()
def grow_polish_from(network: PolishNetwork, trained: PolishNetwork) -> None:
    """As `grow_from`, for networks that polish: one of more blocks, or one that is told what
    reblurring finds. What is new is not heeded yet, so a pass gives what it gave.

    Raises:
        ValueError: the trained network does not fit, see `PolishConfig.can_grow_from`.
    """
    if not network.config.can_grow_from(trained.config):
        raise ValueError("the trained network is no part of the other, see can_grow_from")
    small, parameters = trained.config, dict(network.named_parameters())
    for name, known in trained.named_parameters():
        # Channels that are new come last, in what the network takes as in the kernels it predicts.
        parameters[name].zero_()[tuple(map(slice, known.shape))] = known
    for block in [*network.blocks][small.blocks :] + [*network.deep][small.deep_blocks :]:
        start_at_zero(block.second)


def _inputs(name: str, weight: Tensor, small: NetworkConfig, large: NetworkConfig) -> Parts:
    """Where the input channels of a trained convolution are in the larger one of the same name."""
    module, *rest, _ = name.split(".")  # "trails", "1", "mix"
    if module == "local_fusion":  # one run of channels per frame, in temporal order
        ours, theirs = large.widths[-1], small.widths[-1]
        earlier = large.neighbours - small.neighbours
        return [
            (number * theirs, (number + earlier) * ours, theirs)
            for number in range(2 * small.neighbours + 1)
        ]
    beside = {"trail_head": "enter", "trails": "mix", "aligned": "enter"}
    if rest and rest[-1] == beside.get(module):  # first the features, then the other inputs
        level = int(rest[0]) if len(rest) > 1 else -1
        ours, theirs = large.widths[level], small.widths[level]
        if module == "trails":  # one run per sampling position
            more, less = large.trail_channels, small.trail_channels
            places = range(len(PLACES))
            seen = [(theirs + n * less, ours + n * more, less) for n in places]
        else:
            seen = [(theirs, ours, weight.shape[1] - theirs)]
        return [(0, 0, theirs), *seen]
    return [(0, 0, weight.shape[1])]
