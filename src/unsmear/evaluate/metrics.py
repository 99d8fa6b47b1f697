"""PSNR and SSIM of RGB frames, as most published tables compute them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


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


def ssim(restored: Tensor, sharp: Tensor) -> float:
    """Structural similarity (Wang et al. 2004), 11x11 Gaussian of sigma 1.5, mean of channels.

    Population covariance, K1 0.01, K2 0.03, only windows that lie within the frame.

    Args:
        restored: (3, H, W), float, 0..1, at least 11x11.
        sharp: likewise.

    Raises:
        ValueError: the frames are smaller than the window.
    """
    if min(restored.shape[-2:]) < 11:
        raise ValueError(f"frames of {tuple(restored.shape[-2:])}: SSIM needs at least 11x11")
    x, y = restored.double()[:, None], sharp.double()[:, None]  # channels as a batch
    offset = torch.arange(-5, 6, dtype=torch.float64, device=x.device)
    tap = torch.exp(-offset.square() / (2 * 1.5**2))
    tap /= tap.sum()

    def blur(image: Tensor) -> Tensor:
        rows = functional.conv2d(image, tap[None, None, :, None])
        return functional.conv2d(rows, tap[None, None, None, :])

    mean_x, mean_y = blur(x), blur(y)
    variance_x = blur(x * x) - mean_x.square()
    variance_y = blur(y * y) - mean_y.square()
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2)
    )
    return float(similarity.mean())
