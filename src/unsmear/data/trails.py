"""The trail of blur that synthesis left at each place, which `unsmear.models.trails` learns to see.

A pixel p that is exposed from t = -1/2 to 1/2 sees, of the frame at mid-exposure, what lies at
p + d(t). Its trail is the straight part of that way: the v for which v * t fits d(t) best. The
picture itself travels by -v meanwhile; blur by v and by -v is the same, so the sign means nothing.
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

# Of a moving layer over a cell: below it only the background counts, above one minus it the layer.
_HARDLY = 0.1


class Trails(NamedTuple):
    """Trails of clips, one a cell of `unsmear.models.trails.CELL` pixels, from the top left; the
    last row and column may reach beyond the frame.

    Attributes:
        vectors: (x, y) in pixels of the frame, (B, T, 2, h, w) with h = ceil(H / CELL).
        known: 1 where they are known, 0 elsewhere, (B, T, 1, h, w).
    """

    vectors: Tensor
    known: Tensor


def fit_trails(
    homographies: Tensor, height: int, width: int, relief: Relief | None = None
) -> Tensor:
    """Trails at the centres of the cells of a frame.

    Args:
        homographies: frame pixels to canvas pixels, both from the centre, (B, T, S, 3, 3): S
            moments at `shutter_times`, the middle one at mid-exposure.
        height: H of the frame in pixels.
        width: W of the frame in pixels.
        relief: of the canvas, where it is no plane.

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
    # Least squares in t. Over a symmetric exposure t and t^2 are orthogonal, so that a bend of the
    # way changes nothing.
    slopes = torch.einsum("s,btspc->btcp", times / times.square().sum(), ways)
    return slopes.unflatten(-1, cells.shape[:2])


def trails_under_layer(camera: Tensor, layer: Tensor, alpha: Tensor) -> Trails:
    """Trails of clips over which a layer moves on its own: the layer's where it lies all through
    the exposure, the camera's where it never does, unknown where both are seen.

    Args:
        camera: trails of what lies behind, (B, T, 2, h, w).
        layer: those of the layer, likewise.
        alpha: of the layer, 0..1, (B, T, S, H, W).
    """
    least, most = alpha.amin(dim=2), alpha.amax(dim=2)  # (B, T, H, W)
    # Cells beyond the frame are the mean of what lies within.
    always, ever = (functional.avg_pool2d(side, CELL, ceil_mode=True) for side in (least, most))
    covered = (always > 1 - _HARDLY).unsqueeze(2)
    free = (ever < _HARDLY).unsqueeze(2)
    return Trails(torch.where(covered, layer, camera), (covered | free).float())


def unknown_trails(clips: Tensor) -> Trails:
    """Zeros, for clips (B, T, 3, H, W) of which nobody knows how they were blurred; on their
    device.
    """
    count, frames, _, height, width = clips.shape
    h, w = -(-height // CELL), -(-width // CELL)
    vectors = torch.zeros(count, frames, 2, h, w, device=clips.device)
    return Trails(vectors, torch.zeros_like(vectors[:, :, :1]))
