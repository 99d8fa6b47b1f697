"""PSNR, SSIM and flicker of RGB frames."""

from __future__ import annotations

from collections.abc import Callable

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
    tap = _gaussian(restored.device)

    def blur(image: Tensor) -> Tensor:
        rows = functional.conv2d(image, tap[None, None, :, None])
        return functional.conv2d(rows, tap[None, None, None, :])

    # Channels as a batch.
    return _structural(restored.double()[:, None], sharp.double()[:, None], blur)


def volume_ssim(restored: Tensor, sharp: Tensor) -> float:
    """SSIM over rows, columns and colour channels as one volume, 11x11x11 Gaussian of sigma
    1.5, borders repeated: what MATLAB's `ssim` makes of an RGB array, and what NAFNet, DSTNet
    and Shift-Net report. Colour channels are neighbours to it, which is why it is 0.01 to 0.08
    higher than `ssim`.

    Args:
        restored: (3, H, W), float, 0..1.
        sharp: likewise.
    """
    tap = _gaussian(restored.device)

    def blur(volume: Tensor) -> Tensor:
        out = functional.pad(volume, (5,) * 6, mode="replicate")
        out = functional.conv3d(out, tap[None, None, :, None, None])
        out = functional.conv3d(out, tap[None, None, None, :, None])
        return functional.conv3d(out, tap[None, None, None, None, :])

    return _structural(restored.double()[None, None], sharp.double()[None, None], blur)


def _gaussian(device: torch.device) -> Tensor:
    offset = torch.arange(-5, 6, dtype=torch.float64, device=device)
    tap = torch.exp(-offset.square() / (2 * 1.5**2))
    return tap / tap.sum()


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
