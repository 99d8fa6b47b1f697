"""Images in motion: sampling a canvas through homographies, compositing and exposure.

A canvas is a part of an image in linear light. It is larger than the frames made from it, and the
reference frame is at its centre. Points are (x, y) in pixels from the centre.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.models.trails import CELL


def pixel_axes(
    height: int, width: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Centres of the rows (H,) and columns (W,) of a frame, in pixels from its centre."""
    y = torch.arange(height, dtype=torch.float32, device=device) - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float32, device=device) - (width - 1) / 2
    return y, x


def cell_centres(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Centres of a frame's cells, counted from the top left: (x, y) in pixels from the centre of
    the frame, (h, w, 2) with h = ceil(H / CELL). The last row and column may lie beyond the frame.
    """
    y, x = (
        (torch.arange(-(-size // CELL), device=device) + 0.5) * CELL - size / 2
        for size in (height, width)
    )
    return torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), dim=-1)


def frame_points(homographies: Tensor, height: int, width: int) -> Tensor:
    """Where every pixel of a frame lands: `transform_points` for all pixels, computed from rows and
    columns, since a homography is linear in each before the division.

    Args:
        homographies: (..., 3, 3).
        height: H of the frame.
        width: W of the frame.

    Returns:
        (..., H*W, 2), (x, y) in pixels from the centre.
    """
    y, x = pixel_axes(height, width, homographies.device)

    def linear(row: int) -> Tensor:
        h = homographies[..., row, :, None, None]  # (..., 3, 1, 1)
        along_x = h[..., 0, :, :] * x  # (..., 1, W)
        along_y = h[..., 1, :, :] * y[:, None] + h[..., 2, :, :]  # (..., H, 1)
        return along_x + along_y

    depth = linear(2).clamp_min(1e-3).reciprocal_()
    points = torch.stack((linear(0).mul_(depth), linear(1).mul_(depth)), dim=-1)
    return points.flatten(-3, -2)


def sample_canvas(
    canvas: Tensor, points: Tensor, *, outside: str = "reflection", mode: str = "bilinear"
) -> Tensor:
    """Samples of a canvas.

    Args:
        canvas: (B, C, P, Q).
        points: (B, ..., 2) in canvas pixels from its centre.
        outside: `reflection`, `border` or `zeros`, for points beyond the canvas.
        mode: `nearest`, `bilinear` or `bicubic`.

    Returns:
        (B, C, ...).
    """
    height, width = canvas.shape[-2:]
    half = torch.tensor(
        [max(width - 1, 1) / 2, max(height - 1, 1) / 2], dtype=points.dtype, device=points.device
    )
    grid = (points / half).flatten(1, -2).unsqueeze(1)  # (B, 1, K, 2)
    values = functional.grid_sample(
        canvas, grid, mode=mode, padding_mode=outside, align_corners=True
    )
    return values.reshape(*canvas.shape[:2], *points.shape[1:-1])


def sample_light(light: Tensor, points: Tensor, *, outside: str = "reflection") -> Tensor:
    """Samples of an image in linear light that keep its detail between pixels, where bilinear
    sampling loses half of the finest detail. Bicubic, clamped to the range of the four surrounding
    pixels: near a lamp it would undershoot below black.

    Args, returns: as `sample_canvas`.
    """
    sample = partial(sample_canvas, points=points, outside=outside)
    # An image of the minimum over each 2x2 pixels has the same centre, and one pixel for each 2x2.
    least = sample(-functional.max_pool2d(-light, 2, stride=1), mode="nearest")
    most = sample(functional.max_pool2d(light, 2, stride=1), mode="nearest")
    return sample(light, mode="bicubic").clamp_(least, most)


def render(
    canvas: Tensor,
    homographies: Tensor,
    height: int,
    width: int,
    *,
    shifts: Tensor | None = None,
    outside: str = "reflection",
) -> Tensor:
    """Render sub-frames of a canvas seen through homographies.

    Args:
        canvas: (B, C, P, Q), linear light.
        homographies: frame pixels to canvas pixels, (B, T, S, 3, 3).
        height: of the frames.
        width: of the frames.
        shifts: added to the canvas point of every pixel, (B, T, S, H * W, 2), pixels; None: zero.
        outside: see `sample_canvas`.

    Returns:
        Sub-frames (B, C, T, S, H, W).
    """
    points = frame_points(homographies, height, width)  # (B, T, S, HW, 2)
    if shifts is not None:
        points += shifts
    return sample_light(canvas, points, outside=outside).unflatten(-1, (height, width))


def composite(foreground: Tensor, background: Tensor) -> Tensor:
    """Composite a premultiplied layer over sub-frames, in linear light.

    Args:
        foreground: colour times alpha, then alpha: (B, 4, ...).
        background: (B, 3, ...).

    Returns:
        (B, 3, ...).
    """
    return foreground[:, :3] + (1 - foreground[:, 3:]) * background


def expose(subframes: Tensor) -> tuple[Tensor, Tensor]:
    """Average what the open shutter sees. The sharp frame is the sub-frame at mid-exposure.

    Args:
        subframes: linear light, (B, C, T, S, H, W), S odd.

    Returns:
        Blurry and sharp, each (B, T, C, H, W), linear light.
    """
    blurry = subframes.mean(dim=3)
    sharp = subframes[:, :, :, subframes.shape[3] // 2]
    return blurry.transpose(1, 2), sharp.transpose(1, 2)
