"""Conversion between encoded values and linear light. Sensors integrate linear light, so blur is
synthesised in it.

Files are taken to be sRGB (IEC 61966-2-1). Real cameras deviate: their curves have other gammas,
deeper shadows and softer highlights. `ResponseCurves` are of that kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.data.generators import Generators

_GAMMAS = (1.8, 2.6)
_GAINS = (0.45, 1.2)
_BRIGHT_GAINS = (1.2, 3.0)
_MOST_CONTRAST = 1.35  # exponent of the S-curve, which is its slope in the middle; 1: none


class ResponseCurves(NamedTuple):
    """How the camera of each of B clips encodes light. On the CPU.

    Attributes:
        other: whether the curve differs from sRGB, (B,) bool. If not, the rest is ignored.
        gamma: light is encoded as its power 1 / gamma, (B,), above 0.
        contrast: exponent of the S-curve that follows, (B,), above 0; 1: none.
    """

    other: Tensor
    gamma: Tensor
    contrast: Tensor

    def of(self, clips: Sequence[int]) -> ResponseCurves:
        """The curves of some clips, in the order of their indices."""
        return ResponseCurves(*(part[list(clips)] for part in self))


def draw_curves(count: int, share: float, random: Generators) -> ResponseCurves:
    """Draw curves of `count` clips. A share of them are not sRGB, and half of these have an S-curve
    too. With a share of 0 no random number is drawn, so results for a given seed do not change.
    """
    if not share:
        return ResponseCurves(torch.zeros(count, dtype=torch.bool), *torch.ones(2, count))
    other = random.uniform(0, 1, count) < share
    gamma = random.uniform(*_GAMMAS, count)
    bent = random.uniform(0, 1, count) < 0.5
    contrast = random.log_uniform(1, _MOST_CONTRAST, count)
    return ResponseCurves(other, gamma, torch.where(bent, contrast, 1.0))


def draw_exposures(count: int, share: float, random: Generators) -> Tensor:
    """Draw exposure gains of clips, (count,), above 0.

    Args:
        count: number of clips.
        share: probability that a clip is exposed for the shadows, with highlights clipped to
            white. With 0 no random number is drawn for it, so results for a given seed do not
            change.
        random: its host generator is advanced.
    """
    gain = random.log_uniform(*_GAINS, count)
    if not share:
        return gain
    bright = random.uniform(0, 1, count) < share
    return torch.where(bright, random.log_uniform(*_BRIGHT_GAINS, count), gain)


def linear_light(encoded: Tensor, curves: ResponseCurves) -> Tensor:
    """Decode what cameras encoded to linear light.

    Args:
        encoded: 0..1, (B, ...), float.
        curves: of B clips.

    Returns:
        Linear light 0..1, same shape.
    """
    linear = linear_from_srgb(encoded)
    if not curves.other.any():
        return linear
    where, gamma, contrast = _others(curves, encoded)
    # An S-curve with the reciprocal exponent is the inverse.
    straight = _s_curve(encoded[where].clamp(0, 1), 1 / contrast)
    return linear.index_copy(0, where, straight**gamma)


def encode_light(linear: Tensor, curves: ResponseCurves) -> Tensor:
    """Encode linear light as cameras do, clipped to 0..1, as a sensor saturates.

    Args:
        linear: (B, ...), float.
        curves: of B clips.

    Returns:
        0..1, same shape.
    """
    encoded = srgb_from_linear(linear)
    if not curves.other.any():
        return encoded
    where, gamma, contrast = _others(curves, linear)
    return encoded.index_copy(
        0, where, _s_curve(linear[where].clamp(0, 1) ** (1 / gamma), contrast)
    )


def _others(curves: ResponseCurves, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indices (N,) of the clips that have a curve of their own, and its gamma and contrast, shaped
    (N, 1, ...) to broadcast over pictures (B, ...).
    """
    where = curves.other.nonzero()[:, 0]
    shape = (-1, *(1,) * (pictures.dim() - 1))
    gamma, contrast = (part[where].view(shape) for part in (curves.gamma, curves.contrast))
    return where.to(pictures.device), gamma.to(pictures), contrast.to(pictures)


def _s_curve(values: Tensor, exponent: Tensor) -> Tensor:
    """Power of the odds: 0, 1/2 and 1 are fixed points. An exponent above 1 raises contrast, below
    1 lowers it. Values 0..1 in and out.
    """
    up, down = values**exponent, (1 - values) ** exponent
    return up / (up + down)


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
