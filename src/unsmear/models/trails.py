"""Trails: the length and direction of each pixel's motion blur, and features sampled along them.

Sampled along its trail, blur of any direction and length looks alike, so one filter serves all. A
trail has no sign, because blur by v and by -v is the same. So the network estimates v * v / |v|,
with v as a complex number: twice the angle, the same length, and continuous everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsmear.models.layers import ResidualBlock, conv3x3, start_at_zero, start_near_zero
from unsmear.models.sampling import by_pixel, sum_at

CELL = 8
"""Side of the square of pixels that share a trail."""

LONGEST = 40.0
"""Trails are clamped to this many pixels along x and along y; samples lie up to 1.5 times as far,
see `PLACES`.
"""

MOTION_CHANNELS = 4
"""Of `unsmear.models.flow.motion_between`: x and y to the previous and to the next frame."""

TRAIL_CHANNELS = 2
"""Of a `doubled` trail: x and y."""

# Sampling positions, as fractions of the trail's length, on both sides. A box blur is inverted by
# the values at its ends (1/2) and at odd multiples of them; those in between tell how far to trust
# these.
PLACES = (0.25, 0.5, 0.75, 1.0, 1.5)
_PRIOR = 0.6  # typical share of the motion between frames that falls within the exposure
_HIDDEN = 64


def doubled(vectors: Tensor) -> Tensor:
    """Vectors v, (B, 2, h, w), x and y, any unit -> v * v / |v|, smoothed at zero."""
    x, y = vectors[:, 0], vectors[:, 1]
    length = (x * x + y * y + 1e-4).sqrt()
    return torch.stack(((x * x - y * y) / length, 2 * x * y / length), dim=1)


def halved(doubled_vectors: Tensor) -> Tensor:
    """Inverse of `doubled` up to the sign: one of the two vectors, (B, 2, h, w).

    Where the result switches from one vector to its negative, the two are exact opposites.
    Otherwise rounding would show in features that are sampled on both sides.
    """
    length = (doubled_vectors.square().sum(dim=1, keepdim=True) + 1e-6).sqrt()
    cosine, sine = (doubled_vectors / length).split(1, dim=1)
    # Half-angle formulas. The larger component comes first: a root near zero is inaccurate.
    larger = ((1 + cosine.abs()) / 2).sqrt()
    smaller = sine / (2 * larger)
    along_x = torch.cat((larger, smaller), dim=1)
    return torch.where(cosine >= 0, along_x, along_x.flip(1)) * length


class TrailHead(nn.Module):
    """Estimates trails from the decoder's coarsest features and the motion to the neighbours.

    Args:
        channels: channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Both motions and their mean, doubled (without a sign), and both motions as they are.
        self.enter = conv3x3(channels + 5 * 2, _HIDDEN)
        self.blocks = nn.Sequential(*(ResidualBlock(_HIDDEN) for _ in range(3)))
        self.leave = start_near_zero(conv3x3(_HIDDEN, TRAIL_CHANNELS))

    def forward(self, features: Tensor, motion: Tensor) -> Tensor:
        """Features (B, C, h, w) and `motion_between` (B, 4, h, w), in pixels -> `doubled` trails,
        (B, 2, h, w), in pixels.
        """
        back, forth = motion[:, :2], motion[:, 2:]
        mean = doubled((forth - back) / 2)
        hints = torch.cat((doubled(back), doubled(forth), mean, back, forth), dim=1) / CELL
        hints = hints.to(features.dtype)  # motion stays float32 in networks of half precision
        seen = self.blocks(torch.relu_(self.enter(torch.cat((features, hints), dim=1))))
        out: Tensor = _PRIOR * mean + CELL * self.leave(seen)
        return out


class AlongTrail(nn.Module):
    """Adds features sampled along the trails. Samples on both sides are summed, because a trail
    has no sign.

    Starts as the identity.

    Args:
        channels: channels of the features.
        sampled: channels of the samples.
    """

    def __init__(self, channels: int, sampled: int) -> None:
        super().__init__()
        self._split = (channels, *(sampled for _ in PLACES))
        self.enter = nn.Conv2d(channels, sampled, kernel_size=1)
        self.mix = nn.Conv2d(sum(self._split), 2 * channels, kernel_size=1)
        self.leave = start_at_zero(conv3x3(2 * channels, channels))

    def forward(self, features: Tensor, trails: Tensor, stride: int) -> Tensor:
        """Sample and fuse.

        Args:
            features: (B, C, H, W).
            trails: `doubled`, (B, 2, H, W), in pixels of the frame.
            stride: pixels of the frame for one pixel of the features.

        Returns:
            (B, C, H, W).
        """
        trail = halved(trails.float()).clamp(-LONGEST, LONGEST) / stride
        sampled = self.enter(features)
        # Apply `mix` part by part. Concatenating the parts first would copy them from planes, which
        # takes as long as everything else here.
        own, *along = self.mix.weight.flatten(1).split(self._split, dim=1)
        assert self.mix.bias is not None
        mixed = torch.baddbmm(self.mix.bias, by_pixel(features), _of_each(own, features))
        for place, weight in zip(PLACES, along, strict=True):
            part = sum_at(sampled, (trail * place, trail * -place))
            part = part.to(mixed.dtype)  # autocast does not cast for in-place operations
            mixed.baddbmm_(part, _of_each(weight.to(mixed.dtype), part))
        mixed = torch.relu_(mixed).transpose(1, 2).unflatten(2, features.shape[-2:])
        out: Tensor = self.leave(mixed) + features
        return out

    @staticmethod
    def reach(stride: int) -> int:
        """Radius of the receptive field, in pixels of the features."""
        furthest = PLACES[-1] * LONGEST / stride
        return int(furthest) + 2 + 1  # 2: rounding up and interpolation; 1: a 3x3 convolution


def _of_each(weight: Tensor, batch: Tensor) -> Tensor:
    """Weight of a 1x1 convolution (O, I) -> (B, I, O), transposed and repeated for the batch."""
    return weight.t().expand(len(batch), -1, -1)


def upsampled(trails: Tensor) -> Tensor:
    """Trails upsampled bilinearly: (B, 2, h, w) -> (B, 2, 2h, 2w), in the same unit."""
    return functional.interpolate(trails, scale_factor=2, mode="bilinear", align_corners=False)
