"""Things that move on their own before the camera: their outline, and where they are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unsmear.data.motion import Generators
from unsmear.data.render import pixel_axes
from unsmear.data.shake import smooth_path, way_length


def draw_outline(
    side: int, size: int, random: Generators, device: torch.device | None = None
) -> Tensor:
    """A random blob with soft edges of about a pixel.

    Args:
        side: of the canvas.
        size: of the frames; the blob is about a quarter of it to all of it wide.
        random: the host's generator, advanced.
        device: of the result.

    Returns:
        (1, side, side), how much of each pixel it covers, 0..1.
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


def draw_ways(times: Tensor, lengths: Tensor, size: int, random: Generators) -> Tensor:
    """Smooth ways of things over the scene, as homographies that turn and shift.

    Args:
        times: (n, T, S), of the sub-frames, in frame intervals.
        lengths: (n,), how far each smears in an exposure, pixels.
        size: of the frames; where things are is at most a third of it from the centre.
        random: the host's generator, advanced.

    Returns:
        (n, T, S, 3, 3), from the canvas of the scene to that of the thing.
    """
    path = smooth_path(times, 3, random.host, fastest=0.2)
    scale = (lengths / way_length(path[..., :2]).clamp_min(1e-6))[:, None, None]
    angle = 0.03 * torch.tanh(path[..., 2])
    own = torch.eye(3).repeat(*times.shape, 1, 1)
    own[..., 0, 0] = own[..., 1, 1] = torch.cos(angle)
    own[..., 0, 1], own[..., 1, 0] = -torch.sin(angle), torch.sin(angle)
    place = random.uniform(-size / 3, size / 3, len(times), 1, 1, 2)
    own[..., :2, 2] = path[..., :2] * scale[..., None] + place
    return own
