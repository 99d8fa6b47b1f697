"""Between what a file holds and linear light: sensors average light, so blur is made in it.

Files are taken for sRGB (IEC 61966-2-1). Cameras do not keep to it: theirs are curves of another
gamma, with deeper shadows and softer highlights. `ResponseCurves` are of that kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.data.motion import Generators

_GAMMAS = (1.8, 2.6)
_GAINS = (0.45, 1.2)
_BRIGHT_GAINS = (1.2, 3.0)
_MOST_CONTRAST = 1.35  # exponent of the S-curve: the slope in its middle; 1 is a straight line


class ResponseCurves(NamedTuple):
    """How the camera of each of B clips encodes light.

    Attributes:
        other: whether it is not sRGB, (B,) bool; where it is the rest counts for nothing.
        gamma: light is encoded to the power of one over this, (B,), above 0.
        contrast: exponent of the S-curve that follows, (B,), above 0; 1: none.
    """

    other: Tensor
    gamma: Tensor
    contrast: Tensor

    def of(self, clips: Sequence[int]) -> ResponseCurves:
        """Those of some clips, in the order of their indices."""
        return ResponseCurves(*(part[list(clips)] for part in self))


def draw_curves(count: int, share: float, random: Generators) -> ResponseCurves:
    """Curves of `count` clips, a share of which are not sRGB: half of these with an S-curve."""
    other = random.uniform(0, 1, count) < share
    gamma = random.uniform(*_GAMMAS, count)
    bent = random.uniform(0, 1, count) < 0.5
    contrast = torch.exp(random.uniform(0, math.log(_MOST_CONTRAST), count))
    return ResponseCurves(other, gamma, torch.where(bent, contrast, 1.0))


def draw_exposures(count: int, share: float, random: Generators) -> Tensor:
    """What the light of each clip is multiplied by, (count,), above 0.

    Args:
        count: of clips.
        share: probability of a clip to be exposed for what is dark, so that what is bright is
            white. With 0 nothing is drawn for it, and seeds give what they gave.
        random: the one of the host is advanced.
    """
    gain = _log_uniform(_GAINS, count, random)
    if not share:
        return gain
    bright = random.uniform(0, 1, count) < share
    return torch.where(bright, _log_uniform(_BRIGHT_GAINS, count, random), gain)


def _log_uniform(span: tuple[float, float], count: int, random: Generators) -> Tensor:
    low, high = span
    return torch.exp(random.uniform(math.log(low), math.log(high), count))


def linear_light(encoded: Tensor, curves: ResponseCurves | None = None) -> Tensor:
    """What stood before cameras, of what they encoded.

    Args:
        encoded: 0..1, (B, ...), float.
        curves: of B clips; None: all are sRGB.

    Returns:
        Likewise, linear light 0..1.
    """
    linear = linear_from_srgb(encoded)
    if curves is None:
        return linear
    where, gamma, contrast = _others(curves, encoded)
    # An S-curve with the reciprocal exponent is the way back.
    straight = _s_curve(encoded[where].clamp(0, 1), 1 / contrast)
    return linear.index_copy(0, where, straight**gamma)


def encode_light(linear: Tensor, curves: ResponseCurves | None = None) -> Tensor:
    """What cameras make of linear light, clipped to 0..1, as a sensor saturates.

    Args:
        linear: (B, ...), float.
        curves: of B clips; None: all are sRGB.

    Returns:
        Likewise, 0..1.
    """
    encoded = srgb_from_linear(linear)
    if curves is None:
        return encoded
    where, gamma, contrast = _others(curves, linear)
    return encoded.index_copy(
        0, where, _s_curve(linear[where].clamp(0, 1) ** (1 / gamma), contrast)
    )


def _others(curves: ResponseCurves, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which clips (N,) have a curve of their own; its gamma and contrast, (N, 1, ...), beside
    pictures (B, ...).
    """
    where = curves.other.nonzero()[:, 0]
    shape = (-1, *(1,) * (pictures.dim() - 1))
    gamma, contrast = (part[where].view(shape) for part in (curves.gamma, curves.contrast))
    return where.to(pictures.device), gamma.to(pictures), contrast.to(pictures)


def _s_curve(values: Tensor, exponent: Tensor) -> Tensor:
    """Odds to the power of the exponent: 0, 1/2 and 1 stay, what lies between is drawn apart where
    it is above 1 and together where it is below. Values 0..1, likewise back.
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
