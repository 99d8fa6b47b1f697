"""8-bit weights on disk: about half the size of float16, for released files.

Computation stays in float32. Each output channel of a convolution or projection has its own scale,
so the rounding error is at most 1/254 of the channel's largest weight. The blocks of the finest
level stay in float16: they hold few of the weights, but rounding them causes most of the loss.

Weights may be rounded to fewer bits. The file is as large then, but what compresses it (Git,
wheels) makes it smaller.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from unsmear.errors import ConfigError

SCALE = ".scale"  # suffix of the key of a tensor's scales
# In `core` 11 % of the weights; 8 bits cost up to 0.01 dB there, 0.003 dB in any other group.
_FINEST = ("encoder.0.", "decoder.0.")


def pack(state: Mapping[str, Tensor], bits: int = 8) -> dict[str, Tensor]:
    """Quantise weights to 8 bits or fewer.

    Args:
        state: a `state_dict`, floating point.
        bits: 2 to 8; the range is symmetric, so 0 stays 0, and -128 is not used.

    Returns:
        For each tensor of two or more dimensions: its values in int8, and under its key plus
        `SCALE` the scale of each output channel (first dimension) in float32. Other tensors, and
        those of the finest level's blocks, in float16.

    Raises:
        ConfigError: `bits` is out of range.
    """
    if not 2 <= bits <= 8:
        raise ConfigError(f"bits is {bits}: must be from 2 to 8")
    most = 2 ** (bits - 1) - 1
    packed: dict[str, Tensor] = {}
    for key, value in state.items():
        if value.ndim < 2 or key.startswith(_FINEST):
            packed[key] = value.half()
            continue
        largest = value.float().flatten(1).abs().amax(dim=1)
        scale = torch.where(largest > 0, largest / most, 1.0)
        packed[key] = (value.float() / _aligned(scale, value)).round().to(torch.int8)
        packed[key + SCALE] = scale
    return packed


def packed_shapes(shapes: Mapping[str, list[int]], packed: frozenset[str]) -> dict[str, list[int]]:
    """Shapes of all tensors in a file, scales included.

    Args:
        shapes: shapes of the network's tensors, by key.
        packed: keys of those that are stored in 8 bits.
    """
    scales = {key + SCALE: shape[:1] for key, shape in shapes.items() if key in packed}
    return {**shapes, **scales}


def unpack(tensors: Mapping[str, Tensor], keys: list[str]) -> dict[str, Tensor]:
    """The tensors of `keys` in float32, multiplied by their scales if they have any."""
    return {
        key: tensors[key].float() * _aligned(tensors[key + SCALE], tensors[key])
        if key + SCALE in tensors
        else tensors[key].float()
        for key in keys
    }


def _aligned(scale: Tensor, value: Tensor) -> Tensor:
    """Scales (N) -> (N, 1, ...), to broadcast over a value (N, ...)."""
    return scale.float().reshape(*scale.shape, *(1,) * (value.ndim - scale.ndim))
