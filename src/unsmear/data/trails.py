"""Ground-truth trails of synthesised blur, which `unsmear.models.trails` learns to estimate.

A pixel p that is exposed from t = -1/2 to 1/2 sees the point p + d(t) of the frame at mid-exposure.
Its trail is the linear part of this path: the v for which v * t fits d(t) best. Meanwhile the image
itself moves by -v. Blur by v and by -v is the same, so the sign has no meaning.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.data.relief import Relief
from unsmear.data.render import cell_centres
from unsmear.data.shake import shutter_times, transform_points
from unsmear.models.trails import CELL

# Coverage of a cell by a moving layer. Below this only the background counts; above 1 minus this
# only the layer.
_HARDLY = 0.1


class Trails(NamedTuple):
    """Trails of clips, one for each cell of `unsmear.models.trails.CELL` pixels, counted from the
    top left. The last row and column may reach beyond the frame.

    Attributes:
        vectors: (x, y) in pixels of the frame, (B, T, 2, h, w) with h = ceil(H / CELL).
        known: 1 where the trail is known, 0 elsewhere, (B, T, 1, h, w).
    """

    vectors: Tensor
    known: Tensor


def fit_trails(
    homographies: Tensor, height: int, width: int, relief: Relief | None = None
) -> Tensor:
    """Trails at the centres of a frame's cells.

    Args:
        homographies: frame pixels to canvas pixels, both measured from the centre,
            (B, T, S, 3, 3): S moments at `shutter_times`, the middle one at mid-exposure.
        height: H of the frame in pixels.
        width: W of the frame in pixels.
        relief: of the canvas. None: the canvas is a plane.

    Returns:
        (B, T, 2, h, w), (x, y) in pixels.

    Raises:
        ValueError: S is even or below 3.
    """
    samples = homographies.shape[2]
    if samples < 3 or samples % 2 == 0:
        raise ValueError(f"homographies has {samples} moments a frame: must be odd, 3 at least")
    cells = cell_centres(height, width, homographies.device)
    centres = cells.flatten(0, 1)
    middle = samples // 2
    from_canvas = torch.linalg.inv(homographies[:, :, middle : middle + 1])
    if relief is None:
        places = transform_points(from_canvas @ homographies, centres)  # (B, T, S, hw, 2)
    else:
        flat = transform_points(homographies, centres)
        seen = flat + relief.shift(flat)
        places = transform_points(from_canvas, relief.flattened(seen, middle))
    ways = places - centres
    times = shutter_times(samples).to(homographies.device)
    # Least squares in t. Over a symmetric exposure, t and t^2 are orthogonal, so the curvature of
    # the path has no effect.
    slopes = torch.einsum("s,btspc->btcp", times / times.square().sum(), ways)
    return slopes.unflatten(-1, cells.shape[:2])


def trails_under_layer(camera: Tensor, layer: Tensor, alpha: Tensor) -> Trails:
    """Trails of clips over which a layer moves on its own. They are the layer's where it covers the
    cell throughout the exposure, the camera's where it never does, and unknown in between.

    Args:
        camera: trails of the background, (B, T, 2, h, w).
        layer: trails of the layer, same shape.
        alpha: of the layer, 0..1, (B, T, S, H, W).
    """
    least, most = alpha.amin(dim=2), alpha.amax(dim=2)  # (B, T, H, W)
    # Cells that reach beyond the frame: mean over the part inside.
    always, ever = (functional.avg_pool2d(side, CELL, ceil_mode=True) for side in (least, most))
    covered = (always > 1 - _HARDLY).unsqueeze(2)
    free = (ever < _HARDLY).unsqueeze(2)
    return Trails(torch.where(covered, layer, camera), (covered | free).float())


def unknown_trails(clips: Tensor) -> Trails:
    """Zero trails, marked unknown, for clips (B, T, 3, H, W). On the device of the clips."""
    count, frames, _, height, width = clips.shape
    h, w = -(-height // CELL), -(-width // CELL)
    vectors = torch.zeros(count, frames, 2, h, w, device=clips.device)
    return Trails(vectors, torch.zeros_like(vectors[:, :, :1]))
