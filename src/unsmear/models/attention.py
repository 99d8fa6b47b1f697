"""Factorised spatio-temporal attention (arXiv 2201.00169, eq. 1-6).

The functions follow the equations, in their order; `FactorizedAttention` adds the convolutions. In
the paper's notation:

    x      features of the window            (B, T, C, H, W)
    A_s    softmax over H*W of f_s(x)        (B, T, M, H, W)   eq. 1  `spatial_weights`
    G_s    each frame, summed by A_s         (B, T, M, C)      eq. 2  `spatial_squeeze`
    x'     x pooled over H*W                 (B, T, C)
    A_t    softmax over T of f_t(x')         (B, N, T)         eq. 3  `temporal_weights`
    G_st   G_s, summed over T by A_t         (B, M, N, C)      eq. 4  `temporal_squeeze`
    x_R    features of the current frame     (B, C, H, W)
    A_p    softmax over M*N of f_p(x_R)      (B, M*N, H, W)    eq. 5  `pixelwise_weights`
    y_R    G_st, distributed by A_p          (B, C, H, W)      eq. 6  `distribute`

Dimensions: B batch, T frames of the window, C channels, H and W rows and columns, M spatial maps,
N temporal maps; K = M * N. The code calls G_st the context: K elements of C numbers, of which
m * N + n is that of the maps m and n. The paper writes its equations for B = C = 1. Here f_s, f_t
and f_p see all channels, and a map weighs all channels alike.

In the attention, a frame reaches other frames only through its `Descriptor`: M * C numbers of G_s,
and x' of length C. This makes encode-once streaming, any window and exact tiles possible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsmear.models.precision import at_least_float32, no_autocast


def _softmax(logits: Tensor, dim: int) -> Tensor:
    """Softmax in float32 or better, also under autocast."""
    return torch.softmax(logits, dim=dim, dtype=at_least_float32(logits))


def spatial_weights(logits: Tensor) -> Tensor:
    """A_s of eq. 1: the weight of each pixel of a frame, for each spatial map.

    Args:
        logits: f_s(x), (..., H, W).

    Returns:
        Softmax over H*W, same shape, in float32 or better.
    """
    return _softmax(logits.flatten(-2), dim=-1).unflatten(-1, logits.shape[-2:])


def spatial_squeeze(x: Tensor, logits: Tensor) -> Tensor:
    """G_s of eq. 1-2: gather each frame into M vectors, weighted means over its pixels.

    The squeeze S_HW of eq. 2 is a sum: the weights add up to 1 already.

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


def temporal_weights(logits: Tensor) -> Tensor:
    """A_t of eq. 3: the weight of each frame of the window, for each temporal map.

    Args:
        logits: f_t(x'), (..., T).

    Returns:
        Softmax over T, same shape, in float32 or better.
    """
    return _softmax(logits, dim=-1)


def temporal_squeeze(squeezed: Tensor, logits: Tensor) -> Tensor:
    """G_st of eq. 3-4: gather the window, each of the M vectors into N weighted means over T.

    Args:
        squeezed: G_s, (B, T, M, C).
        logits: f_t(x'), (B, N, T).

    Returns:
        (B, M, N, C) in float32 or better.
    """
    weights = temporal_weights(logits)  # (B, N, T)
    with no_autocast(squeezed.device):
        return torch.einsum("btmc,bnt->bmnc", squeezed.to(weights.dtype), weights)


def pixelwise_weights(logits: Tensor) -> Tensor:
    """A_p of eq. 5: the weight of each context element, for each pixel.

    Args:
        logits: f_p(x_R), (B, K, H, W).

    Returns:
        Softmax over K, same shape, in float32 or better.
    """
    return _softmax(logits, dim=1)


def distribute(context: Tensor, logits: Tensor) -> Tensor:
    """y_R of eq. 5-6: give each pixel its own weighted mean of the context elements.

    Args:
        context: G_st with M and N flattened, (B, K, C).
        logits: f_p(x_R), (B, K, H, W).

    Returns:
        (B, C, H, W), in the dtype of `logits`, or that of autocast where it is enabled.
    """
    weights = pixelwise_weights(logits).to(logits.dtype).flatten(-2)  # (B, K, HW)
    y = context.to(logits.dtype).transpose(1, 2) @ weights  # (B, C, HW)
    return y.unflatten(-1, logits.shape[-2:])  # (B, C, H, W)


class TemporalSum(NamedTuple):
    """Eq. 3-4 over some of the frames of a window, before the division.

    The weighted means of eq. 4 are quotients of sums over frames, and the sums of two sets of
    frames merge into the sums of both, in any order. As in log-sum-exp, the largest logit is
    factored out, so logits of any size are safe.

    Attributes:
        peak: largest logit, (B, N).
        weight: denominator: sum over the frames of exp(logit - peak), (B, N).
        total: numerator: sum over the frames of exp(logit - peak) * G_s, (B, M, N, C).
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


def temporal_sum(squeezed: Tensor, logits: Tensor) -> TemporalSum:
    """`temporal_squeeze` in two steps: `temporal_sum(g, l).mean()` is `temporal_squeeze(g, l)`.

    Args:
        squeezed: G_s, (B, T, M, C).
        logits: f_t(x'), (B, N, T).
    """
    peak = logits.amax(dim=-1)
    weights = torch.exp(logits - peak[..., None])  # (B, N, T)
    with no_autocast(squeezed.device):
        total = torch.einsum("btmc,bnt->bmnc", squeezed.to(weights.dtype), weights)
    return TemporalSum(peak, weights.sum(dim=-1), total)


class Descriptor(NamedTuple):
    """All that T frames contribute to the attention of any other frame.

    Attributes:
        squeezed: G_s, (B, T, M, C).
        pooled: x', the mean of the features over H*W, (B, T, C).
    """

    squeezed: Tensor
    pooled: Tensor


class FactorizedAttention(nn.Module):
    """Eq. 1-6 with their convolutions f_s, f_t and f_p.

    `forward` is all of it at once. In a stream each frame is described once, and its descriptor
    serves every window: `describe` (eq. 1-2), `mix` (eq. 3-4), `distribute` (eq. 5-6).

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
        """Eq. 1-6: what the current frame takes from a window.

        Args:
            features: x, of the window, (B, T, C, H, W).
            current: x_R, of the frame to restore, which the window usually holds, (B, C, H, W).

        Returns:
            y_R, (B, C, H, W).
        """
        return self.fuse(current, self.describe(features))

    def fuse(self, current: Tensor, window: Descriptor) -> Tensor:
        """Eq. 3-6: x_R (B, C, H, W) and the descriptors of its window (B, T, ...) -> y_R
        (B, C, H, W).
        """
        return self.distribute(current, self.mix(window))

    def describe(self, features: Tensor) -> Descriptor:
        """Eq. 1-2: x (B, T, C, H, W) -> G_s and x', each frame independently."""
        pooled = features.mean(dim=(-2, -1), dtype=at_least_float32(features))  # (B, T, C)
        return Descriptor(spatial_squeeze(features, self.spatial_logits(features)), pooled)

    def mix(self, window: Descriptor) -> Tensor:
        """Eq. 3-4: descriptors of a window (B, T, ...) -> its context, G_st (B, K, C)."""
        logits = self.temporal_logits(window.pooled)
        return temporal_squeeze(window.squeezed, logits).flatten(1, 2)

    def sum(self, frames: Descriptor) -> TemporalSum:
        """Eq. 3-4 in part: descriptors of some frames (B, T, ...) -> their sums, from which those
        of windows are merged.
        """
        return temporal_sum(frames.squeezed, self.temporal_logits(frames.pooled))

    def distribute(self, current: Tensor, context: Tensor) -> Tensor:
        """Eq. 5-6: x_R (B, C, H, W) and the context (B, K, C) -> y_R (B, C, H, W). Pixelwise, so
        it can be computed tile by tile.
        """
        return distribute(context, self.pixelwise_logits(current))

    def spatial_logits(self, features: Tensor) -> Tensor:
        """f_s of eq. 1: x (B, T, C, H, W) -> (B, T, M, H, W)."""
        logits: Tensor = self.f_s(features.flatten(0, 1))  # (B*T, M, H, W)
        return logits.unflatten(0, features.shape[:2])

    def temporal_logits(self, pooled: Tensor) -> Tensor:
        """f_t of eq. 3: x' (B, T, C) -> (B, N, T), in the dtype of x'."""
        with no_autocast(pooled.device):  # `pooled` is float32 even in a network of half precision
            return functional.conv1d(pooled.transpose(1, 2), self.f_t.weight.to(pooled.dtype))

    def pixelwise_logits(self, current: Tensor) -> Tensor:
        """f_p of eq. 5: x_R (B, C, H, W) -> (B, K, H, W)."""
        logits: Tensor = self.f_p(current)
        return logits


ATTENTIONS: dict[str, Callable[[int, int, int], FactorizedAttention]] = {
    "factorised": FactorizedAttention,
}
"""Attentions by name, made of C, M and N. A program may add its own, for its networks."""
