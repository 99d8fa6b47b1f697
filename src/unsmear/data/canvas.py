"""Squares cut from pictures and from the optical flow between them: what the camera looks at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cut_canvas(picture: Tensor, side: int, centre: tuple[float, float], half: bool) -> Tensor:
    """A square of a picture, edges mirrored beyond it, float 0..1.

    Args:
        picture: (3, H, W) or (N, 3, H, W) uint8.
        side: height and width of the canvas.
        centre: of the square, as shares 0..1 of the room that the picture leaves.
        half: take a square of twice the side and shrink it by averaging.

    Returns:
        (..., 3, side, side).
    """
    need = 2 * side if half else side
    (rows, _), (columns, _) = _mirrored(picture, need, centre)
    piece = picture[..., rows, :][..., columns].float() / 255
    return functional.avg_pool2d(piece, 2) if half else piece


def cut_flow(flow: Tensor, side: int, centre: tuple[float, float]) -> Tensor:
    """The square of optical flow that belongs to that of `cut_canvas`: what is seen in a mirror
    moves the other way.

    Args:
        flow: (N, 2, H, W), x and y in pixels.
        side: height and width of the canvas.
        centre: as there.

    Returns:
        (N, 2, side, side), float.
    """
    (rows, upside_down), (columns, turned) = _mirrored(flow, side, centre)
    x, y = flow[..., rows, :][..., columns].float().unbind(dim=-3)
    return torch.stack((torch.where(turned, -x, x), torch.where(upside_down[:, None], -y, y)), -3)


def _mirrored(
    picture: Tensor, need: int, centre: tuple[float, float]
) -> tuple[tuple[Tensor, Tensor], ...]:
    """Rows and columns (need,) of the square of a picture (..., H, W), mirrored to and fro beyond
    its ends where it is too small; and which of them run backwards.
    """
    ways = []
    for length, share in zip(picture.shape[-2:], centre, strict=True):
        have = min(length, need)
        first = round(share * (length - have))
        period = max(2 * have - 2, 1)
        index = (torch.arange(need, device=picture.device) - (need - have) // 2) % period
        back = period - index
        ways.append((first + torch.minimum(index, back), index > back))
    return tuple(ways)
