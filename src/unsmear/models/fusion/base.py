"""The interface of all fusion techniques."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Fusion(nn.Module, ABC):
    """Fuses the features of a window of frames into those of its current frame.

    What a convolution adds to the current frame starts near zero, as in residual blocks: see
    `start_near_zero`.

    Dimensions in shapes: B batch, T frames of the window, C channels, H and W rows and columns.
    """

    @abstractmethod
    def fuse(self, features: Tensor, current: int) -> Tensor:
        """Features of a window (B, T, C, H, W) -> fused features of its frame `current`,
        (B, C, H, W).
        """


def check_length(features: Tensor, frames: int) -> None:
    """Check that a window (B, T, C, H, W) has the T that a fusion was built for.

    Raises:
        ValueError: T is not `frames`.
    """
    if features.shape[1] != frames:
        raise ValueError(f"{features.shape[1]} frames given: this fusion takes {frames}")


def pair_with_current(features: Tensor, current: int, *, itself: bool) -> tuple[Tensor, Tensor]:
    """Pair each frame of a window with the current one, as a batch.

    Args:
        features: (B, T, C, H, W).
        current: index of the current frame.
        itself: whether the current frame is also paired with itself.

    Returns:
        Frames (B * P, C, H, W) and pairs (B * P, 2C, H, W), the current frame second. P is T, or
        T - 1 without `itself`.
    """
    frames = features
    if not itself:
        frames = torch.cat((features[:, :current], features[:, current + 1 :]), dim=1)
    beside = features[:, current : current + 1].expand_as(frames)
    return frames.flatten(0, 1), torch.cat((frames, beside), dim=2).flatten(0, 1)
