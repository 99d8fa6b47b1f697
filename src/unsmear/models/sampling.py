"""Bilinear sampling of features at subpixel positions; edge pixels are repeated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def sample_at(features: Tensor, displacement: Tensor) -> Tensor:
    """Sample features (B, C, H, W) at each pixel plus a displacement (B, 2, H, W), x and y, in
    pixels of the features -> (B, C, H, W), float32.
    """
    height, width = features.shape[-2:]
    displacement = displacement.float()  # half precision has no subpixel steps at large x or y
    x = torch.arange(width, device=displacement.device) + displacement[:, 0]
    y = torch.arange(height, device=displacement.device)[:, None] + displacement[:, 1]
    return sample(features.float(), x, y, clamped=features.device.type == "mps")


def sample(features: Tensor, x: Tensor, y: Tensor, *, clamped: bool = False) -> Tensor:
    """Sample features (B, C, H, W) at positions x and y, (B, H', W'), in pixels -> (B, C, H', W').

    Args:
        features: float32, as are the positions.
        x: 0 is the centre of the leftmost pixel.
        y: 0 is the centre of the topmost pixel.
        clamped: clamp the positions to the frame first. The result is the same. For devices whose
            grid_sample has no border padding (Apple's GPUs before torch 2.13, see
            pytorch/pytorch#125098).
    """
    height, width = features.shape[-2:]
    padding = "border"
    if clamped:
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
        # Rounding may move a position just past the edge; reflected there, it samples the same.
        padding = "reflection"
    # grid_sample maps -1 to the left edge of the first pixel, 1 to the right edge of the last.
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    return functional.grid_sample(
        features, grid, mode="bilinear", padding_mode=padding, align_corners=False
    )


def sum_at(features: Tensor, displacements: Sequence[Tensor]) -> Tensor:
    """Sum of `sample_at` over several displacements -> (B, H * W, C), float32.

    On a CPU without gradients, a faster implementation takes half the time: it stores the channels
    of a pixel next to each other and fetches them at once. It is not used with gradients, because
    its backward pass would be slower than that of grid_sample.
    """
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    recorded = tracing or torch.compiler.is_compiling()  # the graph may run anywhere
    if features.device.type == "cpu" and not torch.is_grad_enabled() and not recorded:
        return _weighted_rows(features, displacements)
    total = sample_at(features, displacements[0])
    for displacement in displacements[1:]:
        total = total + sample_at(features, displacement)
    return by_pixel(total)


def by_pixel(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C)."""
    return x.flatten(2).transpose(1, 2)


def _weighted_rows(features: Tensor, displacements: Sequence[Tensor]) -> Tensor:
    """`sum_at` as weighted sums over the rows of a table with one row per pixel."""
    batch, channels, height, width = features.shape
    x, y = torch.arange(width), torch.arange(height)[:, None]
    # Row offsets from the upper left of four pixels to each; a single row or column has no next.
    right, down = int(width > 1), width * int(height > 1)
    around = torch.tensor([0, right, down, down + right], dtype=torch.int32)
    first = (torch.arange(batch, dtype=torch.int32) * (height * width)).view(-1, 1, 1, 1)
    rows, weights = [], []
    for displacement in displacements:
        # NaN would index outside the table.
        across, along = displacement.float().nan_to_num().unbind(dim=1)
        across = (across + x).clamp_(0, width - 1)
        along = (along + y).clamp_(0, height - 1)
        # The last pixel is interpolated from the one before it, with weight 1.
        left = across.clamp(max=max(width - 2, 0)).floor()
        top = along.clamp(max=max(height - 2, 0)).floor()
        across, along = across.sub_(left), along.sub_(top)  # now the fractional parts, 0..1
        upper_left = top.to(torch.int32).mul_(width).add_(left.to(torch.int32))
        rows.append(upper_left.unsqueeze(-1) + (around + first))
        before, above = 1 - across, 1 - along
        weights += [before * above, across * above, before * along, across * along]
    sums = functional.embedding_bag(
        torch.cat(rows, dim=-1).flatten(0, 2),
        features.float().permute(0, 2, 3, 1).reshape(-1, channels),
        per_sample_weights=torch.stack(weights, dim=-1).flatten(0, 2),
        mode="sum",
    )
    return sums.unflatten(0, (batch, -1))
