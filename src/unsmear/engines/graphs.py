"""A network cut into the graphs that other engines run: one for each level, each way."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unsmear.engines.base import Engine
from unsmear.models.attention import TemporalSum
from unsmear.models.config import NetworkConfig
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import DeblurNetwork, Encoded

_SIDE = 16  # of the example frame, in multiples of what the network takes; graphs take any size


class EncodeLevel(nn.Module):
    """`DeblurNetwork.encode_level` of one level."""

    def __init__(self, network: DeblurNetwork, level: int) -> None:
        super().__init__()
        self.network, self.level = network, level

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, widths[level], H_l, W_l)."""
        return self.network.encode_level(self.level, x)


class DecodeLevel(nn.Module):
    """`DeblurNetwork.decode_level` of one level, with `predict` at level 0."""

    def __init__(self, network: DeblurNetwork, level: int) -> None:
        super().__init__()
        self.network, self.level = network, level
        self.has_context = level in network.config.attention_levels

    def forward(self, features: Tensor, *others: Tensor) -> Tensor:
        """Features of this level, what `DeblurNetwork.decode_level` takes as `below`, and last
        the context where the level has an attention.
        """
        below = others[:-1] if self.has_context else others
        context = others[-1] if self.has_context else None
        x = self.network.decode_level(self.level, features, below, context)
        return self.network.predict(x) if self.level == 0 else x


class EncodeFrame(nn.Module):
    """`DeblurNetwork.encode`, `squeeze` and `sum` of one frame: all that is ever asked of it."""

    def __init__(self, network: DeblurNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, H, W) -> features of every level, finest first, then peak, weight and total of
        each attention level, see `TemporalSum`.
        """
        features = [frame]  # not by `encode`, whose check of the size would be traced as a constant
        for level in range(len(self.network.config.widths)):
            features.append(self.network.encode_level(level, features[-1]))
        sums = self.network.sum(self.network.squeeze(Encoded(frame, tuple(features[1:]))))
        return (*features[1:], *(part for level in sums for part in level))


class RestoreFrame(nn.Module):
    """`DeblurNetwork.restore`."""

    def __init__(self, network: DeblurNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor, *others: Tensor) -> Tensor:
        """The frame, its features, the contexts of its window, the coarsest features of its
        neighbours, where the network follows trails the motion around it, where it aligns
        neighbours the triplet -> the restored frame, (1, 3, H, W), not clamped.
        """
        config = self.network.config
        rest = iter(others)

        def take(count: int) -> tuple[Tensor, ...]:
            return tuple(itertools.islice(rest, count))

        features, contexts = take(len(config.widths)), take(len(config.attention_levels))
        around = Neighbourhood(take(2 * config.neighbours), *rest)
        return self.network.restore(Encoded(frame, features), contexts, around)


class Graph(NamedTuple):
    """One part of a network.

    Attributes:
        name: `encode_0`, `decode_2`, or `encode`, `restore` for all levels together.
        module: takes and gives plain tensors.
        example: inputs of the right shapes; height and width may differ, with B = 1.
        inputs: names, where it has any.
        outputs: names, likewise.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None


def encode_name(level: int) -> str:
    """Name of the graph of `encode_level`."""
    return f"encode_{level}"


def decode_name(level: int) -> str:
    """Name of the graph of `decode_level`."""
    return f"decode_{level}"


class GraphEngine(Engine):
    """Runs a network as its `level_graphs`, by their names."""

    @abstractmethod
    def run(self, name: str, inputs: Sequence[Tensor]) -> Tensor:
        """One graph."""

    def encode_level(self, level: int, x: Tensor) -> Tensor:
        """As `DeblurNetwork.encode_level`."""
        return self.run(encode_name(level), (x,))

    def decode_level(
        self, level: int, features: Tensor, below: Sequence[Tensor], context: Tensor | None
    ) -> Tensor:
        """As `DeblurNetwork.decode_level`, with `predict` at level 0."""
        inputs = (features, *below) if context is None else (features, *below, context)
        return self.run(decode_name(level), inputs)


def _frame(config: NetworkConfig) -> Tensor:
    side = _SIDE * config.size_multiple
    return torch.zeros(1, 3, side, side, dtype=torch.float32)


def _features(config: NetworkConfig, level: int, channels: int | None = None) -> Tensor:
    side = _SIDE * config.size_multiple // (config.stem * 2**level)
    return torch.zeros(1, channels or config.widths[level], side, side, dtype=torch.float32)


def _triplet(config: NetworkConfig) -> Tensor:
    return torch.cat((_frame(config),) * 3, dim=1)


def _context(config: NetworkConfig, level: int) -> Tensor:
    elements = config.spatial_maps * config.temporal_maps
    return torch.zeros(1, elements, config.widths[level], dtype=torch.float32)


def level_graphs(network: DeblurNetwork) -> Iterator[Graph]:
    """A network level by level, as engines run it in tiles, the encoder first.

    Args:
        network: in evaluation mode, on the CPU.
    """
    config = network.config
    last = len(config.widths) - 1
    for level in range(last + 1):
        entering = _features(config, level - 1) if level else _frame(config)
        yield Graph(encode_name(level), EncodeLevel(network, level), (entering,))
    for level in reversed(range(last + 1)):
        inputs = [_features(config, level)]
        coarser = min(level + 1, last)
        inputs += [_features(config, coarser, count) for count in config.channels_below(level)]
        if level in config.aligned_levels:
            inputs.append(_triplet(config))
        if level in config.attention_levels:
            inputs.append(_context(config, level))
        yield Graph(decode_name(level), DecodeLevel(network, level), tuple(inputs))


def frame_graphs(network: DeblurNetwork) -> Iterator[Graph]:
    """A network as two graphs, for other programs: `encode` a frame once, `restore` it from its
    window.

    Args:
        network: in evaluation mode, on the CPU.
    """
    config = network.config
    levels = range(len(config.widths))
    features = tuple(f"features_{level}" for level in levels)
    sums = tuple(
        f"{part}_{level}" for level in config.attention_levels for part in TemporalSum._fields
    )
    yield Graph("encode", EncodeFrame(network), (_frame(config),), ("frame",), (*features, *sums))
    yield Graph(
        "restore",
        RestoreFrame(network),
        (
            _frame(config),
            *(_features(config, level) for level in levels),
            *(_context(config, level) for level in config.attention_levels),
            *(_features(config, levels[-1], count) for count in config.channels_below(levels[-1])),
            *((_triplet(config),) if config.aligned_levels else ()),
        ),
        (
            "frame",
            *features,
            *(f"context_{level}" for level in config.attention_levels),
            *(f"neighbour_{number}" for number in range(2 * config.neighbours)),
            *(("motion",) if config.trail_levels else ()),
            *(("triplet",) if config.aligned_levels else ()),
        ),
        ("restored",),
    )
