"""Parallax: a photograph treated as a surface with near and far parts in front of a moving camera.

When a camera translates (rather than rotates), near parts move further across the image than far
ones and blur more: leaves beside a path, while the houses behind them stay sharp. Here a smooth
relief is drawn over the canvas. Layers (`cutouts.py`) are for edges where near occludes far.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.data.generators import Generators
from unsmear.data.render import cell_centres, sample_canvas
from unsmear.data.shake import path_length, smooth_path, transform_points
from unsmear.models.trails import CELL

_CELLS = (3, 6)  # knots across the canvas, minimum and maximum
_STEEPEST = 0.6  # travel in pixels per pixel of canvas: from 1 on a surface would fold over itself
_ROUNDS = 12  # iterations, until the error is 0.6^12 of the travel


class Relief(NamedTuple):
    """How near the parts of a canvas are, and how the camera's translation shifts them.

    Attributes:
        nearness: over the canvas, 0 (on its plane) to 1, (B, 1, P, P).
        travel: shift of parts with nearness 1 relative to the plane, in pixels, (B, T, S, 2).
    """

    nearness: Tensor
    travel: Tensor

    def shift(self, points: Tensor) -> Tensor:
        """Offset from points (B, T, S, N, 2) of a flat canvas to the points seen there instead."""
        return self._nearness_at(points) * self.travel[..., None, :]

    def flattened(self, seen: Tensor, moment: int) -> Tensor:
        """Inverse of the shift at one of the S moments: points of a flat canvas at which the points
        `seen` appear. Both (B, T, S, N, 2).
        """
        travel = self.travel[:, :, moment, None, None]
        points = seen
        for _ in range(_ROUNDS):
            points = seen - self._nearness_at(points) * travel
        return points

    def shifts(self, homographies: Tensor, height: int, width: int) -> Tensor:
        """`shift` for all pixels of frames, (B, T, S, H * W, 2). It is computed at the centres of
        cells and interpolated: in between a relief is almost linear.

        Args:
            homographies: frame pixels to canvas pixels, (B, T, S, 3, 3).
            height: H of the frames.
            width: W of the frames.
        """
        centres = cell_centres(height, width, homographies.device)
        coarse = self.shift(transform_points(homographies, centres.flatten(0, 1)))
        lines = coarse.unflatten(-2, centres.shape[:2]).movedim(-1, -3).flatten(0, 2)
        fine = functional.interpolate(
            lines, scale_factor=CELL, mode="bilinear", align_corners=False
        )
        cut = fine[..., :height, :width].unflatten(0, coarse.shape[:3])
        return cut.movedim(-3, -1).flatten(-3, -2)

    def to(self, device: torch.device) -> Relief:
        """The same on another device."""
        return Relief(self.nearness.to(device), self.travel.to(device))

    def _nearness_at(self, points: Tensor) -> Tensor:
        return sample_canvas(self.nearness, points, outside="border")[:, 0, ..., None]


def draw_relief(times: Tensor, lengths: Tensor, side: int, random: Generators) -> Relief:
    """Draw a relief and the camera's translation past it.

    Args:
        times: of the sub-frames in frame intervals, (B, T, S).
        lengths: wanted additional blur of the nearest parts in pixels, (B,); 0: none. Reduced where
            the relief would fold over itself.
        side: P, of the canvas.
        random: its host generator is advanced.
    """
    fields = []
    for _ in lengths:
        knots = _CELLS[0] + random.index(_CELLS[1] - _CELLS[0] + 1)
        rough = random.uniform(-1, 1, 1, 1, knots, knots)
        field = functional.interpolate(rough, (side, side), mode="bicubic", align_corners=True)
        # Mostly near or far with slopes in between, rather than hills everywhere.
        steep, level = float(random.uniform(2, 6)), float(random.uniform(-0.4, 0.4))
        fields.append(torch.sigmoid(steep * (field[0] - level)))
    nearness = torch.stack(fields)
    path = smooth_path(times, 2, random.host, fastest=0.25)  # people walk evenly
    path = path - (path.amax(dim=(1, 2), keepdim=True) + path.amin(dim=(1, 2), keepdim=True)) / 2
    slopes = [nearness.diff(dim=dim).abs().amax(dim=(1, 2, 3)) for dim in (-2, -1)]
    farthest = path.norm(dim=-1).amax(dim=(1, 2))
    most = _STEEPEST / (torch.stack(slopes).norm(dim=0) * farthest).clamp_min(1e-9)
    scale = torch.minimum(lengths / path_length(path).clamp_min(1e-6), most)
    return Relief(nearness, path * scale[:, None, None, None])
