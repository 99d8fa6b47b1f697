"""Losses between restored and sharp clips, (B, T, 3, H, W), sRGB 0..1 -> a scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unsmear.train.config import LossName, TrainConfig

Loss = Callable[[Tensor, Tensor], Tensor]


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


def frequency(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean modulus of the spectrum of the difference, each picture and channel on its own.

    Source: the multi-scale frequency reconstruction loss of MIMO-UNet (Cho et al. 2021,
    "Rethinking Coarse-to-Fine Approach in Single Image Deblurring", eq. 5), at full scale alone.
    The transform is orthonormal here, so that a weight means the same for every crop: theirs is
    not, and its 0.1 on crops of 256x256 is a weight of 25.6 here.
    """
    return torch.fft.fft2(restored - sharp, norm="ortho").abs().mean()


LOSSES: dict[LossName, Loss] = {
    "charbonnier": charbonnier,
    "charbonnier_mse": charbonnier_mse,
    "l1": l1,
    "psnr": psnr_loss,
}


def build_loss(config: TrainConfig) -> Loss:
    """The loss that a configuration asks for: its named one, plus the weighted `frequency`."""
    named, weight = LOSSES[config.loss], config.frequency_weight
    if weight == 0:
        return named
    return lambda restored, sharp: named(restored, sharp) + weight * frequency(restored, sharp)
