"""Objects that move on their own in front of the camera: their outline and their path."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unsmear.data.generators import Generators
from unsmear.data.render import pixel_axes
from unsmear.data.shake import path_length, smooth_path


def draw_outline(
    side: int, size: int, random: Generators, device: torch.device | None = None
) -> Tensor:
    """A random blob whose edge is about one pixel soft.

    Args:
        side: of the canvas in pixels.
        size: of the frames in pixels. The blob is about a quarter of it to all of it wide.
        random: its host generator is advanced.
        device: of the result.

    Returns:
        Coverage of each pixel, 0..1, (1, side, side).
    """
    radius = size * float(random.uniform(0.12, 0.5))
    y, x = pixel_axes(side, side, device)
    angle = torch.atan2(y[:, None], x)
    outline = torch.full_like(angle, radius)
    for wave in range(2, 7):
        strength, phase = random.uniform(0, 1, 2).tolist()
        outline = outline + 0.6 * radius / wave * strength * torch.cos(
            wave * angle + 2 * math.pi * phase
        )
    return (outline - torch.hypot(y[:, None], x)).clamp(0, 1)[None]


def draw_paths(times: Tensor, lengths: Tensor, size: int, random: Generators) -> Tensor:
    """Smooth paths of objects over the scene, as homographies that rotate and shift.

    Args:
        times: of the sub-frames in frame intervals, (n, T, S).
        lengths: blur of each object in one exposure, pixels, (n,).
        size: of the frames in pixels. Objects are placed within a third of it from the centre.
        random: its host generator is advanced.

    Returns:
        (n, T, S, 3, 3), from the canvas of the scene to that of the object.
    """
    path = smooth_path(times, 3, random.host, fastest=0.2)
    scale = (lengths / path_length(path[..., :2]).clamp_min(1e-6))[:, None, None]
    angle = 0.03 * torch.tanh(path[..., 2])
    own = torch.eye(3).repeat(*times.shape, 1, 1)
    own[..., 0, 0] = own[..., 1, 1] = torch.cos(angle)
    own[..., 0, 1], own[..., 1, 0] = -torch.sin(angle), torch.sin(angle)
    place = random.uniform(-size / 3, size / 3, len(times), 1, 1, 2)
    own[..., :2, 2] = path[..., :2] * scale[..., None] + place
    return own
