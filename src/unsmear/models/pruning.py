"""Structured pruning: initialise a network from the most important part of a larger trained one.

Channels that are summed by residual connections are kept or dropped together: the features of a
level form one group, and so do the channels between two convolutions of a module. Of the blocks of
a level, the last ones are kept: in the first `pro`, the earlier ones did almost nothing at coarse
levels. Source: first-order Taylor importance (Molchanov et al. 2019, arXiv 1906.10771), summed
over all weights that write or read a channel.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.models.config import NetworkConfig
from unsmear.models.network import DeblurNetwork
from unsmear.models.trails import PLACES


class Run(NamedTuple):
    """A run of consecutive output or input channels of a convolution.

    Attributes:
        group: group that they belong to; None: none, all are kept.
        repeats: consecutive channels for each channel of the group.
    """

    group: str | None
    repeats: int = 1


Ends = dict[str, tuple[Run, tuple[Run, ...]]]
"""Output run and input runs of convolutions, by name."""


class Importance:
    """Importance of each weight of a network: sum over batches of (weight * gradient)**2.

    Args:
        network: trained; its parameters must require gradients.

    Attributes:
        of_weights: importance so far, by name of the parameter.
    """

    def __init__(self, network: DeblurNetwork) -> None:
        self._network = network
        self.of_weights: dict[str, Tensor] = {
            name: torch.zeros_like(value) for name, value in network.named_parameters()
        }

    @torch.no_grad()
    def add(self) -> None:
        """Accumulate the current gradients of the parameters."""
        for name, value in self._network.named_parameters():
            if value.grad is not None:
                self.of_weights[name] += (value * value.grad).square()


@torch.no_grad()
def prune_from(
    network: DeblurNetwork, trained: DeblurNetwork, importance: Mapping[str, Tensor]
) -> None:
    """Copy the most important part of a trained network into a smaller one, in place.

    Args:
        network: the smaller one.
        trained: the larger one.
        importance: of the weights of `trained`, by name, see `Importance`.

    Raises:
        ValueError: the shapes do not fit, see `NetworkConfig.is_part_of`.
    """
    if not network.config.is_part_of(trained.config):
        raise ValueError("the network is no part of the trained one, see is_part_of")
    ours = dict(network.named_parameters())
    sources = {name: _source(name, network.config, trained.config) for name in ours}
    theirs = dict(trained.named_parameters())
    layouts = {name: _layout(name, network.config) for name in ours}
    sizes = _sizes({name: theirs[source] for name, source in sources.items()}, layouts)
    wanted = _sizes(ours, layouts)
    scores = _scores({name: importance[source] for name, source in sources.items()}, layouts, sizes)
    kept = {
        group: scores[group].topk(count).indices.sort().values for group, count in wanted.items()
    }
    for name, parameter in ours.items():
        value: Tensor = theirs[sources[name]]
        for axis, runs in enumerate(layouts[name]):
            picked = [
                start + _kept_indices(run, length, kept)
                for run, start, length in _spans(runs, value.shape[axis], sizes)
            ]
            value = value.index_select(axis, torch.cat(picked).to(value.device))
        parameter.copy_(value)


def _source(name: str, small: NetworkConfig, large: NetworkConfig) -> str:
    """Name of the trained parameter from which a parameter is copied."""
    module, *rest = name.split(".")
    if module not in ("encoder", "decoder"):
        return name
    level, block, *rest = rest
    counts = [getattr(shape, f"{module}_blocks")[int(level)] for shape in (small, large)]
    return ".".join((module, level, str(int(block) + counts[1] - counts[0]), *rest))


def _layout(name: str, config: NetworkConfig) -> tuple[tuple[Run, ...], ...]:
    """Runs of channels along the output axis and, for weights, the input axis of a parameter."""
    module, *rest, kind = name.split(".")
    levels = [Run(f"level {number}") for number in range(len(config.widths))]
    number = int(rest[0]) if rest and rest[0].isdigit() else 0
    own, coarser = levels[number], levels[min(number + 1, len(levels) - 1)]
    between = Run(".".join((module, *rest[:-1])))
    ungrouped = Run(None)
    # Modules of several convolutions, by name of the convolution.
    block: Ends = {"first": (between, (own,)), "second": (own, (between,))}
    hidden, sampled = Run(f"{module} {number}"), Run(f"{module} {number} sampled")
    tables: dict[str, Ends] = {
        "encoder": block,
        "decoder": block,
        "trail_head": {"enter": (ungrouped, (levels[-1], ungrouped))},
        "trails": {
            "enter": (sampled, (own,)),
            "mix": (hidden, (own, *[sampled] * len(PLACES))),
            "leave": (own, (hidden,)),
        },
        "aligned": {
            "enter": (hidden, (own, ungrouped)),
            "first": (between, (hidden,)),
            "second": (hidden, (between,)),
            "leave": (own, (hidden,)),
        },
    }
    alone: Ends = {
        "stem": (levels[0], (ungrouped,)),
        "downs": (coarser, (own,)),
        "ups": (own._replace(repeats=4), (coarser,)),  # pixel shuffle: four for one channel
        "attentions": (ungrouped, (own,)),
        "merges": (own, (own,)),
        "local_fusion": (levels[-1], (levels[-1],) * (2 * config.neighbours + 1)),
        "head": (ungrouped, (levels[0],)),
    }
    if module in tables:
        outputs, inputs = tables[module].get(rest[-1], (ungrouped, (ungrouped,)))
    else:
        outputs, inputs = alone[module]
    return ((outputs,), inputs) if kind == "weight" else ((outputs,),)


def _scores(
    importance: Mapping[str, Tensor],
    layouts: Mapping[str, tuple[tuple[Run, ...], ...]],
    sizes: Mapping[str, int],
) -> dict[str, Tensor]:
    """Importance of each channel of each group: summed over all weights that write or read it."""
    scores = {group: torch.zeros(size) for group, size in sizes.items()}
    for name, value in importance.items():
        for axis, runs in enumerate(layouts[name]):
            along = value.cpu().movedim(axis, 0).reshape(value.shape[axis], -1).sum(dim=1)
            for run, start, length in _spans(runs, len(along), sizes):
                if run.group is not None:
                    part = along[start : start + length].unflatten(0, (-1, run.repeats))
                    scores[run.group] += part.sum(dim=1)
    return scores


def _sizes(
    parameters: Mapping[str, Tensor], layouts: Mapping[str, tuple[tuple[Run, ...], ...]]
) -> dict[str, int]:
    """Number of channels of each group, from the outputs of its convolutions."""
    outputs = ((layouts[name][0][0], len(value)) for name, value in parameters.items())
    return {run.group: count // run.repeats for run, count in outputs if run.group is not None}


def _spans(
    runs: tuple[Run, ...], size: int, sizes: Mapping[str, int]
) -> Iterator[tuple[Run, int, int]]:
    """Each run along an axis of length `size`, with its start and length."""
    lengths = [0 if run.group is None else sizes[run.group] * run.repeats for run in runs]
    rest = size - sum(lengths)  # in no group: at most one run
    lengths = [
        rest if run.group is None else length for run, length in zip(runs, lengths, strict=True)
    ]
    starts = itertools.accumulate(lengths, initial=0)
    return zip(runs, starts, lengths, strict=False)


def _kept_indices(run: Run, length: int, kept: Mapping[str, Tensor]) -> Tensor:
    """Indices of the channels that are kept, relative to the start of the run."""
    if run.group is None:
        return torch.arange(length)
    return (kept[run.group][:, None] * run.repeats + torch.arange(run.repeats)).flatten()
