"""Weights in eight bits on disk: about half the size of float16, for files that are released.

Arithmetic stays in float32. Each output channel of a convolution or projection has a scale of its
own, so that rounding is off by at most a 254th of the channel's largest weight. The blocks of the
finest level keep float16: they hold few of the weights, and nearly all of what rounding costs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".scale"  # what the key of a tensor's scales ends in
_MOST = 127  # symmetric: 0 stays 0, and -128 is not used
# In `core` 11 % of the weights; eight bits there cost up to 0.01 dB, in any other group 0.003.
_FINEST = ("encoder.0.", "decoder.0.")


def pack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round weights to eight bits.

    Args:
        state: a `state_dict`, floating point.

    Returns:
        Of each tensor of two or more dimensions its values, int8, and under its key and `SCALE`
        the scale of each output channel (its first dimension), float32; of others and of those of
        the finest level's blocks, float16.
    """
    packed: dict[str, Tensor] = {}
    for key, value in state.items():
        if value.ndim < 2 or key.startswith(_FINEST):
            packed[key] = value.half()
            continue
        largest = value.float().flatten(1).abs().amax(dim=1)
        scale = torch.where(largest > 0, largest / _MOST, 1.0)
        packed[key] = (value.float() / _aligned(scale, value)).round().to(torch.int8)
        packed[key + SCALE] = scale
    return packed


def packed_shapes(shapes: Mapping[str, list[int]], packed: frozenset[str]) -> dict[str, list[int]]:
    """What a file holds, `packed` being the keys of its tensors that have eight bits."""
    scales = {key + SCALE: shape[:1] for key, shape in shapes.items() if key in packed}
    return {**shapes, **scales}


def unpack(tensors: Mapping[str, Tensor], keys: list[str]) -> dict[str, Tensor]:
    """The tensors of `keys`, float32, with their scales where they have some."""
    return {
        key: tensors[key].float() * _aligned(tensors[key + SCALE], tensors[key])
        if key + SCALE in tensors
        else tensors[key].float()
        for key in keys
    }


def _aligned(scale: Tensor, value: Tensor) -> Tensor:
    """(N) -> (N, 1, ...), to go with (N, ...)."""
    return scale.float().reshape(*scale.shape, *(1,) * (value.ndim - scale.ndim))
