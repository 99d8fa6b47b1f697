"""Trails: how far and whither the picture of each pixel moved while the shutter was open, and
features sampled along them.

Seen along its trail, blur of every direction and length looks alike: one filter serves all. A
trail has no sign, as blur by v and by -v is the same, so what is estimated is v * v / |v|, with v
taken for a complex number: twice the angle, the same length, and without a jump anywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsmear.models.layers import ResidualBlock, conv3x3
from unsmear.models.sampling import by_pixel, sum_at

CELL = 8
"""Pixels of the frame that share a trail, each way."""

LONGEST = 40.0
"""Trails are cut off at so many pixels along x and along y: what lies further is not looked at."""

MOTION_CHANNELS = 4
TRAIL_CHANNELS = 2
# Shares of the trail's length, each way: a box blur is undone by what lies at its ends (1/2) and
# at odd multiples of them; in between lies what says how much of that to trust.
PLACES = (0.25, 0.5, 0.75, 1.0, 1.5)
_PRIOR = 0.6  # of the motion between frames happens while the shutter is open: training draws that
_HIDDEN = 64


def doubled(vectors: Tensor) -> Tensor:
    """Vectors v -> v * v / |v|: (B, 2, h, w), x and y, any unit. Smooth at zero."""
    x, y = vectors[:, 0], vectors[:, 1]
    length = (x * x + y * y + 1e-4).sqrt()
    return torch.stack(((x * x - y * y) / length, 2 * x * y / length), dim=1)


def halved(doubled_vectors: Tensor) -> Tensor:
    """One of the two vectors that `doubled` takes there: (B, 2, h, w). Where it changes from one
    to the other it does so exactly, or roundings would be seen in what is sampled both ways.
    """
    length = (doubled_vectors.square().sum(dim=1, keepdim=True) + 1e-6).sqrt()
    cosine, sine = (doubled_vectors / length).split(1, dim=1)
    # Half-angle formulas, starting from the larger component: never a root of nearly nothing.
    larger = ((1 + cosine.abs()) / 2).sqrt()
    smaller = sine / (2 * larger)
    along_x = torch.cat((larger, smaller), dim=1)
    return torch.where(cosine >= 0, along_x, along_x.flip(1)) * length


class TrailHead(nn.Module):
    """Estimates trails from what the decoder knows of a frame and how its neighbours moved.

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Both motions and their mean without a sign, and both as they are.
        self.enter = conv3x3(channels + 5 * 2, _HIDDEN)
        self.blocks = nn.Sequential(*(ResidualBlock(_HIDDEN) for _ in range(3)))
        self.leave = conv3x3(_HIDDEN, TRAIL_CHANNELS)
        with torch.no_grad():
            self.leave.weight.mul_(0.1)

    def forward(self, features: Tensor, motion: Tensor) -> Tensor:
        """Features (B, C, h, w) and `motion_between` (B, 4, h, w), pixels -> `doubled` trails,
        (B, 2, h, w), pixels.
        """
        back, forth = motion[:, :2], motion[:, 2:]
        mean = doubled((forth - back) / 2)
        hints = torch.cat((doubled(back), doubled(forth), mean, back, forth), dim=1) / CELL
        seen = self.blocks(torch.relu_(self.enter(torch.cat((features, hints), dim=1))))
        out: Tensor = _PRIOR * mean + CELL * self.leave(seen)
        return out


class AlongTrail(nn.Module):
    """Adds what lies along the trails: the same places both ways, summed, as trails have no sign.

    Starts as the identity.

    Args:
        channels: of the features.
        sampled: channels that are looked at along the trails.
    """

    def __init__(self, channels: int, sampled: int) -> None:
        super().__init__()
        self._split = (channels, *(sampled for _ in PLACES))
        self.enter = nn.Conv2d(channels, sampled, kernel_size=1)
        self.mix = nn.Conv2d(sum(self._split), 2 * channels, kernel_size=1)
        self.leave = conv3x3(2 * channels, channels)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, features: Tensor, trails: Tensor, stride: int) -> Tensor:
        """Features (B, C, H, W), `doubled` trails of the same size in pixels of the frame, and how
        many of these one of the features spans -> (B, C, H, W).
        """
        trail = halved(trails.float()).clamp(-LONGEST, LONGEST) / stride
        sampled = self.enter(features)
        # `mix` of all that is sampled, part by part: joined before, the parts would first be copied
        # from planes, which is how they come, and that takes as long as all the rest.
        own, *along = self.mix.weight.flatten(1).split(self._split, dim=1)
        assert self.mix.bias is not None
        mixed = torch.baddbmm(self.mix.bias, by_pixel(features), _of_each(own, features))
        for place, weight in zip(PLACES, along, strict=True):
            part = sum_at(sampled, (trail * place, trail * -place))
            part = part.to(mixed.dtype)  # autocast leaves what works in place alone
            mixed.baddbmm_(part, _of_each(weight.to(mixed.dtype), part))
        mixed = torch.relu_(mixed).transpose(1, 2).unflatten(2, features.shape[-2:])
        out: Tensor = self.leave(mixed) + features
        return out

    @staticmethod
    def reach(stride: int) -> int:
        """How far beyond its own pixels it looks, in pixels of the features."""
        furthest = PLACES[-1] * LONGEST / stride
        return int(furthest) + 2 + 1  # between two pixels; a 3x3 convolution


def _of_each(weight: Tensor, batch: Tensor) -> Tensor:
    """Weight of a 1x1 convolution (O, I) -> (B, I, O) for a batch of B."""
    return weight.t().expand(len(batch), -1, -1)


def enlarged(trails: Tensor) -> Tensor:
    """Trails at twice the resolution: (B, 2, h, w) -> (B, 2, 2h, 2w), in the same unit."""
    return functional.interpolate(trails, scale_factor=2, mode="bilinear", align_corners=False)
