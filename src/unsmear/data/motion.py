"""Random camera motion for batches of clips: hand shake, scaled to a wanted blur length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unsmear.data.generators import Generators
from unsmear.data.shake import (
    OrientationLog,
    blur_length,
    exposure_times,
    path_length,
    plane_homographies,
    recorded_rotations,
    rotation_matrices,
    smooth_path,
    transform_points,
)


@dataclass(frozen=True)
class Motion:
    """How the camera of each clip moves.

    Attributes:
        homographies: frame pixels to canvas pixels, (B, T, S, 3, 3).
        times: of the sub-frames in frame intervals, (B, T, S).
    """

    homographies: Tensor
    times: Tensor


def draw_motion(
    lengths: Tensor,
    frames: int,
    size: int,
    logs: Sequence[OrientationLog],
    recorded_share: float,
    random: Generators,
    further: float = 0.0,
) -> Motion:
    """Draw hand shake for each clip, scaled so that its mean blur has the wanted length.

    Args:
        lengths: wanted mean blur of each clip in pixels, (B,).
        frames: T.
        size: height and width of the frames in pixels.
        logs: recorded orientations, may be empty.
        recorded_share: probability that a clip follows a log, if there is one.
        random: its host generator is advanced.
        further: longest blur in pixels of anything that moves on its own in front of the camera.
    """
    count = len(lengths)
    # Enough samples that neighbouring ones are 1.5 pixels apart, or 3 where a frame is blurred
    # twice as much as its clip. Wider gaps would show as combs. Objects that move on their own
    # cover less of the frame: 2 pixels.
    samples = math.ceil(min(max(float(lengths.max()) / 1.5, further / 2, 6), 32)) // 2 * 2 + 1
    times = exposure_times(frames, samples, random.uniform(0.35, 1.0, count))
    focal = 640 * random.uniform(0.7, 1.4, count)
    # The frame is a crop: the principal point lies anywhere in the whole image around it.
    principal = torch.stack(
        (random.uniform(-320, 320, count), random.uniform(-190, 190, count)), dim=-1
    )
    normal = torch.cat((random.uniform(-0.6, 0.6, count, 2), torch.ones(count, 1)), dim=-1)
    weights = torch.tensor([1.0, 1.0, 1.0, 0.4, 0.4, 1.2]) * random.uniform(0, 1, count, 6)
    path = smooth_path(times, 6, random.host) * weights[:, None, None]  # radians, plane distances
    for index in range(count):
        if logs and random.chance(recorded_share):
            hand = _draw_recorded(logs, times[index], random)
            moved = path[index : index + 1, ..., 3:]  # a small translation stays random
            moved *= 0.2 * path_length(hand[None]) / path_length(moved).clamp_min(1e-9)
            path[index, ..., :3] = hand

    def homographies(scale: Tensor) -> Tensor:
        scaled = path * scale[:, None, None, None]
        rotation = rotation_matrices(scaled[..., :3])
        return plane_homographies(rotation, scaled[..., 3:], normal, focal, principal)

    # Displacement is proportional to the scale for small angles: two steps suffice.
    scale = torch.full((count,), 1e-3)
    for _ in range(2):
        found = blur_length(homographies(scale), size, size).mean(dim=1)
        scale = scale * lengths / found.clamp_min(1e-6)
    return Motion(_keep_centre(homographies(scale)), times)


def _draw_recorded(logs: Sequence[OrientationLog], times: Tensor, random: Generators) -> Tensor:
    """Rotation vectors (T, S, 3) of a random part of a random log. Axes are sometimes swapped, as
    phones are held upright or sideways.
    """
    log = logs[random.index(len(logs))]
    interval = float(random.uniform(1 / 60, 1 / 12))
    reach = float(times.abs().max()) * interval
    start = float(random.uniform(reach, max(log.duration - reach, reach)))
    rotation = recorded_rotations(log, times, start, interval)
    skew = (rotation - rotation.transpose(-1, -2)) / 2  # log of a small rotation
    vectors = torch.stack((skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]), dim=-1)
    order = [1, 0, 2] if random.chance(0.5) else [0, 1, 2]
    return vectors[..., order]


def _keep_centre(homographies: Tensor) -> Tensor:
    """Shift on the canvas, so that the clip as a whole looks at the centre of the canvas."""
    origin = transform_points(homographies, torch.zeros(1, 2))[..., 0, :]  # (B, T, S, 2)
    middle = (origin.amax(dim=(1, 2)) + origin.amin(dim=(1, 2))) / 2
    shift = torch.eye(3).repeat(len(homographies), 1, 1)
    shift[:, :2, 2] = -middle
    return shift[:, None, None] @ homographies
