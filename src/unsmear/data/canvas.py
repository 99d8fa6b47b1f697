"""Square crops of images and of the optical flow between them: what the virtual camera looks at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cut_canvas(picture: Tensor, side: int, centre: tuple[float, float], half: bool) -> Tensor:
    """A square crop of an image, mirrored beyond its edges, float 0..1.

    Args:
        picture: (3, H, W) or (N, 3, H, W) uint8.
        side: height and width of the canvas in pixels.
        centre: (y, x) of the square, 0..1, as fractions of the room that the image leaves.
        half: take a square of twice the side and halve it by averaging.

    Returns:
        (..., 3, side, side).
    """
    need = 2 * side if half else side
    (rows, _), (columns, _) = _mirrored(picture, need, centre)
    piece = picture[..., rows, :][..., columns].float() / 255
    return functional.avg_pool2d(piece, 2) if half else piece


def cut_flow(flow: Tensor, side: int, centre: tuple[float, float]) -> Tensor:
    """The crop of optical flow that matches `cut_canvas`. Where the image is mirrored, its motion
    is too.

    Args:
        flow: (N, 2, H, W), x and y in pixels.
        side: height and width of the canvas in pixels.
        centre: as in `cut_canvas`.

    Returns:
        (N, 2, side, side), float.
    """
    (rows, upside_down), (columns, turned) = _mirrored(flow, side, centre)
    x, y = flow[..., rows, :][..., columns].float().unbind(dim=-3)
    return torch.stack((torch.where(turned, -x, x), torch.where(upside_down[:, None], -y, y)), -3)


def _mirrored(
    picture: Tensor, need: int, centre: tuple[float, float]
) -> tuple[tuple[Tensor, Tensor], ...]:
    """For rows and for columns of the square crop of an image (..., H, W): the indices (need,),
    mirrored back and forth where the image is too small, and which of them run backwards.
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
