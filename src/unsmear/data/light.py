"""sRGB transfer functions (IEC 61966-2-1): sensors average light, so blur is made in it."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_from_srgb(encoded: Tensor) -> Tensor:
    """Display-referred sRGB 0..1 -> linear light 0..1, any shape, float."""
    return torch.where(
        encoded <= 0.04045, encoded / 12.92, ((encoded.clamp_min(0) + 0.055) / 1.055) ** 2.4
    )


def srgb_from_linear(linear: Tensor) -> Tensor:
    """Linear light (clipped to 0..1, as a sensor saturates) -> sRGB 0..1, any shape, float."""
    light = linear.clamp(0, 1)
    return torch.where(
        light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(1e-8) ** (1 / 2.4) - 0.055
    )


def round_to_8_bit(encoded: Tensor) -> Tensor:
    """Clip to 0..1 and round to multiples of 1/255, as an 8-bit file would hold it."""
    return encoded.clamp(0, 1).mul(255).round().div(255)
