"""Night: dim scenes, and lamps far brighter than a sensor can record.

Exposures are long at night, so hand shake blurs most. A lamp that crosses a pixel for a tenth of
the exposure still saturates it: its streak is as white as the lamp. Blurring a photograph, whose
lamps are clipped, would not give such streaks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.data.generators import Generators

_DIM = (0.03, 0.4)  # fraction of daylight
_MOST_LAMPS = 8 / 176**2  # per pixel
_RADII = (0.8, 5.0)  # pixels
_LIGHT = (1.0, 40.0)  # 1 saturates the sensor in a whole exposure
_GLOW = 0.04  # maximum glow around a lamp, as a fraction of its light
_REACH = 24  # pixels, radius of the glow


class Lamps(NamedTuple):
    """Discs of light.

    Attributes:
        places: centres (x, y) in pixels from the centre of the top left pixel, (N, 2).
        radii: pixels, (N,).
        light: linear RGB of each, may exceed 1, (N, 3).
        glow: its glow as a fraction of its light, (N,).
    """

    places: Tensor
    radii: Tensor
    light: Tensor
    glow: Tensor


def draw_dimming(count: int, share: float, random: Generators) -> Tensor:
    """Factors by which the light of `count` clips is dimmed, (count,). A share of them are at
    night; the others get 1. With a share of 0 no random number is drawn, so results for a given
    seed do not change.
    """
    if not share:
        return torch.ones(count)
    dim = random.log_uniform(*_DIM, count)
    return torch.where(random.uniform(0, 1, count) < share, dim, torch.ones(()))


def draw_lamps(side: int, random: Generators) -> Lamps:
    """Lamps of one canvas of side x side pixels; there may be none."""
    most = _MOST_LAMPS * side**2
    count = round(float(random.uniform(0, 1)) ** 2 * most)
    places = random.uniform(0, side - 1, count, 2)
    radii = random.log_uniform(*_RADII, count)
    light = random.log_uniform(*_LIGHT, count, 1)
    # From the orange of sodium lamps over white to sky blue.
    warm = random.uniform(-0.5, 0.9, count, 1)
    colour = torch.exp(warm * torch.tensor([0.4, 0.0, -1.0]))
    return Lamps(places, radii, light * colour, random.uniform(0, _GLOW, count))


def add_lamps(linear: Tensor, lamps: Lamps) -> Tensor:
    """Add lamps to a canvas.

    Args:
        linear: linear light, (3, P, P).
        lamps: on any device.

    Returns:
        (3, P, P), above 1 where lamps are.
    """
    height, width = linear.shape[-2:]
    places, radii, light, glow = (part.to(linear.device) for part in lamps)
    window = torch.arange(-_REACH, _REACH + 1, device=linear.device)
    middle = places.round().long()
    x, y = middle[:, :1] + window, middle[:, 1:] + window  # (N, K) each
    away = torch.hypot((y - places[:, 1:])[:, :, None], (x - places[:, :1])[:, None])
    disc = (radii[:, None, None] + 0.5 - away).clamp(0, 1)  # edge of one pixel
    around = glow[:, None, None] * torch.exp(-away / (1 + radii[:, None, None]))
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
    values = light[..., None, None] * torch.maximum(disc, around)[:, None] * inside[:, None]
    where = y.clamp(0, height - 1)[:, :, None] * width + x.clamp(0, width - 1)[:, None]
    flat = linear.flatten(1)
    return flat.index_add(1, where.flatten(), values.movedim(1, 0).flatten(1)).view_as(linear)
