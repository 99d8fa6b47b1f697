"""Losses between restored and sharp clips, (B, T, 3, H, W), sRGB 0..1 -> a scalar; and between
estimated and true trails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unsmear.data.clips import Clips
from unsmear.data.trails import Trails
from unsmear.models.config import NetworkConfig
from unsmear.models.trails import doubled

if TYPE_CHECKING:
    from unsmear.train.config import TrainConfig  # which checks names against `LOSSES`

Loss = Callable[[Tensor, Tensor], Tensor]
_LONGEST = 48.0  # pixels along x and along y; longer true trails are clamped


def charbonnier(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean of sqrt(difference**2 + 1e-6): L1, smooth at zero."""
    return ((restored - sharp).square() + 1e-6).sqrt().mean()


def l1(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (restored - sharp).abs().mean()


def charbonnier_mse(restored: Tensor, sharp: Tensor) -> Tensor:
    """Charbonnier plus ten times the mean squared error.

    Where the sharp frame is ambiguous, Charbonnier alone converges to the median of the candidates,
    but PSNR asks for the mean. The squared error counts only where the difference is large, so
    nearly sharp frames are learned as with Charbonnier alone.
    """
    return charbonnier(restored, sharp) + 10 * (restored - sharp).square().mean()


def psnr_loss(restored: Tensor, sharp: Tensor) -> Tensor:
    """Minus the mean PSNR of the frames, in units of 10 dB.

    The squared error of one code value (1/255) is added as a floor, so that nearly perfect frames
    do not dominate.
    """
    error = (restored - sharp).square().flatten(2).mean(dim=-1)  # (B, T)
    return torch.log10(error + (1 / 255) ** 2).mean()


def frequency(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean magnitude of the spectrum of the difference, each frame and channel by itself.

    Source: the multi-scale frequency reconstruction loss of MIMO-UNet (Cho et al. 2021,
    "Rethinking Coarse-to-Fine Approach in Single Image Deblurring", eq. 5), at full scale only.
    The transform is orthonormal here, so a weight means the same for every crop. Theirs is not:
    their weight of 0.1 on crops of 256x256 corresponds to 25.6 here.
    """
    return torch.fft.fft2(restored - sharp, norm="ortho").abs().mean()


LOSSES: dict[str, Loss] = {
    "charbonnier": charbonnier,
    "charbonnier_mse": charbonnier_mse,
    "l1": l1,
    "psnr": psnr_loss,
}
"""Losses by name. A program may add its own, for its presets."""


def trail_loss(estimated: Tensor, truth: Trails) -> Tensor:
    """Distance between estimated and true trails: in pixels for short trails, in tenths of the
    length for long ones, or a few long trails would dominate.

    Args:
        estimated: `unsmear.models.trails.doubled`, in pixels, (B, T, 2, h, w).
        truth: (x, y) of the same cells, not doubled.

    Returns:
        Mean over all cells. Unknown cells count as zero, so that the mean over the parts of a batch
        is that over the batch.
    """
    wanted = doubled(truth.vectors.clamp(-_LONGEST, _LONGEST).flatten(0, 1))
    error = (estimated.flatten(0, 1) - wanted).square().sum(dim=1)
    rounded = (error + 0.01).sqrt() / (1 + 0.1 * wanted.norm(dim=1))
    return (rounded * truth.known.flatten(0, 1)[:, 0]).mean()


def build_loss(config: TrainConfig) -> Loss:
    """The configured loss: the named one plus the weighted `frequency`."""
    named, weight = LOSSES[config.loss], config.frequency_weight
    if weight == 0:
        return named
    return lambda restored, sharp: named(restored, sharp) + weight * frequency(restored, sharp)


def restore_and_compare(
    network: nn.Module, clips: Clips, loss: Loss, trail_weight: float
) -> tuple[Tensor, Tensor]:
    """Restored clips, float32, and their loss, including that on trails.

    Args:
        network: restores clips (B, T, 3, H, W). One that follows trails takes `motion` and
            `with_trails`, as `DeblurNetwork` does.
        clips: blurry input and sharp target.
        loss: see `build_loss`.
        trail_weight: of `trail_loss`; 0 if the network follows no trails.
    """
    # A network that had to measure the motion could not be recorded as a CUDA graph.
    known = {"motion": clips.motion} if _follows_trails(network) else {}
    if clips.seen is not None:
        known["seen"] = clips.seen
    if trail_weight == 0:
        restored = network(clips.blurry, **known).float()
        return restored, loss(restored, clips.sharp)
    restored, trails = network(clips.blurry, with_trails=True, **known)
    restored = restored.float()
    apart = trail_loss(trails.float(), clips.trails)
    return restored, loss(restored, clips.sharp) + trail_weight * apart


def trail_weight_of(network: nn.Module, config: TrainConfig) -> float:
    """The configured trail weight; 0 for networks that do not follow trails."""
    return config.trail_weight if _follows_trails(network) else 0.0


def _follows_trails(network: nn.Module) -> bool:
    shape = getattr(network, "config", None)
    return isinstance(shape, NetworkConfig) and bool(shape.trail_levels)
