"""NIQE: no-reference quality of a frame.

Source: Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE
Signal Processing Letters 2013. Brightness divided by local contrast has similar statistics in all
sharp photographs; blur, noise and compression change them. NIQE is the distance between the
statistics of a frame's patches and those of sharp photographs.

**The model is fitted to our own photographs** (`niqe.json`, by `scripts/fit_niqe.py`), because
those of the paper could not be had. Its values compare with each other, not with published ones.
The photographs have camera grain, so frames without it, such as denoised ones, rate worse. So do
small frames, which have few patches: compare frames of one size.

Our choices where the paper is open: downscaling by half is bicubic; products of neighbours stay
within their patch; incomplete patches at the right and the bottom are left out; so are patches
without texture, such as black bars, whose statistics are undefined.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.errors import InputError
from unsmear.restoration.sharpness import luma_of

PATCH = 96  # side, pixels
FEATURES = 36
_LEAST_PATCHES = 2  # the covariance of one is undefined
_SHARP = 0.75  # of the sharpest patch of a photograph; less sharp ones are not used for the fit
_RADIUS, _SIGMA = 3, 7 / 6  # of the Gaussian window
_SHAPES = (0.05, 20.0)  # search range of the exponent; 2 is Gaussian
_HALVINGS = 50  # of that range in the bisection, on a logarithmic scale
FITTED = Path(__file__).with_name("niqe.json")


class Symmetric(NamedTuple):
    """Parameters of generalised Gaussians, exp(-(|x| / scale) ** shape); tensors of any shape.

    Attributes:
        shape: exponent; 2 is Gaussian, 1 Laplacian.
        scale: in the unit of the samples.
    """

    shape: Tensor
    scale: Tensor


class Asymmetric(NamedTuple):
    """Parameters of generalised Gaussians with a scale on each side of zero; tensors of any shape.

    Attributes:
        shape: exponent.
        mean: mean of the distribution.
        left: scale below zero.
        right: scale above zero.
    """

    shape: Tensor
    mean: Tensor
    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class PristineModel:
    """Statistics of patches of sharp photographs.

    Attributes:
        mean: mean of their features, (36,), float64.
        covariance: covariance of their features, (36, 36), float64.
    """

    mean: Tensor
    covariance: Tensor


def normalized(luma: Tensor) -> tuple[Tensor, Tensor]:
    """Mean-subtracted, contrast-normalised brightness (eq. 1-3 of the paper).

    Args:
        luma: (H, W), float64, 0..255.

    Returns:
        The coefficients and the local standard deviation, (H, W) each.
    """
    offset = torch.arange(-_RADIUS, _RADIUS + 1, dtype=luma.dtype, device=luma.device)
    tap = torch.exp(-offset.square() / (2 * _SIGMA**2))
    tap = tap / tap.sum()

    def blur(image: Tensor) -> Tensor:
        padded = functional.pad(image[None, None], (_RADIUS,) * 4, mode="replicate")
        rows = functional.conv2d(padded, tap[None, None, :, None])
        return functional.conv2d(rows, tap[None, None, None, :])[0, 0]

    mean = blur(luma)
    # Relative to the global mean: squares of 255 would leave rounding errors in uniform areas.
    centred = luma - luma.mean()
    variance = blur(centred.square()) - (mean - luma.mean()).square()
    deviation = variance.clamp_min(0).sqrt()
    return (luma - mean) / (deviation + 1), deviation


def fit_symmetric(x: Tensor) -> Symmetric:
    """Fit generalised Gaussians around zero by matching E|x| and E x^2 (Sharifi and Leon-Garcia
    1995).

    Args:
        x: (..., S) samples, float64.

    Returns:
        Parameters of shape (...); not finite where all samples are zero.
    """
    power = x.square().mean(dim=-1)
    shape = _shape_of(x.abs().mean(dim=-1).square() / power)
    return Symmetric(shape, power.sqrt() * _unit_scale(shape))


def fit_asymmetric(x: Tensor) -> Asymmetric:
    """Fit asymmetric generalised Gaussians by matching E|x|, and E x^2 on each side of zero
    (Lasmar, Stitou and Berthoumieu 2009).

    Args:
        x: (..., S) samples, float64.

    Returns:
        Parameters of shape (...); not finite where a side has no samples.
    """

    def deviation(side: Tensor) -> Tensor:
        return ((x.square() * side).sum(dim=-1) / side.sum(dim=-1)).sqrt()

    left, right = deviation(x < 0), deviation(x > 0)
    skew = left / right
    ratio = x.abs().mean(dim=-1).square() / x.square().mean(dim=-1)
    ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew.square() + 1).square()
    shape = _shape_of(ratio)
    left, right = left * _unit_scale(shape), right * _unit_scale(shape)
    mean = (right - left) * torch.exp(torch.lgamma(2 / shape) - torch.lgamma(1 / shape))
    return Asymmetric(shape, mean, left, right)


def _unit_scale(shape: Tensor) -> Tensor:
    """Scale of a generalised Gaussian of standard deviation 1."""
    return torch.exp((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2)


def _shape_of(ratio: Tensor) -> Tensor:
    """Exponent of the generalised Gaussian whose (E|x|)^2 / E x^2 is `ratio` (tensor of any shape).

    Found by bisection, as the ratio increases with the exponent. Ratios out of range give the
    nearest end of `_SHAPES`; NaN gives NaN.
    """
    low = torch.full_like(ratio, math.log(_SHAPES[0]))
    high = torch.full_like(ratio, math.log(_SHAPES[1]))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        shape = middle.exp()
        found = 2 * torch.lgamma(2 / shape) - torch.lgamma(1 / shape) - torch.lgamma(3 / shape)
        rises = found.exp() < ratio
        low, high = torch.where(rises, middle, low), torch.where(rises, high, middle)
    return torch.where(ratio.isnan(), ratio, ((low + high) / 2).exp())


def patch_features(luma: Tensor) -> tuple[Tensor, Tensor]:
    """Features of every patch of 96x96 pixels, at full and at half resolution.

    Args:
        luma: (H, W), 0..255, at least 96x96.

    Returns:
        Features (P, 36), not finite where a patch has no texture, and sharpness (P,), the mean
        local standard deviation at full resolution; float64, patches row by row.
    """
    height, width = (side // PATCH * PATCH for side in luma.shape)
    whole = luma.double()[:height, :width]
    half = functional.interpolate(
        whole[None, None], scale_factor=0.5, mode="bicubic", antialias=True
    )[0, 0]
    coefficients, deviation = normalized(whole)
    features = [*_statistics(coefficients, PATCH), *_statistics(normalized(half)[0], PATCH // 2)]
    return torch.stack(features, dim=1), _split(deviation, PATCH).mean(dim=(-2, -1))


def _statistics(coefficients: Tensor, side: int) -> Iterator[Tensor]:
    """The 18 features at one resolution, (P,) each, of normalised brightness (H, W)."""
    patches = _split(coefficients, side)
    yield from fit_symmetric(patches.flatten(1))
    for product in _neighbours(patches):
        yield from fit_asymmetric(product.flatten(1))


def _split(image: Tensor, side: int) -> Tensor:
    """(H, W), multiples of the side -> patches (P, side, side), row by row."""
    return image.unfold(0, side, side).unfold(1, side, side).flatten(0, 1)


def _neighbours(patches: Tensor) -> tuple[Tensor, ...]:
    """Products of adjacent coefficients of patches (P, S, S): horizontal, vertical, and along both
    diagonals.
    """
    return (
        patches[:, :, :-1] * patches[:, :, 1:],
        patches[:, :-1] * patches[:, 1:],
        patches[:, :-1, :-1] * patches[:, 1:, 1:],
        patches[:, :-1, 1:] * patches[:, 1:, :-1],
    )


def sharp_features(luma: Tensor) -> Tensor:
    """Features (P, 36) of the patches of a photograph that are used to fit the model: those with
    texture that are more than three quarters as sharp as the sharpest.

    Args:
        luma: (H, W), 0..255, at least 96x96.
    """
    features, sharpness = patch_features(luma)
    return _textured(features[sharpness > _SHARP * sharpness.max()])


def gaussian_of(features: Tensor) -> PristineModel:
    """Mean and covariance of the features (P, 36) of two or more patches."""
    return PristineModel(features.mean(dim=0), torch.cov(features.T))


def has_room(width: int, height: int) -> bool:
    """Whether a frame is large enough for NIQE (two patches)."""
    return (height // PATCH) * (width // PATCH) >= _LEAST_PATCHES


def check_size(width: int, height: int) -> None:
    """Check that a frame is large enough for NIQE.

    Raises:
        InputError: it is not.
    """
    if not has_room(width, height):
        raise InputError(
            f"a frame of {width}x{height} is too small for NIQE: it needs room for "
            f"{_LEAST_PATCHES} patches of {PATCH}x{PATCH}, such as {2 * PATCH}x{PATCH}"
        )


def niqe(frame: Tensor, model: PristineModel) -> float | None:
    """NIQE of a frame: its distance from sharp photographs. Lower is more natural.

    Args:
        frame: (3, H, W), float, 0..1, display-referred; large enough for two patches of 96x96.
        model: statistics of the photographs, see `load_model`.

    Returns:
        0 or more; None if fewer than two patches have texture.

    Raises:
        InputError: the frame is too small.
    """
    check_size(frame.shape[-1], frame.shape[-2])
    features = _textured(patch_features(255 * luma_of(frame).cpu())[0])
    if len(features) < _LEAST_PATCHES:
        return None
    own = gaussian_of(features)
    between = own.mean - model.mean
    # With fewer patches than features, `own.covariance` is singular; the mean with the model's is
    # not.
    inverse = torch.linalg.pinv((own.covariance + model.covariance) / 2, hermitian=True)
    return math.sqrt(max(float(between @ inverse @ between), 0.0))


def _textured(features: Tensor) -> Tensor:
    return features[features.isfinite().all(dim=1)]


@lru_cache(maxsize=1)
def load_model(path: Path = FITTED) -> PristineModel:
    """Load the model that comes with Unsmear, or another that `model_as_json` wrote.

    Raises:
        InputError: the file is not such a model.
        OSError: the file cannot be read.
    """
    covariance = torch.zeros(FEATURES, FEATURES, dtype=torch.float64)
    rows, columns = torch.tril_indices(FEATURES, FEATURES)
    try:
        fitted = json.loads(path.read_text(encoding="utf-8"))
        lower = [value for row in fitted["covariance"] for value in row]
        covariance[rows, columns] = torch.tensor(lower, dtype=torch.float64)
        mean = torch.tensor(fitted["mean"], dtype=torch.float64).reshape(FEATURES)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise InputError(
            f"'{path}' is not a NIQE model: give a file written by scripts/fit_niqe.py ({error})"
        ) from None
    return PristineModel(mean, covariance + covariance.tril(-1).T)


def model_as_json(model: PristineModel, fitted_on: dict[str, str | int]) -> str:
    """A model as `load_model` reads it, with the lower triangle of the covariance, one row per
    line.

    Args:
        model: to write.
        fitted_on: origin of the model, for readers.
    """

    def row(values: Tensor) -> str:
        return "[" + ", ".join(f"{value:.7g}" for value in values.tolist()) + "]"

    lower = [row(values[: index + 1]) for index, values in enumerate(model.covariance)]
    return (
        f'{{"fitted on": {json.dumps(fitted_on, indent=1)},\n'
        f'"mean": {row(model.mean)},\n'
        '"covariance": [\n' + ",\n".join(lower) + "\n]}\n"
    )
