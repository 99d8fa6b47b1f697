"""A network split into graphs for other engines: an encoder and a decoder graph for each level, or
one of each for all levels.
"""

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

_SIDE = 16  # side of the example frame, in multiples of `size_multiple`; graphs take any size


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
        """Features of this level, the tensors in `below` of `DeblurNetwork.decode_level`, and last
        the context if the level has an attention.
        """
        below = others[:-1] if self.has_context else others
        context = others[-1] if self.has_context else None
        x = self.network.decode_level(self.level, features, below, context)
        return self.network.predict(x) if self.level == 0 else x


class EncodeFrame(nn.Module):
    """`DeblurNetwork.encode`, `squeeze` and `sum` of one frame: all that is computed once per
    frame.
    """

    def __init__(self, network: DeblurNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, H, W) -> features of every level, finest first, then peak, weight and total of
        each attention level, see `TemporalSum`.
        """
        features = [frame]  # not `encode`: tracing would make its size check a constant
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
        """Restore one frame.

        Args:
            frame: (1, 3, H, W).
            *others: its features, finest first; the contexts of its window; the coarsest features
                of its neighbours; the motion, if the network has trails; the triplet, if it aligns
                neighbours. See `Neighbourhood`.

        Returns:
            (1, 3, H, W), not clamped.
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
        name: such as `encode_0` or `decode_2`; `encode` or `restore` for all levels together.
        module: takes and returns tensors only.
        example: example inputs, on the CPU, B = 1; other heights and widths are allowed.
        inputs: names of the inputs; None: unnamed.
        outputs: names of the outputs; None: unnamed.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None


class GraphEngine(Engine):
    """An engine that runs the `level_graphs` of a network."""

    @abstractmethod
    def run(self, name: str, inputs: Sequence[Tensor]) -> Tensor:
        """Run one graph."""

    def encode_level(self, level: int, x: Tensor) -> Tensor:
        """Same as `DeblurNetwork.encode_level`."""
        return self.run(f"encode_{level}", (x,))

    def decode_level(
        self, level: int, features: Tensor, below: Sequence[Tensor], context: Tensor | None
    ) -> Tensor:
        """Same as `DeblurNetwork.decode_level`, with `predict` at level 0."""
        inputs = (features, *below) if context is None else (features, *below, context)
        return self.run(f"decode_{level}", inputs)


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
    """One graph for each level of the encoder, then of the decoder; engines run them on tiles.

    Args:
        network: in evaluation mode.
    """
    config = network.config
    last = len(config.widths) - 1
    for level in range(last + 1):
        entering = _features(config, level - 1) if level else _frame(config)
        yield Graph(f"encode_{level}", EncodeLevel(network, level), (entering,))
    for level in reversed(range(last + 1)):
        inputs = [_features(config, level)]
        coarser = min(level + 1, last)
        inputs += [_features(config, coarser, count) for count in config.channels_below(level)]
        if level in config.aligned_levels:
            inputs.append(_triplet(config))
        if level in config.attention_levels:
            inputs.append(_context(config, level))
        yield Graph(f"decode_{level}", DecodeLevel(network, level), tuple(inputs))


def frame_graphs(network: DeblurNetwork) -> Iterator[Graph]:
    """Two graphs for other programs: `encode` runs once per frame, `restore` once per window.

    Args:
        network: in evaluation mode.
    """
    config = network.config
    levels = range(len(config.widths))
    features = tuple(f"features_{level}" for level in levels)
    sums = tuple(
        f"{part}_{level}" for level in config.attention_levels for part in TemporalSum._fields
    )
    yield Graph("encode", EncodeFrame(network), (_frame(config),), ("frame",), (*features, *sums))
    inputs = {"frame": _frame(config)}
    inputs |= {f"features_{level}": _features(config, level) for level in levels}
    inputs |= {f"context_{level}": _context(config, level) for level in config.attention_levels}
    around = [f"neighbour_{number}" for number in range(2 * config.neighbours)]
    around += ["motion"] if config.trail_levels else []
    for name, channels in zip(around, config.channels_below(levels[-1]), strict=True):
        inputs[name] = _features(config, levels[-1], channels)
    if config.aligned_levels:
        inputs["triplet"] = _triplet(config)
    yield Graph(
        "restore", RestoreFrame(network), tuple(inputs.values()), tuple(inputs), ("restored",)
    )
