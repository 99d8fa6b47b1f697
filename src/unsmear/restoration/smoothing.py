"""Smoothing without a preferred direction."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional


def tent_filtered(x: Tensor, radius: int) -> Tensor:
    """Smooth (1, 1, H, W) with a tent filter that reaches twice the radius: a box filter, twice."""
    for _ in range(2):
        x = functional.pad(x, (radius,) * 4, mode="replicate")
        for dim in (-2, -1):
            x = _means(x, 2 * radius + 1, dim)
    return x


def _means(x: Tensor, count: int, dim: int) -> Tensor:
    """Means of `count` successive values along `dim`, which becomes shorter by `count - 1`."""
    places = x.shape[dim] - count + 1
    # Of sums of 1, 2, 4, 8, ... values: a box filter would add up all of them for each place.
    sums, size, parts = x, 1, []
    begun = 0
    while True:
        if count & size:
            parts.append(sums.narrow(dim, begun, places))
            begun += size
        if begun == count:
            return reduce(torch.add, parts) / count
        most = sums.shape[dim] - size
        sums = sums.narrow(dim, 0, most) + sums.narrow(dim, size, most)
        size *= 2
