"""Neighbouring frames, aligned to the current one by warping, and their fusion.

A hand shakes differently in each frame: neighbours may have kept detail that the current frame has
lost. They are warped by the optical flow of `unsmear.models.flow`, as whole frames and outside the
levels of the network, so that each level stays local.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsmear.models.layers import ResidualBlock, conv3x3, start_at_zero
from unsmear.models.precision import no_autocast
from unsmear.models.sampling import sample_at
from unsmear.models.trails import CELL

TRIPLET_CHANNELS = 9
"""Channels of a triplet: RGB of the previous, the current and the next frame."""

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # standard deviation: one cell


def aligned_triplet(
    before: Tensor | None, current: Tensor, after: Tensor | None, motion: Tensor
) -> Tensor:
    """A frame and its two neighbours, aligned to it.

    Args:
        before: the previous frame, (B, 3, H, W), 0..1; None if there is none.
        current: the current frame, likewise; H and W multiples of 8.
        after: the next frame, or None.
        motion: `unsmear.models.flow.motion_between`, (B, 4, H / 8, W / 8), in pixels.

    Returns:
        (B, 9, H, W): previous, current, next. The current frame replaces a missing neighbour.
    """
    back, forth = smoothed(motion).split(2, dim=1)
    first = current if before is None else warp(before, back)
    last = current if after is None else warp(after, forth)
    return torch.cat((first, current, last), dim=1)


def clip_triplets(clip: Tensor, motion: Tensor, seen: Tensor | None = None) -> Tensor:
    """`aligned_triplet` of every frame of clips.

    Args:
        clip: (B, T, 3, H, W), 0..1, H and W multiples of 8.
        motion: `unsmear.models.flow.clip_motion`, (B * T, 4, H / 8, W / 8), in pixels.
        seen: frames to take the neighbours from, like `clip`; None: `clip` itself.

    Returns:
        (B * T, 9, H, W).
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
    """Smooth motion (B, C, h, w), because optical flow between blurry frames has jumps: slightly
    misaligned neighbours are better than torn ones.
    """
    channels = motion.shape[1]
    # Created on the device: a copy from the host would synchronise.
    bell = torch.stack([motion.new_full((), share) for share in _BINOMIAL])
    padded = functional.pad(motion, (2, 2, 2, 2), mode="replicate")
    with no_autocast(motion.device):  # in bfloat16, motion of 40 pixels is off by up to 0.2
        rows = functional.conv2d(padded, bell.expand(channels, 1, 1, -1), groups=channels)
        down = bell.view(-1, 1).expand(channels, 1, -1, -1)
        return functional.conv2d(rows, down, groups=channels)


def warp(frames: Tensor, motion: Tensor) -> Tensor:
    """Sample frames (B, C, H, W) at each pixel plus its motion, (B, 2, H / 8, W / 8), in pixels."""
    places = functional.interpolate(motion, scale_factor=CELL, mode="bilinear", align_corners=False)
    return sample_at(frames, places)


class TripletFusion(nn.Module):
    """Fuses a frame's features with its aligned neighbours.

    Starts as the identity.

    Args:
        channels: channels of the features.
        hidden: hidden channels.
        stride: pixels of the frame for one pixel of the features, along each axis.
    """

    def __init__(self, channels: int, hidden: int, stride: int) -> None:
        super().__init__()
        self._stride = stride
        # No activation after `enter`: with a ReLU, units that die in an early step stay dead.
        self.enter = conv3x3(channels + TRIPLET_CHANNELS * stride**2, hidden)
        self.blocks = nn.Sequential(*(ResidualBlock(hidden) for _ in range(3)))
        self.leave = start_at_zero(conv3x3(hidden, channels))

    def forward(self, features: Tensor, triplet: Tensor) -> Tensor:
        """Features (B, C, H / stride, W / stride), `aligned_triplet` (B, 9, H, W) -> (B, C, H /
        stride, W / stride).
        """
        # Apply `enter` to features and triplet separately: on a CPU, concatenating them takes
        # longer than the convolution. The triplet is at full resolution; `enter` expects it
        # pixel-unshuffled by `stride`, which the strided convolution replaces.
        stride, channels = self._stride, self.leave.out_channels
        weight = self.enter.weight
        own = functional.conv2d(features, weight[:, :channels], self.enter.bias, padding=1)
        around = functional.conv2d(
            triplet.to(weight.dtype),  # warped in float32, also for networks of half precision
            on_pixels(weight[:, channels:], stride),
            stride=stride,
            padding=stride,
        )
        seen = self.blocks(own.add_(around))
        out: Tensor = self.leave(seen) + features
        return out


def on_pixels(weight: Tensor, stride: int) -> Tensor:
    """Weight of a 3x3 convolution of `pixel_unshuffle(x, stride)` -> weight of the same operation
    as a convolution of x with stride `stride` and a kernel `stride` times as large:
    (O, C * stride**2, 3, 3) -> (O, C, 3 * stride, 3 * stride).
    """
    parts = weight.unflatten(1, (-1, stride, stride))  # (O, C, rows, columns, 3, 3)
    return parts.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
