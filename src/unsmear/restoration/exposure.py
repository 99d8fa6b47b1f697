"""Path of the camera during an exposure: what it does to a frame, and its fit to a blurry one.

Sensors add up light and not encoded values, so all of this is in linear light. The path follows the
motion between frames, which differs from place to place, plus a curve that all pixels share.

Source: blur as an average over the camera's path as in Tai, Tan and Brown 2011, "Richardson-Lucy
Deblurring for Scenes under a Projective Motion Path"; fitted with Levenberg-Marquardt.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.restoration.smoothing import tent_filtered

GAMMA = 2.2
"""Encoded values are about the root of this degree of linear light."""

_MOMENTS = 9  # of an exposure at which the path is sampled
_POINTS = 7  # of the curve, evenly spaced in time; between them it is straight
_FREEDOMS = 4  # of each point: shift along x and y, rotation, zoom
_SIDE = 640  # pixels: the path is fitted to frames shrunk to this side or less, first to half of it
_COMPARED = 50_000  # pixels of these, evenly spread, or all if there are fewer
_TRIALS = 10, 4  # steps of the fit at the two sizes
_USUAL_SHARE = 0.6  # of the time between frames that a shutter is open; the fit prefers it a little
# Weights of what the fit prefers, beside 1e4 times the mean squared difference.
_SHARE_WEIGHT, _BEND_WEIGHT, _CURVE_WEIGHT = 0.3, 0.02, 0.01
_DARK = 0.01  # linear light below which the slope of the encoding is taken as constant
_CLIPPED = 0.98  # encoded values from here on may have been any brightness
# Pixels blurred at a time: so few that a CPU has their places in its cache; elsewhere more at once.
_STRIP, _STRIP_ELSEWHERE = 2**15, 2**20


class CameraPath(NamedTuple):
    """Path of the camera's view during an exposure, relative to its middle, in pixels.

    Attributes:
        velocity: motion from frame to frame, (1, 2, h, w) of any size, x and y. Between its places
            it is interpolated.
        share: of the time between frames that the shutter is open, a scalar tensor on the CPU.
        curve: at each of the points, (7, 4), on the CPU: shift along x and y, then rotation and
            zoom as the shift that they cause at half the width.
    """

    velocity: Tensor
    share: Tensor
    curve: Tensor

    def scaled(self, times: float) -> CameraPath:
        """The same path in frames of `times` the size, or one of that length."""
        return CameraPath(self.velocity * times, self.share, self.curve * times)

    def backwards(self) -> CameraPath:
        """The same path in the other direction."""
        return CameraPath(self.velocity, -self.share, -self.curve)

    def at_every_pixel(self, height: int, width: int) -> CameraPath:
        """The same path, with the velocity at each pixel of a frame, so that this is not
        interpolated again whenever the path is used.
        """
        if self.velocity.shape[-2:] == (height, width):
            return self
        size = (height, width)
        velocity = functional.interpolate(self.velocity, size, mode="bilinear", align_corners=False)
        return self._replace(velocity=velocity)


def reblurred(light: Tensor, path: CameraPath, *, adjoint: bool = False) -> Tensor:
    """Average of a frame over the moments of an exposure.

    Args:
        light: (1, C, H, W), linear light.
        path: in pixels of this frame.
        adjoint: along the reversed path: the adjoint of the average if the path is the same
            everywhere, else nearly so.

    Returns:
        (1, C, H, W).
    """
    height, width = light.shape[-2:]
    path = path.at_every_pixel(height, width)
    path = path.backwards() if adjoint else path
    shifts = _Shifts.of(path)
    pixels = _STRIP if light.device.type == "cpu" else _STRIP_ELSEWHERE
    strip = max(1, pixels // width)
    parts = []
    for top in range(0, height, strip):
        places = shifts.places(slice(top, top + strip), slice(None))
        parts.append(_sampled(light, places).mean(dim=0, keepdim=True))
    return torch.cat(parts, dim=2)


class _Shifts(NamedTuple):
    """Parts of the places from which light comes at each of the nine moments, along x and y, as
    `grid_sample` counts: from -1 to 1 across the frame.

    Attributes:
        velocity: (2, 1, H, W), pixels.
        shares: factors of the velocity, (2, 9, 1, 1).
        by_column: what depends on the column alone, (2, 9, 1, W).
        by_row: (2, 9, H, 1).
    """

    velocity: Tensor
    shares: Tensor
    by_column: Tensor
    by_row: Tensor

    @classmethod
    def of(cls, path: CameraPath) -> _Shifts:
        """`path`: with the velocity at every pixel."""
        velocity = path.velocity[0, :, None]
        height, width = velocity.shape[-2:]
        right, below = _offsets(velocity)
        curve = (_hats() @ path.curve).to(right.device, right.dtype)[..., None, None]
        x, y, turn, zoom = curve.unbind(1)  # (9, 1, 1) each
        half = width / 2  # in pixels: the unit of the offsets
        scale = torch.tensor((2 / width, 2 / height), device=right.device).view(2, 1, 1, 1)
        shares = (_moments() * path.share).to(right.device, right.dtype)[:, None, None]
        return cls(
            velocity,
            shares * scale,
            torch.stack((x + (half + zoom) * right, y + turn * right)) * scale,
            torch.stack((-turn * below, (half + zoom) * below)) * scale,
        )

    def places(self, rows: slice, columns: slice) -> Tensor:
        """Of some pixels, (9, h, w, 2)."""
        velocity, by_column = self.velocity[..., rows, columns], self.by_column[..., columns]
        places = torch.addcmul(by_column, self.shares, velocity).add_(self.by_row[..., rows, :])
        return places.permute(1, 2, 3, 0)


def _sampled(x: Tensor, places: Tensor) -> Tensor:
    """(1, C, H, W) at nine times (h, w) places -> (9, C, h, w); edge pixels are repeated."""
    return functional.grid_sample(
        x.expand(len(places), -1, -1, -1), places,
        mode="bilinear", padding_mode="border", align_corners=False,
    )  # fmt: skip


def _moments() -> Tensor:
    """Times of the moments relative to the middle, in exposures."""
    return torch.linspace(-0.5, 0.5, _MOMENTS)


def _hats() -> Tensor:
    """Linear interpolation from the points of a curve to the moments, (9, 7)."""
    times = torch.linspace(0, _POINTS - 1, _MOMENTS)
    return (1 - (times[:, None] - torch.arange(_POINTS)).abs()).clamp_min(0)


def _offsets(frame: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets of the pixels of a frame from its middle in halves of its width: (W) to the right,
    (H, 1) downwards. `frame`: (..., H, W).
    """
    height, width = frame.shape[-2:]
    right, below = (
        (torch.arange(side, device=frame.device) - (side - 1) / 2) / (width / 2)
        for side in (width, height)
    )
    return right, below[:, None]


def fit_path(restored: Tensor, blurry: Tensor, velocity: Tensor) -> CameraPath:
    """Fit the path along which a restored frame becomes the blurry one.

    Args:
        restored: luma in linear light, (1, 1, H, W).
        blurry: likewise.
        velocity: motion from frame to frame, (1, 2, h, w), in pixels of these frames.

    Returns:
        Path in pixels of these frames.
    """
    fine = max(2, 2 ** math.ceil(math.log2(max(restored.shape[-2:]) / _SIDE)))
    path = CameraPath(velocity, torch.tensor(_USUAL_SHARE), _first_curve())
    for shrink, trials in zip((2 * fine, fine), _TRIALS, strict=True):
        small, seen = (
            functional.avg_pool2d(x, shrink, ceil_mode=True, count_include_pad=False)
            for x in (restored, blurry)
        )
        start = path.scaled(1 / shrink).at_every_pixel(*small.shape[-2:])
        found = _fitted(small, seen, start, trials)
        path = CameraPath(velocity, found.share, found.curve * shrink)
    return path


def _first_curve() -> Tensor:
    """A small arc. On a straight line of length zero, no direction would be better than another."""
    time = torch.linspace(-1, 1, _POINTS)
    still = torch.zeros_like(time)
    return torch.stack((1.2 * (time.square() - 0.4), 1.2 * time, still, still), dim=1)


def _fitted(restored: Tensor, blurry: Tensor, path: CameraPath, trials: int) -> CameraPath:
    """Levenberg-Marquardt: a path that fits better than the one to start from, if there is any.

    Args:
        restored: luma in linear light, (1, 1, H, W).
        blurry: likewise.
        path: to start from, with the velocity at every pixel.
        trials: steps at most.
    """
    slopes = slope(blurry) * unclipped(blurry)
    apart = max(1, math.isqrt(blurry.numel() // _COMPARED))
    prior, usual = _preferences()

    def look(path: CameraPath) -> tuple[float, Tensor, Tensor]:
        """Cost, its curvature and its downward slope by the parameters."""
        off, by = _difference(restored, blurry, path, slopes, apart)
        beyond = _parameters(path) - usual
        # Both at once: the derivatives by the parameters, and the difference itself.
        every = torch.cat((by, off[None]))
        products = (every @ every.T).cpu() * (1e4 / off.numel())
        cost = float(products[-1, -1] + beyond @ prior @ beyond)
        return cost, products[:-1, :-1] + prior, -products[:-1, -1] - prior @ beyond

    damping = 1e-2
    cost, curvature, downward = look(path)
    for _ in range(trials):
        mean = curvature.diagonal().mean()
        eased = curvature + damping * mean * torch.eye(len(curvature))
        moved = _parameters(path) + torch.linalg.solve(eased, downward)
        tried = CameraPath(path.velocity, moved[-1].clamp(0, 1.2), moved[:-1].view_as(path.curve))
        found = look(tried)
        if found[0] < cost:
            done = cost - found[0] < 1e-3 * cost
            path, (cost, curvature, downward) = tried, found
            damping /= 5
            if done:
                break
        else:
            damping *= 10
    return path


def _parameters(path: CameraPath) -> Tensor:
    """(29): the points of the curve one after the other, then the share."""
    return torch.cat((path.curve.flatten(), path.share[None]))


def _preferences() -> tuple[Tensor, Tensor]:
    """Weights (29, 29) of squared deviations from usual parameters (29): straight and short curves,
    a usual share of time.
    """
    bends = torch.eye(_POINTS).diff(n=2, dim=0)
    each = _BEND_WEIGHT * bends.T @ bends + _CURVE_WEIGHT * torch.eye(_POINTS)
    curve = torch.kron(each, torch.eye(_FREEDOMS))
    weights = torch.block_diag(curve, torch.tensor([[_SHARE_WEIGHT]]))
    usual = torch.zeros(len(weights))
    usual[-1] = _USUAL_SHARE
    return weights, usual


def _difference(
    restored: Tensor, blurry: Tensor, path: CameraPath, slopes: Tensor, apart: int
) -> tuple[Tensor, Tensor]:
    """How far the reblurred frame is off in encoded values, (N), and its derivatives by the
    parameters of the path, (29, N).

    Args:
        restored: luma in linear light, (1, 1, H, W).
        blurry: likewise.
        path: with the velocity at every pixel.
        slopes: of the encoding, (1, 1, H, W).
        apart: every how many pixels, along x and y.
    """
    x, y = (
        functional.pad(restored, margin, mode="replicate")
        for margin in ((1, 1, 0, 0), (0, 0, 1, 1))
    )
    stack = torch.cat(
        (restored, (x[..., 2:] - x[..., :-2]) / 2, (y[..., 2:, :] - y[..., :-2, :]) / 2), dim=1
    )
    some = slice(None, None, apart)
    velocity, seen, rises = (each[0, :, some, some] for each in (path.velocity, blurry, slopes))
    sampled = _sampled(stack, _Shifts.of(path).places(some, some))
    light = sampled[:, :1].mean(dim=0)
    weights = torch.cat((_hats(), _moments()[:, None]), dim=1).T / _MOMENTS
    # (8, 2, h, w): by the shift at each point of the curve, then by shifts that grow with time.
    by_shift = (weights.to(light.device, light.dtype) @ sampled[:, 1:].flatten(1)).unflatten(
        1, velocity.shape
    )
    by_x, by_y = by_shift[:-1].unbind(1)
    right, below = (offsets[some] for offsets in _offsets(restored))
    by_curve = torch.stack(
        (by_x, by_y, right * by_y - below * by_x, right * by_x + below * by_y), dim=1
    ).flatten(0, 1)
    by_share = (by_shift[-1] * velocity).sum(dim=0, keepdim=True)
    derivatives = torch.cat((by_curve, by_share)) * rises
    return ((light - seen) * rises).flatten(), derivatives.flatten(1)


def slope(light: Tensor) -> Tensor:
    """How fast encoded values rise with light at each pixel, (1, 1, H, W), without detail."""
    return tent_filtered(light, 2).clamp_min(_DARK) ** (1 / GAMMA - 1) / GAMMA


def unclipped(light: Tensor) -> Tensor:
    """1 where the light is known, 0 where the sensor may have clipped it."""
    return (light < _CLIPPED**GAMMA).to(light.dtype)
