"""No-reference estimate of blur length and direction, from a single frame.

Natural images have similar power spectra, which fall steeply with frequency (Field, JOSA A 1987).
Blur makes the spectrum fall faster: motion blur in one direction, defocus in all. Noise adds a
floor, which is visible in the corners of the spectrum. For each block of a frame:

- compute the power by direction and frequency band, relative to coarse detail;
- find the direction in which it falls fastest;
- estimate the length from the spectrum along and across it, by a small regression.

The estimate for the frame is the median over its blocks.

The regression was fitted by `scripts/calibrate_blur.py fit` (1,600 samples). `check` measured it on
held-out photographs (400 frames of 256x256; random blur, noise and compression):

- Rank correlation with the true length 0.75, AUC of "more than 4 pixels" 0.92; without night noise
  and strong compression 0.79 and 0.95; with JPEG-like quality below 60 only 0.63 and 0.82. Strong
  compression hides blur, because the edges of its blocks are sharp.
- The median error of the direction is 13 degrees.
- Sharp frames (below 1 pixel) are estimated at 0.6 to 2.7 pixels (10th to 90th percentile).
- Lengths above 12 are underestimated: the median for true lengths of 18 and more is 12.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 128  # pixels
SECTORS = 8  # directions, 22.5 degrees each
# Edges of the frequency rings, cycles per block: about half octaves, from periods of 64 pixels to
# the Nyquist frequency.
_RINGS = (2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0)
RINGS = len(_RINGS) - 1
_COARSE = 2  # number of rings that measure the amount of detail, nearly independent of blur
_MIDDLE = slice(3, 8)  # rings that determine the direction; noise dominates finer ones
_FLOOR_FROM = 72.0  # cycles per block: the corners of the spectrum, which hold mostly noise
_ROUNDING = 1 / 12 / 255**2  # variance of rounding to 8 bits
_LEAST_DETAIL = 0.02  # standard deviation of a block, of full scale
_LEAST_SIGNAL = 8.0  # ratio of coarse power to the noise floor
_LEAST_SLOPE = 3.0  # ratio of coarse power to that of ring 4; noise of any grain has less
_MOST_BLOCKS = 60
_LARGEST_SIDE = 1440  # of the shorter side; larger frames are halved until they fit
_LUMA = (0.299, 0.587, 0.114)
_FITTED = Path(__file__).with_name("sharpness.json")


@dataclass(frozen=True)
class BlurEstimate:
    """Estimated blur of a frame.

    Attributes:
        length: pixels along the blurriest direction, median over the frame. A defocus disk counts
            as the motion blur of equal variance (0.87 of its diameter). None if unknown: too
            little detail, too much noise, or a side below 128 pixels.
        worst: 90th percentile over the frame, such as objects that move before a still camera.
        angle: of the blurriest direction, radians: 0 along x, positive from x to y (downwards);
            -pi/2 to pi/2, in steps of pi/8. Meaningless if `direction` is near 0.
        direction: how well blocks agree on the direction: 1 if all have the same, near 0 if their
            directions are scattered, as with defocus.
        confidence: share of all blocks that had enough detail and whose 1 + length is within a
            factor of two of the median.
    """

    length: float | None
    worst: float | None = None
    angle: float = 0.0
    direction: float = 0.0
    confidence: float = 0.0


UNKNOWN = BlurEstimate(None)


@dataclass(frozen=True)
class Regression:
    """Maps features to log2(1 + length): one hidden layer of tanh units.

    Attributes:
        mean: of the features, (F,).
        spread: their standard deviation, (F,).
        hidden: weights (U, F) and bias (U,).
        out: weights (U,) and bias.
    """

    mean: Tensor
    spread: Tensor
    hidden: tuple[Tensor, Tensor]
    out: tuple[Tensor, float]

    def __call__(self, features: Tensor) -> Tensor:
        """(N, F) -> (N,)."""
        weight, bias = self.hidden
        units = torch.tanh((features - self.mean) / self.spread @ weight.T + bias)
        return units @ self.out[0] + self.out[1]


def estimate_blur(rgb: Tensor) -> BlurEstimate:
    """Estimate the blur of a frame.

    Args:
        rgb: (3, H, W), float, 0..1, display-referred.
    """
    return estimate_luma_blur(luma_of(rgb).cpu())


def luma_of(rgb: Tensor) -> Tensor:
    """(3, H, W) float -> (H, W), weighted as in ITU-R BT.601."""
    weights = torch.tensor(_LUMA, dtype=torch.float32, device=rgb.device)
    return torch.einsum("c,chw->hw", weights, rgb.float())


def estimate_luma_blur(luma: Tensor) -> BlurEstimate:
    """Like `estimate_blur`, from luma (H, W), float, 0..1, on the CPU."""
    scale = 1
    while min(luma.shape) > _LARGEST_SIDE:
        luma = functional.avg_pool2d(luma[None, None], 2)[0, 0]
        scale *= 2
    if min(luma.shape) < BLOCK:
        return UNKNOWN
    cut = blocks(luma)
    features, sectors, usable = block_features(cut)
    if not usable.any():
        return UNKNOWN
    logs = fitted()(features)[usable].clamp_min(0)
    middle = float(np.median(logs))
    agreeing = (logs - middle).abs() <= 1
    # Opposite directions are the same, so average the doubled angle.
    doubled = 2 * math.pi * sectors[usable].double() / SECTORS
    cosine, sine = float(doubled.cos().mean()), float(doubled.sin().mean())
    step = round(math.atan2(sine, cosine) / 2 / (math.pi / SECTORS))
    return BlurEstimate(
        length=scale * (2**middle - 1),
        worst=scale * (2 ** float(logs.quantile(0.9)) - 1),
        angle=step * math.pi / SECTORS,
        direction=math.hypot(cosine, sine),
        confidence=float(agreeing.sum()) / len(cut),
    )


def blocks(luma: Tensor) -> Tensor:
    """Cut evenly spread blocks (N, BLOCK, BLOCK) from luma (H, W), whose sides are >= BLOCK."""
    height, width = luma.shape
    rows, columns = round(height / BLOCK), round(width / BLOCK)
    if rows * columns > _MOST_BLOCKS:
        share = math.sqrt(_MOST_BLOCKS / (rows * columns))
        rows, columns = max(round(rows * share), 1), max(round(columns * share), 1)
    tops = torch.linspace(0, height - BLOCK, rows).round().int().tolist()
    lefts = torch.linspace(0, width - BLOCK, columns).round().int().tolist()
    return torch.stack([luma[y : y + BLOCK, x : x + BLOCK] for y in tops for x in lefts])


def block_features(cut: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the input of the regression.

    Args:
        cut: (N, BLOCK, BLOCK) luma, 0..1.

    Returns:
        Features (N, 3 * RINGS): log2 of the power along the blurriest direction and across it,
        by ring, relative to coarse detail; log2 of the signal-to-noise ratio by ring. Sector of the
        blurriest direction (N,). Whether a block has enough detail and signal (N,).
    """
    gather, window = _spectral_bins()
    mean = (cut * window).sum(dim=(1, 2), keepdim=True) / window.sum()
    spectrum = torch.fft.rfft2((cut - mean) * window).abs().square()
    power = spectrum.flatten(1) @ gather.T
    rings = power[:, :-1].unflatten(1, (SECTORS, RINGS))  # (N, SECTORS, RINGS)
    noise = (power[:, -1] + _ROUNDING)[:, None, None]
    coarse = rings[:, :, :_COARSE].mean(dim=(1, 2))
    usable = (
        (cut.std(dim=(1, 2)) > _LEAST_DETAIL)
        & (coarse > _LEAST_SIGNAL * noise[:, 0, 0])
        & (coarse > _LEAST_SLOPE * rings[:, :, 4].mean(dim=1))
    )
    signal = torch.maximum(rings - noise, 0.1 * noise)
    logs = signal.log2()
    logs = logs - logs[:, :, :_COARSE].mean(dim=(1, 2), keepdim=True)
    fall = logs[:, :, _MIDDLE].mean(dim=2)
    fall = fall.roll(1, dims=1) + 2 * fall + fall.roll(-1, dims=1)
    sector = fall.argmin(dim=1)
    each = torch.arange(len(cut))
    along, across = logs[each, sector], logs[each, (sector + SECTORS // 2) % SECTORS]
    above_noise = (signal / noise).log2().mean(dim=1)
    return torch.cat((along, across, above_noise), dim=1), sector, usable


@lru_cache(maxsize=1)
def _spectral_bins() -> tuple[Tensor, Tensor]:
    """A matrix that averages a flattened `rfft2` spectrum over each sector and ring, and in its
    last row over the corners: (SECTORS * RINGS + 1, BLOCK * (BLOCK / 2 + 1)). And the window
    function (BLOCK, BLOCK), of unit energy.
    """
    y = torch.fft.fftfreq(BLOCK, 1 / BLOCK, dtype=torch.float32)[:, None]
    x = torch.fft.rfftfreq(BLOCK, 1 / BLOCK, dtype=torch.float32)
    radius = torch.hypot(*torch.broadcast_tensors(y, x))
    sector = torch.round(torch.atan2(y, x) / (math.pi / SECTORS)).long() % SECTORS
    ring = torch.bucketize(radius, torch.tensor(_RINGS, dtype=torch.float32), right=True) - 1
    number = torch.where((ring >= 0) & (ring < RINGS), sector * RINGS + ring, -1)
    number = torch.where(radius > _FLOOR_FROM, SECTORS * RINGS, number).flatten()
    gather = (number == torch.arange(SECTORS * RINGS + 1)[:, None]).float()
    hann = torch.hann_window(BLOCK, periodic=False, dtype=torch.float32)
    window = hann[:, None] * hann
    return gather / gather.sum(dim=1, keepdim=True), window / window.square().sum().sqrt()


@lru_cache(maxsize=1)
def fitted() -> Regression:
    """Load the regression that `scripts/calibrate_blur.py` fitted."""
    held = json.loads(_FITTED.read_text(encoding="utf-8"))

    def numbers(name: str) -> Tensor:
        return torch.tensor(held[name], dtype=torch.float32)

    return Regression(
        numbers("mean"),
        numbers("spread"),
        (numbers("hidden"), numbers("hidden_bias")),
        (numbers("out"), float(held["out_bias"])),
    )
