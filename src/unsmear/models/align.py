"""Neighbours warped to where the current frame shows the same.

A hand shakes one way in one frame and another way in the next: what one has lost, its neighbours
may have kept. They are warped by the motion that `unsmear.models.flow` measures, whole and outside
the levels of the network, so that each level stays local.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsmear.models.attention import no_autocast
from unsmear.models.layers import ResidualBlock, conv3x3
from unsmear.models.sampling import sample_at
from unsmear.models.trails import CELL

TRIPLET_CHANNELS = 9
"""Of a triplet: RGB of the frame before, of the current one, and of the one after."""

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # deviates by one cell


def aligned_triplet(
    before: Tensor | None, current: Tensor, after: Tensor | None, motion: Tensor
) -> Tensor:
    """A frame between its neighbours, both warped to fit it.

    Args:
        before: the frame before, (B, 3, H, W), 0..1; None where there is none.
        current: the frame, likewise; H and W multiples of 8.
        after: the frame after, or None.
        motion: `unsmear.models.flow.motion_between`, (B, 4, H / 8, W / 8), pixels.

    Returns:
        (B, 9, H, W). Where a neighbour is missing stands the current frame.
    """
    back, forth = smoothed(motion).split(2, dim=1)
    first = current if before is None else warp(before, back)
    last = current if after is None else warp(after, forth)
    return torch.cat((first, current, last), dim=1)


def clip_triplets(clip: Tensor, motion: Tensor, seen: Tensor | None = None) -> Tensor:
    """`aligned_triplet` of every frame of clips (B, T, 3, H, W), by their `clip_motion`:
    (B * T, 9, H, W). `seen`: what the neighbours show, like the clips, where it is not the same.
    """
    seen = clip if seen is None else seen
    frames = clip.shape[1]
    back, forth = smoothed(motion).unflatten(0, (-1, frames)).split(2, dim=2)  # (B, T, 2, h, w)
    before, after = clip.clone(), clip.clone()
    if frames > 1:
        earlier, later = seen[:, :-1].flatten(0, 1), seen[:, 1:].flatten(0, 1)
        inner = (-1, frames - 1)
        before[:, 1:] = warp(earlier, back[:, 1:].flatten(0, 1)).unflatten(0, inner)
        after[:, :-1] = warp(later, forth[:, :-1].flatten(0, 1)).unflatten(0, inner)
    return torch.cat((before, clip, after), dim=2).flatten(0, 1)


def smoothed(motion: Tensor) -> Tensor:
    """Motion (B, C, h, w) without the jumps of an estimate between blurry pictures: a neighbour
    that is a little off, evenly, serves better than a torn one.
    """
    channels = motion.shape[1]
    # Filled in where it is wanted: a copy from the host would be waited for.
    bell = torch.stack([motion.new_full((), share) for share in _BINOMIAL])
    padded = functional.pad(motion, (2, 2, 2, 2), mode="replicate")
    with no_autocast(motion.device):  # in bfloat16 a shift of 40 pixels is off by up to 0.2
        rows = functional.conv2d(padded, bell.expand(channels, 1, 1, -1), groups=channels)
        down = bell.view(-1, 1).expand(channels, 1, -1, -1)
        return functional.conv2d(rows, down, groups=channels)


def warp(frames: Tensor, motion: Tensor) -> Tensor:
    """Frames (B, C, H, W) sampled at each pixel plus its motion, (B, 2, H / 8, W / 8), pixels."""
    places = functional.interpolate(motion, scale_factor=CELL, mode="bilinear", align_corners=False)
    return sample_at(frames, places)


class TripletFusion(nn.Module):
    """Adds to the features of a frame what its warped neighbours know of it.

    Starts as the identity.

    Args:
        channels: of the features.
        hidden: channels between.
        stride: pixels of the frame for one of the features, each way.
    """

    def __init__(self, channels: int, hidden: int, stride: int) -> None:
        super().__init__()
        self._stride = stride
        # No activation on the straight way: with one, units that an early step kills stay dead.
        self.enter = conv3x3(channels + TRIPLET_CHANNELS * stride**2, hidden)
        self.blocks = nn.Sequential(*(ResidualBlock(hidden) for _ in range(3)))
        self.leave = conv3x3(hidden, channels)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, features: Tensor, triplet: Tensor) -> Tensor:
        """Features (B, C, H / stride, W / stride), `aligned_triplet` (B, 9, H, W) -> (B, C, H /
        stride, W / stride).
        """
        # `enter` of features and pixels, part by part: on a CPU joining them takes longer than all
        # the rest of it. The pixels of a feature are channels of its weights: warped at full size,
        # none are lost where features are coarser.
        stride, channels = self._stride, self.leave.out_channels
        weight = self.enter.weight
        own = functional.conv2d(features, weight[:, :channels], self.enter.bias, padding=1)
        around = functional.conv2d(
            triplet, on_pixels(weight[:, channels:], stride), stride=stride, padding=stride
        )
        seen = self.blocks(own.add_(around))
        out: Tensor = self.leave(seen) + features
        return out


def on_pixels(weight: Tensor, stride: int) -> Tensor:
    """Weight of a 3x3 convolution of `pixel_unshuffle(x, stride)` -> of the same convolution of x,
    whose kernel is `stride` times as large and moves on by as much: (O, C * stride**2, 3, 3) ->
    (O, C, 3 * stride, 3 * stride).
    """
    parts = weight.unflatten(1, (-1, stride, stride))  # (O, C, rows, columns, 3, 3)
    return parts.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
