"""PSNR, SSIM and flicker of RGB frames."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_RADIUS, _SIGMA = 5, 1.5
WINDOW = 2 * _RADIUS + 1  # pixels, of SSIM
_GAUSSIAN = [math.exp(-(n**2) / (2 * _SIGMA**2)) for n in range(-_RADIUS, _RADIUS + 1)]
_TAPS = [weight / sum(_GAUSSIAN) for weight in _GAUSSIAN]


def psnr(restored: Tensor, sharp: Tensor) -> float:
    """Peak signal-to-noise ratio over all pixels and channels.

    Args:
        restored: (3, H, W), float, 0..1.
        sharp: likewise.

    Returns:
        dB; infinite for equal frames.
    """
    error = (restored.double() - sharp.double()).square().mean()
    return float(-10 * torch.log10(error))


def gain(after: float, before: float) -> float:
    """What was gained, dB: 0 where both are infinite, frames that were equal and stayed so."""
    return 0.0 if after == before else after - before


def ssim(restored: Tensor, sharp: Tensor) -> float:
    """Structural similarity (Wang et al. 2004), 11x11 Gaussian of sigma 1.5, mean of channels.

    Population covariance, K1 0.01, K2 0.03, only windows that lie within the frame.

    Args:
        restored: (3, H, W), float, 0..1, at least 11x11.
        sharp: likewise.

    Raises:
        ValueError: the frames are smaller than the window.
    """
    if min(restored.shape[-2:]) < WINDOW:
        raise ValueError(f"frames of {tuple(restored.shape[-2:])}: SSIM needs at least 11x11")

    def blur(channels: Tensor) -> Tensor:
        return _weigh(_weigh(channels, 1), 2)

    return _structural(restored.double(), sharp.double(), blur)


def volume_ssim(restored: Tensor, sharp: Tensor) -> float:
    """SSIM over rows, columns and colour channels as one volume, 11x11x11 Gaussian of sigma
    1.5, borders repeated: what MATLAB's `ssim` makes of an RGB array, and what NAFNet, DSTNet
    and Shift-Net report. Colour channels are neighbours to it, which is why it is 0.01 to 0.08
    higher than `ssim`.

    Args:
        restored: (3, H, W), float, 0..1.
        sharp: likewise.
    """

    def blur(volume: Tensor) -> Tensor:
        for dim, length in enumerate(volume.shape):
            index = torch.arange(-_RADIUS, length + _RADIUS, device=volume.device)
            volume = _weigh(volume.index_select(dim, index.clamp(0, length - 1)), dim)
        return volume

    return _structural(restored.double(), sharp.double(), blur)


def _weigh(x: Tensor, dim: int) -> Tensor:
    """Gaussian mean of 11 neighbours along a dimension, only where all of them exist. Summed
    slice by slice: a convolution in float64 copies its input 11 times.
    """
    length = x.shape[dim] - 2 * _RADIUS
    total = torch.zeros_like(x.narrow(dim, 0, length))
    for start, weight in enumerate(_TAPS):
        total.add_(x.narrow(dim, start, length), alpha=weight)
    return total


def _structural(x: Tensor, y: Tensor, blur: Callable[[Tensor], Tensor]) -> float:
    mean_x, mean_y = blur(x), blur(y)
    variance_x = blur(x * x) - mean_x.square()
    variance_y = blur(y * y) - mean_y.square()
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2)
    )
    return float(similarity.mean())


def temporal_error(
    restored: Tensor, restored_before: Tensor, sharp: Tensor, sharp_before: Tensor
) -> float:
    """Flicker: how far the change from one frame to the next is from the true change.

    The mean absolute difference of both changes, in code values of 255; 0 where errors stay
    as they are, whatever their size.

    Args:
        restored: (3, H, W), float, 0..1.
        restored_before: the frame before it.
        sharp: likewise.
        sharp_before: the frame before it.
    """
    change = restored.double() - restored_before.double()
    return 255 * float((change - (sharp.double() - sharp_before.double())).abs().mean())
