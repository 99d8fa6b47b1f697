"""Fusion by shifts: channels of neighbours are shifted by fixed offsets; convolutions fuse them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsmear.models.fusion.base import Fusion, check_length
from unsmear.models.layers import ResidualBlock, start_near_zero

_ASIDE = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))  # down, right
SHIFTS = ((0, 0), *((far * y, far * x) for far in (1, 2) for y, x in _ASIDE))
"""Shift of each group of channels, down and to the right, in pixels of the features. Small shifts
come first, because with few channels only the first groups exist.
"""


def shift_groups(x: Tensor, shifts: Sequence[tuple[int, int]] = SHIFTS) -> Tensor:
    """Shift each group of channels by its own offset, with zero padding.

    Source: Li et al. 2023 (`ShiftFusion`), the spatial shift; TSM (Lin et al. 2019) shifts groups
    of channels along time only.

    Args:
        x: (..., C, H, W), any values.
        shifts: G offsets, down and to the right, in pixels. Channel c belongs to group c mod G,
            for any C.

    Returns:
        (..., C, H, W): out[c, y, x] = in[c, y + down, x + right], with c's shift.
    """
    height, width = x.shape[-2:]
    reach = max((abs(step) for shift in shifts for step in shift), default=0)
    padded = functional.pad(x, (reach, reach, reach, reach))
    moved = torch.empty_like(x)
    for group, (down, right) in enumerate(shifts):
        rows = slice(reach + down, reach + down + height)
        columns = slice(reach + right, reach + right + width)
        moved[..., group :: len(shifts), :, :] = padded[..., group :: len(shifts), rows, columns]
    return moved


class ShiftFusion(Fusion):
    """Groups of each neighbour's channels are shifted in all directions, then light convolutions
    fuse all frames. Whatever the motion, some group is roughly aligned with the current frame.

    Source: Shift-Net (Li et al., CVPR 2023, "A Simple Baseline for Video Restoration with Grouped
    Spatial-temporal Shift"), after TSM (Lin et al. 2019, "TSM: Temporal Shift Module for
    Efficient Video Understanding"). Reproduces: groups of channels of neighbouring frames, each
    with its own spatial shift without parameters, fused with the current frame by light
    convolutions; no alignment. Simplifies: shifts of 0 to 2 pixels in eight directions, the same
    for every neighbour; all frames of the window are fused at once, where the paper passes
    features from neighbour to neighbour through many such layers; a 1x1 convolution and one
    residual block fuse them. Leaves out: its U-shaped stages of these layers. Its receptive field
    is a few pixels of its level, so tiles would stay exact.

    Args:
        channels: C.
        frames: T of every window; 1: the current frame alone.
    """

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        # One layer from the neighbours to the current frame, as in the other techniques. With a
        # narrow layer in between, the neighbours contributed a tenth as much after 180 steps
        # (fusion-chosen.md).
        self.merge = start_near_zero(nn.Conv2d(frames * channels, channels, kernel_size=1))
        self.mix = ResidualBlock(channels)

    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Window (B, T, C, H, W) -> (B, C, H, W).

        Raises:
            ValueError: T is not `frames`.
        """
        check_length(features, self.frames)
        here = features[:, current]
        window = torch.cat(
            (
                shift_groups(features[:, :current]),
                here.unsqueeze(1),
                shift_groups(features[:, current + 1 :]),
            ),
            dim=1,
        )
        fused: Tensor = self.mix(here + self.merge(window.flatten(1, 2)))
        return fused
