"""The interface that all fusion techniques share."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Fusion(nn.Module, ABC):
    """Fuses the features of a window of frames into those of its current frame.

    Letters in shapes: B batch, T frames of the window, C channels, H W rows and columns.
    """

    @abstractmethod
    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Features of a window (B, T, C, H, W) -> what stands in for those of its frame
        `current`, (B, C, H, W).
        """

    def forward(self, features: Tensor, current: int) -> Tensor:
        """As `fuse`."""
        return self.fuse(features, current)


def check_length(features: Tensor, frames: int) -> None:
    """Refuse a window (B, T, C, H, W) whose T is not that of a fusion's weights.

    Raises:
        ValueError: T is not `frames`.
    """
    if features.shape[1] != frames:
        raise ValueError(f"{features.shape[1]} frames given: this fusion takes {frames}")


def quiet(conv: nn.Conv2d | nn.Conv3d) -> nn.Conv2d | nn.Conv3d:
    """Scale fresh weights to a tenth: a fusion starts close to the current frame alone, as the
    residual blocks do, and every technique with the same reserve.
    """
    with torch.no_grad():
        conv.weight.mul_(0.1)
    return conv


def pair_with_current(features: Tensor, current: int, *, itself: bool) -> tuple[Tensor, Tensor]:
    """Each frame of a window beside the current one, as a batch.

    Args:
        features: (B, T, C, H, W).
        current: which frame.
        itself: whether the current frame is paired with itself too.

    Returns:
        Frames (B * P, C, H, W) and pairs (B * P, 2C, H, W), frame first, where P is T, or T - 1
        without the current frame.
    """
    frames = features
    if not itself:
        frames = torch.cat((features[:, :current], features[:, current + 1 :]), dim=1)
    beside = features[:, current : current + 1].expand_as(frames)
    return frames.flatten(0, 1), torch.cat((frames, beside), dim=2).flatten(0, 1)
