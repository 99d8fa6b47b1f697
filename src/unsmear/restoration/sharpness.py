"""How far a frame is smeared, judged from the frame alone.

Photographs of all kinds have about one power spectrum, falling steeply with frequency (Field,
JOSA A 1987). Blur makes it fall faster, in one direction where it comes from motion, in all
where it comes from focus; noise puts a floor under it, which the corners of the spectrum show.
So for each block of a frame: power by direction and octave, relative to its coarse detail; the
direction in which it falls fastest; and from the spectrum along and across that direction the
length, by a small regression. What a frame is smeared by is the median of its blocks.

The regression was fitted by `scripts/calibrate_blur.py fit` (1,600 samples), and `check` measured
it on photographs held out (400 frames of 256x256; blur, noise, compression at random): rank
correlation with the true length 0.75, AUC of "more than 4 pixels" 0.92; with neither the noise of a
night nor strong compression 0.79 and 0.95, with JPEG-like quality below 60 only 0.63 and 0.82; the
direction is off by 13 degrees in the median. Sharp frames (below 1 pixel) are taken for 0.6 to 2.7
pixels (10 to 90 %). Lengths above 12 come out short: a true 18 and more gives 12 in the median.
Strong compression hides blur, because the edges of its blocks are sharp.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 128  # pixels
SECTORS = 8  # directions, 22.5 degrees each
# Rings of frequency, cycles a block: half octaves from detail of 64 pixels to the finest.
_RINGS = (2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0)
RINGS = len(_RINGS) - 1
_COARSE = 2  # so many rings say how much detail there is, whatever the blur
_MIDDLE = slice(3, 8)  # rings that tell the direction: finer ones drown in noise
_FLOOR_FROM = 72.0  # cycles a block, in the corners: little but noise lives there
_ROUNDING = 1 / 12 / 255**2  # variance of rounding to 8 bits
_LEAST_DETAIL = 0.02  # standard deviation of a block, of full scale
_LEAST_SIGNAL = 8.0  # coarse power to noise floor
_LEAST_SLOPE = 3.0  # coarse power to that of ring 4: noise of any grain is below
_MOST_BLOCKS = 60
_LARGEST_SIDE = 1440  # the shorter one; larger frames are looked at in half the size
_LUMA = (0.299, 0.587, 0.114)
_FITTED = Path(__file__).with_name("sharpness.json")


@dataclass(frozen=True)
class BlurEstimate:
    """How far a frame is smeared.

    Attributes:
        length: pixels along the blurriest direction, median over the frame; a defocused disk
            counts as the motion with its variance (0.87 of its diameter). None if unknown: too
            little detail, too much noise, or a side below 128 pixels.
        worst: the same for the blurriest tenth of the frame: what moves before a still camera.
        angle: of that direction, radians, 0 along x, rising from x to y (downwards); -pi/2 to
            pi/2, in steps of pi/8. Without meaning where `direction` is near 0.
        direction: 0 where the blur is alike in all directions, 1 where all blocks agree on one.
        confidence: share of the frame's blocks that had enough detail and agree on the length,
            as 1 + length, within a factor of two.
    """

    length: float | None
    worst: float | None = None
    angle: float = 0.0
    direction: float = 0.0
    confidence: float = 0.0


UNKNOWN = BlurEstimate(None)


@dataclass(frozen=True)
class Regression:
    """From features to log2(1 + length): tanh units between two linear maps.

    Attributes:
        mean: of the features, (F,).
        spread: their standard deviation, (F,).
        hidden: (U, F) and bias (U,).
        out: (U,) and bias.
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
    """Estimate how far a frame is smeared.

    Args:
        rgb: (3, H, W), float, 0..1, display-referred.
    """
    return estimate_luma_blur(luma_of(rgb).cpu())


def luma_of(rgb: Tensor) -> Tensor:
    """(3, H, W) float -> (H, W), weighted as in ITU-R BT.601."""
    weights = torch.tensor(_LUMA, dtype=torch.float32, device=rgb.device)
    return torch.einsum("c,chw->hw", weights, rgb.float())


def estimate_luma_blur(luma: Tensor) -> BlurEstimate:
    """As `estimate_blur`, from luma (H, W), float, 0..1, on the CPU."""
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
    middle = logs.median() if len(logs) % 2 else logs.sort().values[len(logs) // 2 - 1 :][:2].mean()
    agreeing = (logs - middle).abs() <= 1
    # A direction and its opposite are one: twice the angle goes round once.
    doubled = 2 * math.pi * sectors[usable].double() / SECTORS
    cosine, sine = float(doubled.cos().mean()), float(doubled.sin().mean())
    step = round(math.atan2(sine, cosine) / 2 / (math.pi / SECTORS))
    return BlurEstimate(
        length=scale * (2 ** float(middle) - 1),
        worst=scale * (2 ** float(logs.quantile(0.9)) - 1),
        angle=step * math.pi / SECTORS,
        direction=math.hypot(cosine, sine),
        confidence=float(agreeing.sum()) / len(cut),
    )


def blocks(luma: Tensor) -> Tensor:
    """Blocks spread evenly over luma (H, W), sides of BLOCK and more: (N, BLOCK, BLOCK)."""
    height, width = luma.shape
    rows, columns = round(height / BLOCK), round(width / BLOCK)
    if rows * columns > _MOST_BLOCKS:
        share = math.sqrt(_MOST_BLOCKS / (rows * columns))
        rows, columns = max(round(rows * share), 1), max(round(columns * share), 1)
    tops = torch.linspace(0, height - BLOCK, rows).round().int().tolist()
    lefts = torch.linspace(0, width - BLOCK, columns).round().int().tolist()
    return torch.stack([luma[y : y + BLOCK, x : x + BLOCK] for y in tops for x in lefts])


def block_features(cut: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the regression looks at.

    Args:
        cut: (N, BLOCK, BLOCK) luma, 0..1.

    Returns:
        Features (N, 3 * RINGS): log2 of the power along the blurriest direction and across it,
        by ring, relative to coarse detail; log2 of signal to noise by ring. The blurriest
        direction as the number of its sector (N,). Whether a block can be judged at all (N,).
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
    """Averages over sectors and rings, then over the corners, of a half spectrum as `rfft2` gives
    it: (SECTORS * RINGS + 1, BLOCK * (BLOCK / 2 + 1)); and the window, of unit energy.
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
    """The regression that `scripts/calibrate_blur.py` wrote."""
    held = json.loads(_FITTED.read_text())

    def numbers(name: str) -> Tensor:
        return torch.tensor(held[name], dtype=torch.float32)

    return Regression(
        numbers("mean"),
        numbers("spread"),
        (numbers("hidden"), numbers("hidden_bias")),
        (numbers("out"), float(held["out_bias"])),
    )
