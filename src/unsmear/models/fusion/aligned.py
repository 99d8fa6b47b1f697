"""Fusion by alignment: neighbours are aligned to the current frame, then mixed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsmear.models.fusion.base import Fusion, pair_with_current
from unsmear.models.layers import conv3x3, start_at_zero, start_near_zero
from unsmear.models.precision import at_least_float32
from unsmear.models.sampling import sample_at

TAPS = 9  # of a 3x3 kernel, row by row


def deformable_convolution(
    x: Tensor, offsets: Tensor, modulation: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """Modulated deformable 3x3 convolution: each tap has an offset and a weight at each pixel (Zhu
    et al. 2019, "Deformable ConvNets v2"). Zero padding. With zero offsets and modulation 1 it is
    the plain convolution.

    Args:
        x: (B, C, H, W).
        offsets: displacement to the right and down in pixels, (B, G, 9, 2, H, W), for G groups of
            C / G channels.
        modulation: (B, G, 9, H, W).
        weight: (O, C, 3, 3).
        bias: (O,).

    Returns:
        (B, O, H, W).
    """
    batch, groups, _, _, height, width = offsets.shape
    precise = at_least_float32(x)  # half precision has no subpixel steps far from the corner
    columns = torch.arange(width, dtype=precise, device=x.device)
    rows = torch.arange(height, dtype=precise, device=x.device)[:, None]
    tap = torch.arange(TAPS, device=x.device)[:, None, None]
    columns = columns + (tap % 3 - 1) + offsets[:, :, :, 0]  # (B, G, 9, H, W)
    rows = rows + (tap // 3 - 1) + offsets[:, :, :, 1]
    grid = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), dim=-1)
    sampled = functional.grid_sample(
        x.to(precise).reshape(batch * groups, -1, height, width),
        grid.reshape(batch * groups, TAPS * height, width, 2),
        padding_mode="zeros",
        align_corners=False,
    ).to(x.dtype)  # (B * G, C / G, 9 * H, W)
    sampled = sampled.unflatten(2, (TAPS, height)) * modulation.flatten(0, 1).unsqueeze(1)
    taken = sampled.reshape(batch, -1, height * width)  # (B, C * 9, HW)
    out = weight.flatten(1) @ taken + bias[:, None]
    return out.unflatten(-1, (height, width))


def adaptive_filter(x: Tensor, filters: Tensor) -> Tensor:
    """Filter every pixel of every channel with its own 3x3 kernel; edge pixels are repeated.

    Args:
        x: (B, C, H, W).
        filters: (B, C, 9, H, W), taps row by row.

    Returns:
        (B, C, H, W).
    """
    height, width = x.shape[-2:]
    padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    shifted = [
        padded[..., tap // 3 : tap // 3 + height, tap % 3 : tap % 3 + width] for tap in range(TAPS)
    ]
    return torch.stack([part * filters[:, :, tap] for tap, part in enumerate(shifted)], dim=0).sum(
        dim=0
    )


class FlowFusion(Fusion):
    """Neighbours warped to the current frame by a learned optical flow, then mixed pixel by pixel.

    Source: flow alignment as in DBN's aligned variant (Su et al. 2017), Hyun Kim et al. 2018
    ("Spatio-temporal Transformer Network for Video Restoration") and CDVD-TSP (Pan et al. 2020).
    Reproduces: one flow for all channels, bilinear warping, end-to-end training. Simplifies: a head
    of three convolutions on the pair of features, without a pyramid or correlations, so it covers
    motion of a few pixels of its level; no supervision of the flow. The flow starts at zero.

    Args:
        channels: C.
        frames: T of every window.
        hidden: channels of the flow head.
    """

    def __init__(self, channels: int, frames: int, hidden: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            conv3x3(2 * channels, hidden), nn.ReLU(), conv3x3(hidden, hidden), nn.ReLU()
        )
        self.flow = start_at_zero(conv3x3(hidden, 2))
        self.merge = start_near_zero(nn.Conv2d(frames * channels, channels, kernel_size=1))

    def estimate(self, pairs: Tensor) -> Tensor:
        """Pairs of features (B, 2C, H, W) -> flow in pixels (B, 2, H, W)."""
        flow: Tensor = self.flow(self.trunk(pairs))
        return flow

    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> (B, C, H, W)."""
        frames, pairs = pair_with_current(features, current, itself=False)
        aligned = sample_at(frames, self.estimate(pairs))
        return _merge_aligned(features, current, aligned, self.merge)


class DeformableFusion(Fusion):
    """Neighbours aligned by deformable convolution, then mixed pixel by pixel.

    Source: EDVR (Wang et al. 2019, "Video Restoration with Enhanced Deformable Convolutional
    Networks"), its alignment. Reproduces: offsets and modulation from the pair of features,
    groups, neighbours aligned in feature space. Simplifies: one level of the pyramid and no
    cascade; mixing by a 1x1 convolution in place of its attention over time and space.

    Args:
        channels: C, a multiple of `groups`.
        frames: T of every window.
        hidden: channels of the offset head.
        groups: G, groups of C / G channels that share offsets.
    """

    def __init__(self, channels: int, frames: int, hidden: int, groups: int = 2) -> None:
        super().__init__()
        self.groups = groups
        self.trunk = nn.Sequential(conv3x3(2 * channels, hidden), nn.ReLU())
        self.moves = start_at_zero(conv3x3(hidden, groups * TAPS * 3))
        self.align = conv3x3(channels, channels)
        self.merge = start_near_zero(nn.Conv2d(frames * channels, channels, kernel_size=1))

    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> (B, C, H, W)."""
        frames, pairs = pair_with_current(features, current, itself=False)
        moves = self.moves(self.trunk(pairs)).unflatten(1, (self.groups, TAPS, 3))
        offsets, modulation = moves[:, :, :, :2], moves[:, :, :, 2]
        assert self.align.bias is not None
        aligned = deformable_convolution(
            frames,
            offsets,
            2 * torch.sigmoid(modulation),  # initially 1: a plain convolution
            self.align.weight,
            self.align.bias,
        )
        return _merge_aligned(features, current, aligned, self.merge)


class FilterAdaptiveFusion(Fusion):
    """Every pixel and channel of every frame gets its own filter, predicted from the frame and the
    current one. Then frames are mixed pixel by pixel.

    Source: STFAN (Zhou et al. 2019, "Spatio-Temporal Filter Adaptive Network for Video
    Deblurring"), its filter adaptive convolution. Reproduces: element-wise filters that align
    neighbours, and one that deblurs the current frame (its pair with itself). Simplifies: 3x3
    rather than 5x5, filters from features rather than images, no recurrence over restored frames.
    Filters start as the identity.

    Args:
        channels: C.
        frames: T of every window.
        hidden: channels of the filter head.
    """

    def __init__(self, channels: int, frames: int, hidden: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(conv3x3(2 * channels, hidden), nn.ReLU())
        self.filters = start_at_zero(nn.Conv2d(hidden, channels * TAPS, kernel_size=1))
        assert self.filters.bias is not None
        with torch.no_grad():
            self.filters.bias.view(channels, TAPS)[:, TAPS // 2] = 1
        self.merge = start_near_zero(nn.Conv2d(frames * channels, channels, kernel_size=1))

    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> (B, C, H, W)."""
        frames, pairs = pair_with_current(features, current, itself=True)
        filters = self.filters(self.trunk(pairs)).unflatten(1, (-1, TAPS))
        filtered = adaptive_filter(frames, filters).unflatten(0, features.shape[:2])
        mixed: Tensor = self.merge(filtered.flatten(1, 2))
        return features[:, current] + mixed


def _merge_aligned(features: Tensor, current: int, aligned: Tensor, merge: nn.Module) -> Tensor:
    """Mix aligned neighbours (B * (T - 1), C, H, W) and the current frame of (B, T, C, H, W), in
    temporal order, and add the current frame -> (B, C, H, W).
    """
    around = aligned.to(features.dtype).unflatten(0, (features.shape[0], -1))
    here = features[:, current : current + 1]
    window = torch.cat((around[:, :current], here, around[:, current:]), dim=1)
    mixed: Tensor = merge(window.flatten(1, 2))
    return features[:, current] + mixed
