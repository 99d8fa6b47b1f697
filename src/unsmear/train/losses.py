"""Losses between restored and sharp clips, (B, T, 3, H, W), sRGB 0..1 -> a scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unsmear.train.config import LossName


def charbonnier(restored: Tensor, sharp: Tensor) -> Tensor:
    """sqrt(difference**2 + 1e-6): L1 with a rounded tip."""
    return ((restored - sharp).square() + 1e-6).sqrt().mean()


def l1(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (restored - sharp).abs().mean()


def charbonnier_mse(restored: Tensor, sharp: Tensor) -> Tensor:
    """Charbonnier plus ten times the mean squared error.

    Where the sharp frame cannot be told, Charbonnier alone settles for the median of what it
    might be; PSNR asks for the mean. The squared error only counts where much is wrong, so that
    nearly sharp frames are learned as with Charbonnier alone.
    """
    return charbonnier(restored, sharp) + 10 * (restored - sharp).square().mean()


def psnr_loss(restored: Tensor, sharp: Tensor) -> Tensor:
    """Minus the mean PSNR of the frames in units of 10 dB.

    An error of one code value of 255 as floor keeps already perfect frames from taking over.
    """
    error = (restored - sharp).square().flatten(2).mean(dim=-1)  # (B, T)
    return torch.log10(error + (1 / 255) ** 2).mean()


LOSSES: dict[LossName, Callable[[Tensor, Tensor], Tensor]] = {
    "charbonnier": charbonnier,
    "charbonnier_mse": charbonnier_mse,
    "l1": l1,
    "psnr": psnr_loss,
}
