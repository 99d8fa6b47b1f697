"""Fusion by attention, without alignment: non-local, factorised (the paper's), and gated."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsmear.models.attention import FactorizedAttention, spatial_squeeze, temporal_squeeze
from unsmear.models.fusion.base import Fusion
from unsmear.models.layers import conv3x3, start_near_zero


def split_windows(x: Tensor, side: int) -> Tensor:
    """Split feature maps into squares, zero-padded at the right and the bottom.

    Args:
        x: (B, C, H, W).
        side: of the squares, in pixels of x.

    Returns:
        (B, R, side * side, C), the R squares row by row.
    """
    height, width = x.shape[-2:]
    x = functional.pad(x, (0, -width % side, 0, -height % side))
    squares = x.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, C, r, side, c, side)
    return squares.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)


def join_windows(squares: Tensor, side: int, height: int, width: int) -> Tensor:
    """Inverse of `split_windows`: (B, R, side * side, C) -> (B, C, height, width)."""
    rows, columns = -(-height // side), -(-width // side)
    x = squares.unflatten(1, (rows, columns)).unflatten(3, (side, side))
    x = x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
    return x[..., :height, :width]


class NonLocalFusion(Fusion):
    """Every pixel of the current frame attends to every pixel of every frame, within a square.

    Source: Wang et al. 2018, "Non-local Neural Networks" (embedded Gaussian). Reproduces: one
    softmax over space and time, (HW) x (THW) weights. Simplifies: it works in separate squares of
    `side` x `side` pixels, since over a whole frame its memory usage grows with the square of the
    number of pixels (benchmarks/attention.py).

    Args:
        channels: C.
        hidden: channels of queries, keys and values.
        side: of the squares, in pixels of the features.
    """

    def __init__(self, channels: int, hidden: int, side: int = 8) -> None:
        super().__init__()
        self.side = side
        self.query = nn.Conv2d(channels, hidden, kernel_size=1)
        self.key = nn.Conv2d(channels, hidden, kernel_size=1)
        self.value = nn.Conv2d(channels, hidden, kernel_size=1)
        self.out = start_near_zero(nn.Conv2d(hidden, channels, kernel_size=1))

    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> (B, C, H, W)."""
        batch, frames, _, height, width = features.shape
        here, all_frames = features[:, current], features.flatten(0, 1)

        def of_window(x: Tensor) -> Tensor:  # (B * T, c, H, W) -> (B, R, T * side * side, c)
            parts = split_windows(x, self.side).unflatten(0, (batch, frames))
            return parts.transpose(1, 2).flatten(2, 3)

        query = split_windows(self.query(here), self.side)  # (B, R, side * side, c)
        inside = of_window(torch.ones_like(all_frames[:, :1]))[..., 0] > 0  # not padding
        mixed = functional.scaled_dot_product_attention(
            query,
            of_window(self.key(all_frames)),
            of_window(self.value(all_frames)),
            attn_mask=inside.unsqueeze(2),
        )
        added: Tensor = self.out(join_windows(mixed, self.side, height, width))
        return here + added


def focused(attention: FactorizedAttention, focus: float) -> FactorizedAttention:
    """Multiply the initial weights of f_s and f_p by a factor, in place."""
    with torch.no_grad():
        attention.f_s.weight.mul_(focus)
        attention.f_p.weight.mul_(focus)
    return attention


class FactorizedFusion(Fusion):
    """The paper's factorised spatio-temporal attention, then a projection.

    Source: arXiv 2201.00169, eq. 1-6 (`unsmear.models.attention`). Simplifies nothing: only
    the projection (1x1) and the sum with the current frame's features are ours, as in
    `DeblurNetwork`.

    Args:
        channels: C.
        spatial_maps: M.
        temporal_maps: N.
        focus: factor on the initial weights of f_s and f_p.
    """

    def __init__(
        self, channels: int, spatial_maps: int, temporal_maps: int, focus: float = 1.0
    ) -> None:
        super().__init__()
        self.attention = focused(FactorizedAttention(channels, spatial_maps, temporal_maps), focus)
        self.merge = nn.Conv2d(channels, channels, kernel_size=1)

    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> (B, C, H, W)."""
        here = features[:, current]
        window = self.attention.describe(features)
        taken: Tensor = self.merge(self.attention.fuse(here, window))
        return here + taken


class GatedFusion(Fusion):
    """The factorised attention with a gate: blurred pixels and frames get less weight.

    Source: GSTA (Suin and Rajagopalan, CVPR 2021, "Gated Spatio-Temporal Attention-Guided Video
    Deblurring"), its gate. Reproduces: the spatial weights are multiplied by 1 - blur mask.
    Our choices where the paper is open: the mask comes from two convolutions on each frame's
    features, without supervision; weights are normalised again, so that a descriptor stays a mean;
    and the temporal weight of a frame is multiplied by its mean of 1 - mask, which that
    normalisation removes. Leaves out: the choice of key frames, which `ChosenFusion` has. All sums
    over pixels and frames still merge, so streaming and tiles would stay exact.

    Args:
        channels: C.
        hidden: channels of the mask's head.
        spatial_maps: M.
        temporal_maps: N.
        focus: factor on the initial weights of f_s and f_p.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        spatial_maps: int,
        temporal_maps: int,
        focus: float = 1.0,
    ) -> None:
        super().__init__()
        self.attention = focused(FactorizedAttention(channels, spatial_maps, temporal_maps), focus)
        self.gate = nn.Sequential(
            conv3x3(channels, hidden), nn.ReLU(), nn.Conv2d(hidden, 1, kernel_size=1)
        )
        self.merge = nn.Conv2d(channels, channels, kernel_size=1)

    def blur_mask(self, features: Tensor) -> Tensor:
        """Features of frames (B, C, H, W) -> blur of each pixel, 0..1, (B, 1, H, W)."""
        return torch.sigmoid(self.gate(features))

    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> (B, C, H, W)."""
        here, frames = features[:, current], features.flatten(0, 1)
        # A factor of 1 - mask after the exponential is the summand log(1 - mask) before it.
        log_sharp = functional.logsigmoid(-self.gate(frames))  # (B * T, 1, H, W)
        logits = (self.attention.f_s(frames) + log_sharp).unflatten(0, features.shape[:2])
        squeezed = spatial_squeeze(features, logits)  # (B, T, M, C)
        pixels = math.log(log_sharp[0].numel())
        frame_gate = log_sharp.logsumexp(dim=(-3, -2, -1)) - pixels  # log of the mean, (B * T,)
        temporal = self.attention.temporal_logits(features.mean(dim=(-2, -1)))  # (B, N, T)
        temporal = temporal + frame_gate.unflatten(0, features.shape[:2]).unsqueeze(1)
        context = temporal_squeeze(squeezed, temporal).flatten(1, 2)
        taken: Tensor = self.merge(self.attention.distribute(here, context))
        return here + taken
