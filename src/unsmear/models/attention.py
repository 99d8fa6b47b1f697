"""Factorised spatio-temporal attention (arXiv 2201.00169, eq. 1-6).

One pure function for each of the three operations of the paper, one for the softmax of each, and
a module that owns the convolutions f_s, f_t and f_p. Dimensions in shapes: B batch, T frames of
the window, C channels, H and W rows and columns, M spatial maps, N temporal maps, K = M * N
context elements.

In the attention, a frame reaches other frames only through its `Descriptor`: M * C numbers and a
pooled vector of length C. This makes encode-once streaming, any window and exact tiles possible.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


def _softmax(logits: Tensor, dim: int) -> Tensor:
    """Softmax in float32 or better, also under autocast."""
    precise = torch.promote_types(logits.dtype, torch.float32)
    return torch.softmax(logits, dim=dim, dtype=precise)


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Context that disables autocast, for sums over a frame or window, and for coordinates."""
    if device.type != "meta" and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def spatial_weights(logits: Tensor) -> Tensor:
    """A_s of eq. 1: the weight of each pixel of a frame, for each spatial map.

    Args:
        logits: f_s(x), (..., H, W).

    Returns:
        Softmax over H*W, same shape, in float32 or better.
    """
    return _softmax(logits.flatten(-2), dim=-1).unflatten(-1, logits.shape[-2:])


def temporal_weights(logits: Tensor) -> Tensor:
    """A_t of eq. 3: the weight of each frame of the window, for each temporal map.

    Args:
        logits: f_t(x'), (..., T).

    Returns:
        Softmax over T, same shape, in float32 or better.
    """
    return _softmax(logits, dim=-1)


def pixelwise_weights(logits: Tensor) -> Tensor:
    """A_p of eq. 5: the weight of each context element, for each pixel.

    Args:
        logits: f_p(x_R), (B, K, H, W).

    Returns:
        Softmax over K, same shape, in float32 or better.
    """
    return _softmax(logits, dim=1)


def spatial_squeeze(x: Tensor, logits: Tensor) -> Tensor:
    """Gather each frame into M descriptors: softmax over H*W, then a weighted mean (eq. 1-2).

    Args:
        x: features, (B, T, C, H, W).
        logits: f_s(x), (B, T, M, H, W).

    Returns:
        (B, T, M, C) in float32 or better, also under autocast: these few numbers are sums over
        all pixels of a frame.
    """
    weights = spatial_weights(logits).flatten(-2)  # (B, T, M, HW)
    with no_autocast(x.device):
        return weights @ x.flatten(-2).to(weights.dtype).transpose(-1, -2)  # (B, T, M, C)


def temporal_squeeze(descriptors: Tensor, logits: Tensor) -> Tensor:
    """Gather the window into N mixtures of each descriptor: softmax over T (eq. 3-4).

    Args:
        descriptors: G_s, (B, T, M, C).
        logits: f_t(x'), (B, N, T).

    Returns:
        G_st, (B, M, N, C) in float32 or better.
    """
    weights = temporal_weights(logits)  # (B, N, T)
    with no_autocast(descriptors.device):
        return torch.einsum("btmc,bnt->bmnc", descriptors.to(weights.dtype), weights)


class TemporalSum(NamedTuple):
    """Numerator and denominator of eq. 3-4 over some frames.

    The sums of two sets of frames merge into the sum of both, in any order. As in log-sum-exp, the
    largest logit is factored out, so logits of any size are safe.

    Attributes:
        peak: largest logit, (B, N).
        weight: sum over the frames of exp(logit - peak), (B, N).
        total: sum over the frames of exp(logit - peak) * G_s, (B, M, N, C).
    """

    peak: Tensor
    weight: Tensor
    total: Tensor

    def merge(self, other: TemporalSum) -> TemporalSum:
        """The sum over the frames of both."""
        peak = torch.maximum(self.peak, other.peak)
        mine, theirs = torch.exp(self.peak - peak), torch.exp(other.peak - peak)  # (B, N)
        return TemporalSum(
            peak,
            self.weight * mine + other.weight * theirs,
            self.total * mine[:, None, :, None] + other.total * theirs[:, None, :, None],
        )

    def mean(self) -> Tensor:
        """G_st of the frames, (B, M, N, C)."""
        return self.total / self.weight[:, None, :, None]


def temporal_sum(descriptors: Tensor, logits: Tensor) -> TemporalSum:
    """Numerator and denominator of `temporal_squeeze`, before the division.

    `temporal_sum(g, l).mean()` equals `temporal_squeeze(g, l)`.

    Args:
        descriptors: G_s, (B, T, M, C).
        logits: f_t(x'), (B, N, T).
    """
    peak = logits.amax(dim=-1)
    weights = torch.exp(logits - peak[..., None])  # (B, N, T)
    with no_autocast(descriptors.device):
        total = torch.einsum("btmc,bnt->bmnc", descriptors.to(weights.dtype), weights)
    return TemporalSum(peak, weights.sum(dim=-1), total)


def distribute(context: Tensor, logits: Tensor) -> Tensor:
    """Give each pixel its own mixture of the context: softmax over K (eq. 5-6).

    Args:
        context: G_st with M and N flattened, (B, K, C).
        logits: f_p(x_R), (B, K, H, W).

    Returns:
        y_R, (B, C, H, W), in the dtype of `logits`, or that of autocast where it is enabled.
    """
    weights = pixelwise_weights(logits).to(logits.dtype).flatten(-2)  # (B, K, HW)
    y = context.to(logits.dtype).transpose(1, 2) @ weights  # (B, C, HW)
    return y.unflatten(-1, logits.shape[-2:])  # (B, C, H, W)


class Descriptor(NamedTuple):
    """All that T frames contribute to the attention of any other frame.

    Attributes:
        squeezed: G_s, (B, T, M, C).
        pooled: x', the mean of the features over H*W, (B, T, C).
    """

    squeezed: Tensor
    pooled: Tensor


class FactorizedAttention(nn.Module):
    """Eq. 1-6 with their convolutions: `describe` frames, `fuse` a window into the current one.

    The paper does not specify the kernels. f_s and f_p are 1x1, so the attention adds nothing to
    the receptive field of the convolutions around it, and nothing to the halo of a tile. f_t has
    kernel 1 along T: a frame's temporal logit depends on that frame alone. So eq. 3-4 are plain
    sums over frames, and the sum of any window can be merged from partial sums. f_s and f_t have
    no bias, because the softmax over space or time cancels it.

    Args:
        channels: C of the features.
        spatial_maps: M, attention maps per frame.
        temporal_maps: N, attention maps over the window.
    """

    def __init__(self, channels: int, spatial_maps: int, temporal_maps: int) -> None:
        super().__init__()
        self.f_s = nn.Conv2d(channels, spatial_maps, kernel_size=1, bias=False)
        self.f_t = nn.Conv1d(channels, temporal_maps, kernel_size=1, bias=False)
        self.f_p = nn.Conv2d(channels, spatial_maps * temporal_maps, kernel_size=1)

    def forward(self, features: Tensor, current: Tensor) -> Tensor:
        """Eq. 1-6 at once: what the current frame takes from a window.

        Args:
            features: of the window, (B, T, C, H, W).
            current: of the frame to restore, which the window usually holds, (B, C, H, W).

        Returns:
            y_R, (B, C, H, W).
        """
        return self.fuse(current, self.describe(features))

    def describe(self, features: Tensor) -> Descriptor:
        """Features (B, T, C, H, W) -> their `Descriptor`, each frame independently."""
        pooled = features.mean(dim=(-2, -1), dtype=_precise(features))  # (B, T, C)
        return Descriptor(spatial_squeeze(features, self.spatial_logits(features)), pooled)

    def spatial_logits(self, features: Tensor) -> Tensor:
        """f_s of eq. 1: features (B, T, C, H, W) -> logits (B, T, M, H, W)."""
        logits: Tensor = self.f_s(features.flatten(0, 1))  # (B*T, M, H, W)
        return logits.unflatten(0, features.shape[:2])

    def temporal_logits(self, pooled: Tensor) -> Tensor:
        """f_t of eq. 3: pooled (B, T, C) -> logits (B, N, T), in the dtype of `pooled`."""
        with no_autocast(pooled.device):  # `pooled` is float32 even in a network of half precision
            return functional.conv1d(pooled.transpose(1, 2), self.f_t.weight.to(pooled.dtype))

    def mix(self, window: Descriptor) -> Tensor:
        """Eq. 3-4: descriptors of a window (B, T, ...) -> context G_st (B, K, C)."""
        logits = self.temporal_logits(window.pooled)
        return temporal_squeeze(window.squeezed, logits).flatten(1, 2)

    def sum(self, frames: Descriptor) -> TemporalSum:
        """Descriptors of some frames (B, T, ...) -> their partial sums of eq. 3-4, from which the
        sums of windows are merged.
        """
        return temporal_sum(frames.squeezed, self.temporal_logits(frames.pooled))

    def take(self, current: Tensor, context: Tensor) -> Tensor:
        """Eq. 5-6: the current frame (B, C, H, W) and the context (B, K, C) -> y_R (B, C, H, W),
        a mixture of the context for each pixel. Pixelwise, so it can be computed tile by tile.
        """
        return distribute(context, self.pixelwise_logits(current))

    def pixelwise_logits(self, current: Tensor) -> Tensor:
        """f_p of eq. 5: the current frame (B, C, H, W) -> logits (B, K, H, W)."""
        logits: Tensor = self.f_p(current)
        return logits

    def fuse(self, current: Tensor, window: Descriptor) -> Tensor:
        """Eq. 3-6: features of the current frame (B, C, H, W) and the descriptors of its
        window (B, T, ...) -> y_R (B, C, H, W).
        """
        return self.take(current, self.mix(window))


def _precise(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
