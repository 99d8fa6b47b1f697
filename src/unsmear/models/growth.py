"""A trained network as the start of a larger one, which at first restores as the trained one does.

Channels, blocks and modules are added; none of the added ones reaches what was there, so that
nothing changes until they have learned something. Source: function-preserving transformations of
Net2Net (Chen et al. 2016, arXiv 1511.05641); channels are not copied here but start random, with
weights of zero on the way to the old ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unsmear.models.config import NetworkConfig
from unsmear.models.network import DeblurNetwork
from unsmear.models.trails import PLACES

Parts = Sequence[tuple[int, int, int]]
"""Which inputs of a convolution are which of a larger one: first of the small one, first of the
large one, how many."""


@torch.no_grad()
def take_over(network: DeblurNetwork, trained: DeblurNetwork) -> None:
    """Have a fresh network restore as a trained one.

    Args:
        network: what it has more than the trained one keeps its fresh weights, but for those that
            would reach what the trained one has.
        trained: the same, or a smaller one.

    Raises:
        ValueError: the one cannot go on from the other, see `NetworkConfig.goes_on_from`.
    """
    if not network.config.goes_on_from(trained.config):
        raise ValueError("the trained network is no part of the other, see goes_on_from")
    small, large = trained.config, network.config
    theirs = dict(trained.named_parameters())
    for name, parameter in network.named_parameters():
        if name not in theirs:
            continue
        outputs = len(theirs[name])
        if parameter.dim() == 1:
            parameter[:outputs] = theirs[name]
            continue
        parameter[:outputs] = 0
        for first, place, count in _inputs(name, theirs[name], small, large):
            parameter[:outputs, place : place + count] = theirs[name][:, first : first + count]
    for sequence in ("encoder", "decoder"):
        for level, blocks in enumerate(getattr(network, sequence)):
            for block in blocks[len(getattr(trained, sequence)[level]) :]:
                _silence(block.second)
    for level in large.attention_levels:
        if level not in small.attention_levels:
            _silence(network.merges[str(level)])


def _inputs(name: str, weight: Tensor, small: NetworkConfig, large: NetworkConfig) -> Parts:
    """Where the inputs of a trained convolution lie in the larger one of the same name."""
    room, *rest, _ = name.split(".")  # "trails", "1", "mix"
    if room == "local_fusion":  # a block of channels for each frame, earliest first
        ours, theirs = large.widths[-1], small.widths[-1]
        earlier = large.neighbours - small.neighbours
        return [
            (number * theirs, (number + earlier) * ours, theirs)
            for number in range(2 * small.neighbours + 1)
        ]
    beside = {"trail_head": "enter", "trails": "mix", "aligned": "enter"}
    if rest and rest[-1] == beside.get(room):  # first the features, then what is looked at too
        level = int(rest[0]) if len(rest) > 1 else -1
        ours, theirs = large.widths[level], small.widths[level]
        if room == "trails":  # at each of the places
            more, less = large.trail_channels, small.trail_channels
            places = range(len(PLACES))
            seen = [(theirs + n * less, ours + n * more, less) for n in places]
        else:
            seen = [(theirs, ours, weight.shape[1] - theirs)]
        return [(0, 0, theirs), *seen]
    return [(0, 0, weight.shape[1])]


def _silence(layer: nn.Module) -> None:
    """Have a convolution give nothing, until it has learned."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
