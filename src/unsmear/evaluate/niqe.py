"""NIQE: how natural a frame looks, without a truth to compare it with.

Source: Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE
Signal Processing Letters 2013. Brightness divided by its local contrast is distributed alike in
all sharp photographs; blur, noise and compression change that. A frame is as far from natural
as the statistics of its patches are from those of sharp photographs.

**The photographs are ours** (`niqe.json`, fitted by `scripts/fit_niqe.py`): those of the paper
could not be had. Values are comparable with one another, not with published tables of NIQE. The
photographs hold the grain of cameras: frames without any, such as denoised ones, rate worse. So do
small frames, whose few patches tell less: compare frames of one size.

Left to us by the paper: halves are made by bicubic filtering; products of neighbours stay within
their patch; what does not fill a patch at the right and the bottom is left out; so are patches
without any texture, such as black bars, for which the statistics do not exist.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.errors import InputError
from unsmear.restoration.sharpness import luma_of

PATCH = 96  # pixels
FEATURES = 36
_LEAST_PATCHES = 2  # one has no covariance
_SHARP = 0.75  # of the sharpest patch of a photograph: patches below teach nothing
_RADIUS, _SIGMA = 3, 7 / 6  # of the window
_SHAPES = (0.05, 20.0)  # exponents that are looked for; Gaussian is 2
_HALVINGS = 50  # of that range, in its logarithm
FITTED = Path(__file__).with_name("niqe.json")


class Symmetric(NamedTuple):
    """Generalised Gaussians, exp(-(|x| / scale) ** shape).

    Attributes:
        shape: any shape; 2 is Gaussian, 1 Laplacian.
        scale: likewise.
    """

    shape: Tensor
    scale: Tensor


class Asymmetric(NamedTuple):
    """Generalised Gaussians with a scale on each side of zero.

    Attributes:
        shape: any shape.
        mean: likewise, as all.
        left: scale below zero.
        right: scale above zero.
    """

    shape: Tensor
    mean: Tensor
    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class PristineModel:
    """What patches of sharp photographs are like.

    Attributes:
        mean: of their features, (36,), float64.
        covariance: of their features, (36, 36), float64.
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
    # About the global mean: squares of 255 would leave rounding errors where there is no contrast.
    centred = luma - luma.mean()
    variance = blur(centred.square()) - (mean - luma.mean()).square()
    deviation = variance.clamp_min(0).sqrt()
    return (luma - mean) / (deviation + 1), deviation


def fit_symmetric(x: Tensor) -> Symmetric:
    """Match E|x| and E x^2 of samples about zero (Sharifi and Leon-Garcia 1995).

    Args:
        x: (..., S) samples, float64.

    Returns:
        Of shape (...); not finite where all samples are zero.
    """
    power = x.square().mean(dim=-1)
    shape = _shape_of(x.abs().mean(dim=-1).square() / power)
    return Symmetric(shape, power.sqrt() * _unit_scale(shape))


def fit_asymmetric(x: Tensor) -> Asymmetric:
    """Match E|x| and E x^2 on either side of zero (Lasmar, Stitou and Berthoumieu 2009).

    Args:
        x: (..., S) samples, float64.

    Returns:
        Of shape (...); not finite where a side has no samples.
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
    """Scale of a generalised Gaussian with standard deviation 1."""
    return torch.exp((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2)


def _shape_of(ratio: Tensor) -> Tensor:
    """The exponent of a generalised Gaussian whose (E|x|)^2 / E x^2 is `ratio`, any shape; of
    ratios out of reach the nearest, of NaN NaN. The ratio rises with the exponent: bisection.
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
    """The statistics of every patch of 96x96 pixels, at full and at half size.

    Args:
        luma: (H, W), 0..255, at least 96x96.

    Returns:
        Features (P, 36), not finite where a patch has no texture, and sharpness (P,), the mean
        local deviation at full size; float64, by rows.
    """
    height, width = (side // PATCH * PATCH for side in luma.shape)
    scaled = luma.double()[:height, :width]
    features, sharpness = [], torch.empty(0)
    for side in (PATCH, PATCH // 2):
        coefficients, deviation = normalized(scaled)
        patches = _split(coefficients, side)
        symmetric = fit_symmetric(patches.flatten(1))
        features += [symmetric.shape, symmetric.scale]
        for product in _neighbours(patches):
            features += fit_asymmetric(product.flatten(1))
        if side == PATCH:
            sharpness = _split(deviation, side).mean(dim=(-2, -1))
            scaled = functional.interpolate(
                scaled[None, None], scale_factor=0.5, mode="bicubic", antialias=True
            )[0, 0]
    return torch.stack(features, dim=1), sharpness


def _split(image: Tensor, side: int) -> Tensor:
    """(H, W), multiples of the side -> (P, side, side), by rows."""
    squares = image.unflatten(1, (-1, side)).unflatten(0, (-1, side))  # (r, side, c, side)
    return squares.transpose(1, 2).flatten(0, 1)


def _neighbours(patches: Tensor) -> tuple[Tensor, ...]:
    """Products of coefficients beside, below, and on both diagonals, of patches (P, S, S)."""
    return (
        patches[:, :, :-1] * patches[:, :, 1:],
        patches[:, :-1] * patches[:, 1:],
        patches[:, :-1, :-1] * patches[:, 1:, 1:],
        patches[:, :-1, 1:] * patches[:, 1:, :-1],
    )


def sharp_features(luma: Tensor) -> Tensor:
    """Features (P, 36) of the patches of a photograph that the model is fitted on: those at
    least three quarters as sharp as the sharpest.

    Args:
        luma: (H, W), 0..255, at least 96x96.
    """
    features, sharpness = patch_features(luma)
    return _textured(features[sharpness > _SHARP * sharpness.max()])


def gaussian_of(features: Tensor) -> PristineModel:
    """Mean and covariance of features (P, 36) of two or more patches."""
    return PristineModel(features.mean(dim=0), torch.cov(features.T))


def has_room(width: int, height: int) -> bool:
    """Whether a frame is large enough for NIQE."""
    return (height // PATCH) * (width // PATCH) >= _LEAST_PATCHES


def check_size(width: int, height: int) -> None:
    """Raise InputError where a frame is too small for NIQE."""
    if not has_room(width, height):
        raise InputError(
            f"a frame of {width}x{height} is too small for NIQE: it needs room for "
            f"{_LEAST_PATCHES} patches of {PATCH}x{PATCH}, such as {2 * PATCH}x{PATCH}"
        )


def niqe(frame: Tensor, model: PristineModel) -> float | None:
    """Distance of a frame from sharp photographs; the lower, the more natural.

    Args:
        frame: (3, H, W), float, 0..1, display-referred; room for two patches of 96x96 pixels.
        model: of the photographs, see `load_model`.

    Returns:
        0 or more; None where fewer than two patches have any texture.

    Raises:
        InputError: the frame is too small.
    """
    check_size(frame.shape[-1], frame.shape[-2])
    features = _textured(patch_features(255 * luma_of(frame).cpu())[0])
    if len(features) < _LEAST_PATCHES:
        return None
    own = gaussian_of(features)
    between = own.mean - model.mean
    # Of fewer patches than features the covariance is singular; half of the model's makes up.
    inverse = torch.linalg.pinv((own.covariance + model.covariance) / 2, hermitian=True)
    return math.sqrt(max(float(between @ inverse @ between), 0.0))


def _textured(features: Tensor) -> Tensor:
    return features[features.isfinite().all(dim=1)]


@lru_cache(maxsize=1)
def load_model(path: Path = FITTED) -> PristineModel:
    """The model that comes with Unsmear, or another that `model_as_json` wrote.

    Raises:
        InputError: the file is something else.
        OSError: it cannot be read.
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
    """A model as `load_model` reads it: of the covariance the lower half, a row a line.

    Args:
        model: to write.
        fitted_on: what a reader should know of its origin.
    """

    def row(values: Tensor) -> str:
        return "[" + ", ".join(f"{value:.7g}" for value in values.tolist()) + "]"

    lower = [row(values[: index + 1]) for index, values in enumerate(model.covariance)]
    return (
        f'{{"fitted on": {json.dumps(fitted_on, indent=1)},\n'
        f'"mean": {row(model.mean)},\n'
        '"covariance": [\n' + ",\n".join(lower) + "\n]}\n"
    )
