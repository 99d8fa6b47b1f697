"""PSNR, SSIM and flicker of RGB frames."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_RADIUS, _WIDE_RADIUS, _SIGMA = 5, 6, 1.5
WINDOW = 2 * _RADIUS + 1  # of SSIM, pixels


def psnr(restored: Tensor, sharp: Tensor) -> float:
    """Peak signal-to-noise ratio over all pixels and channels.

    Args:
        restored: (3, H, W), float, 0..1.
        sharp: likewise.

    Returns:
        dB; infinite if the frames are equal.

    Raises:
        ValueError: the shapes are not (3, H, W), or differ.
    """
    _check_frames(restored, sharp)
    error = (restored.double() - sharp.double()).square().mean()
    return float(-10 * torch.log10(error))


def _check_frames(restored: Tensor, sharp: Tensor) -> None:
    if restored.dim() != 3 or restored.shape != sharp.shape:
        raise ValueError(
            f"frames of shapes {tuple(restored.shape)} and {tuple(sharp.shape)}: must both be "
            "(3, H, W); measure the frames of a batch one by one"
        )


def gain(after: float, before: float) -> float:
    """Gain in dB; 0 if both values are infinite (equal frames that stayed equal)."""
    return 0.0 if after == before else after - before


def ssim(restored: Tensor, sharp: Tensor) -> float:
    """Structural similarity (Wang et al. 2004), 11x11 Gaussian of sigma 1.5, mean of channels.

    Population covariance, K1 0.01, K2 0.03, only windows that are entirely within the frame.

    Args:
        restored: (3, H, W), float, 0..1, at least 11x11.
        sharp: likewise.

    Raises:
        ValueError: the shapes are not (3, H, W), or differ, or are smaller than the window.
    """
    _check_frames(restored, sharp)
    if min(restored.shape[-2:]) < WINDOW:
        raise ValueError(f"frames of {tuple(restored.shape[-2:])}: SSIM needs at least 11x11")

    def blur(channels: Tensor) -> Tensor:
        return _weigh(_weigh(channels, 1, _RADIUS), 2, _RADIUS)

    return _structural(restored.double(), sharp.double(), blur)


def volume_ssim(restored: Tensor, sharp: Tensor) -> float:
    """SSIM over rows, columns and colour channels as one volume, 11x11x11 Gaussian of sigma 1.5,
    borders repeated.

    This is what MATLAB's `ssim` computes for an RGB array, and what NAFNet, DSTNet and MPRNet
    report. The window also averages over colour channels, so it is 0.01 to 0.08 higher than
    `ssim`.

    Args:
        restored: (3, H, W), float, 0..1.
        sharp: likewise.
    """
    return _over_volume(restored, sharp, _RADIUS, _repeated)


def mirrored_ssim(restored: Tensor, sharp: Tensor) -> float:
    """SSIM over the same volume as `volume_ssim`, but with a 13x13x13 window and mirrored borders,
    the defaults of SciPy's `gaussian_filter`. Shift-Net and BSSTNet report it.

    Args:
        restored: (3, H, W), float, 0..1.
        sharp: likewise.
    """
    return _over_volume(restored, sharp, _WIDE_RADIUS, _mirrored)


def _repeated(index: Tensor, length: int) -> Tensor:
    """aaa|abc|ccc"""
    return index.clamp(0, length - 1)


def _mirrored(index: Tensor, length: int) -> Tensor:
    """cba|abc|cba, repeated as needed."""
    index = index % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)


def _over_volume(
    restored: Tensor, sharp: Tensor, radius: int, within: Callable[[Tensor, int], Tensor]
) -> float:
    """SSIM over the volume, with windows at every pixel and channel. `within` maps indices beyond
    the border to indices within.
    """
    _check_frames(restored, sharp)

    def blur(volume: Tensor) -> Tensor:
        for dim, length in enumerate(volume.shape):
            index = torch.arange(-radius, length + radius, device=volume.device)
            volume = _weigh(volume.index_select(dim, within(index, length)), dim, radius)
        return volume

    return _structural(restored.double(), sharp.double(), blur)


def _weigh(x: Tensor, dim: int, radius: int) -> Tensor:
    """Gaussian filter of the given radius along a dimension, without padding. Summed slice by
    slice: a convolution in float64 would copy its input 11 times.
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
    """Flicker: error of the change from one frame to the next.

    The mean absolute difference between the restored and the true change, on a scale of 0 to 255.
    It is 0 if the error is constant in time, however large.

    Args:
        restored: (3, H, W), float, 0..1.
        restored_before: the previous restored frame.
        sharp: ground truth, likewise.
        sharp_before: the previous ground truth.
    """
    change = restored.double() - restored_before.double()
    return 255 * float((change - (sharp.double() - sharp_before.double())).abs().mean())
