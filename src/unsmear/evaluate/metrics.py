"""PSNR, SSIM and flicker of RGB frames."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_RADIUS, _WIDE_RADIUS, _SIGMA = 5, 6, 1.5
WINDOW = 2 * _RADIUS + 1  # pixels, of SSIM


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
        return _weigh(_weigh(channels, 1, _RADIUS), 2, _RADIUS)

    return _structural(restored.double(), sharp.double(), blur)


def volume_ssim(restored: Tensor, sharp: Tensor) -> float:
    """SSIM over rows, columns and colour channels as one volume, 11x11x11 Gaussian of sigma
    1.5, borders repeated: what MATLAB's `ssim` makes of an RGB array, and what NAFNet, DSTNet
    and MPRNet report. Colour channels are neighbours to it, which is why it is 0.01 to 0.08
    higher than `ssim`.

    Args:
        restored: (3, H, W), float, 0..1.
        sharp: likewise.
    """
    return _over_volume(restored, sharp, _RADIUS, _repeated)


def mirrored_ssim(restored: Tensor, sharp: Tensor) -> float:
    """SSIM over the same volume as `volume_ssim`, but 13x13x13 and borders mirrored: what SciPy's
    `gaussian_filter` makes of it by default, and what Shift-Net and BSSTNet report.

    Args:
        restored: (3, H, W), float, 0..1.
        sharp: likewise.
    """
    return _over_volume(restored, sharp, _WIDE_RADIUS, _mirrored)


def _repeated(index: Tensor, length: int) -> Tensor:
    """aaa|abc|ccc"""
    return index.clamp(0, length - 1)


def _mirrored(index: Tensor, length: int) -> Tensor:
    """cba|abc|cba, and on like that."""
    index = index % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)


def _over_volume(
    restored: Tensor, sharp: Tensor, radius: int, within: Callable[[Tensor, int], Tensor]
) -> float:
    """SSIM at every pixel and channel; `within` says which one stands for an index beyond."""

    def blur(volume: Tensor) -> Tensor:
        for dim, length in enumerate(volume.shape):
            index = torch.arange(-radius, length + radius, device=volume.device)
            volume = _weigh(volume.index_select(dim, within(index, length)), dim, radius)
        return volume

    return _structural(restored.double(), sharp.double(), blur)


def _weigh(x: Tensor, dim: int, radius: int) -> Tensor:
    """Gaussian mean of neighbours up to a radius along a dimension, only where all of them exist.
    Summed slice by slice: a convolution in float64 copies its input 11 times.
    """
    gaussian = [math.exp(-(n**2) / (2 * _SIGMA**2)) for n in range(-radius, radius + 1)]
    whole = sum(gaussian)
    length = x.shape[dim] - 2 * radius
    total = torch.zeros_like(x.narrow(dim, 0, length))
    for start, weight in enumerate(gaussian):
        total.add_(x.narrow(dim, start, length), alpha=weight / whole)
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
