"""What a camera adds after the blur: sensor noise in linear light and the artefacts of block
transform compression. Pure functions, each with its own strength for each clip.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def sensor_noise(linear: Tensor, shot: Tensor, read: Tensor, generator: torch.Generator) -> Tensor:
    """Add signal-dependent noise: variance = shot * light + read**2.

    Args:
        linear: linear light 0..1, (B, T, 3, H, W).
        shot: photon noise, (B,); 1 / shot is the number of electrons at full scale.
        read: standard deviation of the read noise, as a fraction of full scale, (B,).
        generator: on the device of `linear`.

    Returns:
        (B, T, 3, H, W), not clipped.
    """
    shot, read = (strength[:, None, None, None, None] for strength in (shot, read))
    deviation = (shot * linear.clamp_min(0) + read**2).sqrt()
    noise = torch.randn(linear.shape, generator=generator, device=linear.device)
    return linear + deviation * noise


def _dct_matrix() -> Tensor:
    """Orthonormal 8-point DCT-II, (8, 8)."""
    k = torch.arange(8, dtype=torch.float32)
    matrix = torch.cos(math.pi / 8 * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / 8)
    matrix[0] /= math.sqrt(2)
    return matrix


# ITU-T T.81, table K.1: the usual luminance quantisation table at quality 50, in 1/255.
_LUMINANCE = torch.tensor(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_LEVEL_SHIFT = 128 / 255  # ITU-T T.81, A.3.1
# ITU-T T.871: full-range BT.601 YCbCr.
_RGB_TO_YCC = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)


def _quantise_blocks(plane: Tensor, step: Tensor) -> Tensor:
    """Quantise the 8x8 DCT of (N, 1, H, W), H and W multiples of 8, with steps (N, 8, 8)."""
    dct = _dct_matrix().to(plane)
    blocks = plane.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)
    coefficients = dct @ blocks @ dct.T  # (N, 1, H/8, W/8, 8, 8)
    table = step[:, None, None, None]
    rounded = (coefficients / table).round() * table
    return (dct.T @ rounded @ dct).transpose(-3, -2).flatten(-4, -3).flatten(-2, -1)


def compress(encoded: Tensor, quality: Tensor) -> Tensor:
    """JPEG artefacts: 8x8 DCT quantisation, chroma at half resolution.

    Args:
        encoded: sRGB 0..1, (B, T, 3, H, W), any size (edges are replicated up to whole blocks).
        quality: 1..100 on libjpeg's scale, (B,).

    Returns:
        (B, T, 3, H, W), not clipped.
    """
    batch, frames, _, height, width = encoded.shape
    flat = encoded.flatten(0, 1)
    flat = functional.pad(flat, (0, -width % 16, 0, -height % 16), mode="replicate")
    matrix = _RGB_TO_YCC.to(encoded)
    ycc = torch.einsum("dc,nchw->ndhw", matrix, flat - _LEVEL_SHIFT)
    # libjpeg's rule from quality to the scale of the table.
    scale = torch.where(quality < 50, 50 / quality.clamp_min(1), 2 - quality / 50)
    step = (_LUMINANCE.to(encoded) * scale[:, None, None]).clamp_min(1) / 255
    step = step.repeat_interleave(frames, dim=0)  # (N, 8, 8)
    luma = _quantise_blocks(ycc[:, :1], step)
    small = functional.avg_pool2d(ycc[:, 1:], 2).flatten(0, 1).unsqueeze(1)  # (N*2, 1, H/2, W/2)
    chroma = _quantise_blocks(small, step.repeat_interleave(2, dim=0)).unflatten(0, (-1, 2))
    chroma = functional.interpolate(
        chroma.squeeze(2), scale_factor=2, mode="bilinear", align_corners=False
    )
    rgb = torch.einsum("cd,ndhw->nchw", torch.linalg.inv(matrix), torch.cat((luma, chroma), 1))
    return (rgb + _LEVEL_SHIFT)[..., :height, :width].unflatten(0, (batch, frames))


def soften_noise(noisy: Tensor, clean: Tensor, strength: Tensor) -> Tensor:
    """Spread noise over neighbouring pixels, the grain that a camera's own processing leaves.

    Args:
        noisy: (B, T, 3, H, W).
        clean: the same without noise.
        strength: 0 (unchanged) .. 1 (3x3 binomial), (B,).

    Returns:
        (B, T, 3, H, W).
    """
    noise = noisy - clean
    tap = torch.tensor([1.0, 2.0, 1.0], device=noisy.device) / 4
    kernel = (tap[:, None] * tap[None]).expand(3, 1, 3, 3)
    flat = functional.pad(noise.flatten(0, 1), (1, 1, 1, 1), mode="replicate")
    smooth = functional.conv2d(flat, kernel, groups=3).unflatten(0, noise.shape[:2])
    share = strength[:, None, None, None, None]
    return clean + (1 - share) * noise + share * smooth
