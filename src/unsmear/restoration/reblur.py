"""Correction by reblurring: a restored frame, blurred again, should look like the frame as it came.

The camera's path while the shutter was open is fitted so that it does, as far as it can: along the
motion between restored frames, which differs from place to place, plus a curve that all pixels
share. What then remains as a difference is what restoration got wrong in detail that blur has left,
and a regularised least-squares step puts it right. Both run on luma, in linear light, since sensors
add up light and not encoded values: with encoded values the differences are twice as large or more.

Source: blur as an average over the camera's path as in Tai, Tan and Brown 2011, "Richardson-Lucy
Deblurring for Scenes under a Projective Motion Path"; fitted with Levenberg-Marquardt. New here: it
corrects what a network restored, along paths that follow from the motion between restored frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

GAMMA = 2.2
"""Encoded values are about the root of this degree of linear light."""

_MOMENTS = 9  # of an exposure at which the path is sampled
_POINTS = 7  # of the curve, evenly spaced in time; between them it is straight
_FREEDOMS = 4  # of each point: shift along x and y, rotation, zoom
_SIDE = 640  # pixels: the path is fitted to frames shrunk to this side or less, first to half of it
_TRIALS = 10, 4  # steps of the fit at the two sizes
_USUAL_SHARE = 0.6  # of the time between frames that a shutter is open; the fit prefers it a little
# Weights of what the fit prefers, beside 1e4 times the mean squared difference.
_SHARE_WEIGHT, _BEND_WEIGHT, _CURVE_WEIGHT = 0.3, 0.02, 0.01
_STRETCH = 1.05  # a restored frame has blur left, so the path that fits it is too short
_SOLVER_STEPS = 3
_BOLD_STEPS = 5
_BOLD_CAUTION = 0.03  # as `_CAUTION`, where a network decides how far to trust the change
_CAUTION = 0.2  # weight of the change beside the difference that remains, without noise
_TOLD_CAUTION = 3  # factor of the caution once a network that was told has put most of it right
_NOISE_CAUTION = 0.05  # times the power of noise as a share of the difference
_USUAL_ZEROS = 0.3  # share of the finest detail that is zero with a little noise and no coder
_CODED_CAUTION = 30  # how fast caution grows with what exceeds this share
_ODD = 0.07  # of 0..1: a difference this large is not what blur explains
_DARK = 0.01  # linear light below which the slope of the encoding is taken as constant
_NOTHING = 1e-30  # of squared error: when all is solved, further steps change nothing
_CLIPPED = 0.98  # encoded values from here on may have been any brightness


class CameraPath(NamedTuple):
    """Path of the camera's view during an exposure, relative to its middle, in pixels.

    Attributes:
        velocity: motion from frame to frame, (1, 2, h, w) of any size, x and y.
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
    total = torch.zeros_like(light)
    for places in _places(path.scaled(-1) if adjoint else path, height, width):
        total += _sampled(light, places)
    return total / _MOMENTS


def _places(path: CameraPath, height: int, width: int) -> Iterator[Tensor]:
    """Where each pixel's light comes from at each moment, (1, H, W, 2), as `grid_sample` counts:
    from -1 to 1 across the frame. Each is overwritten by the next.
    """
    velocity = _velocity_at(path, height, width)
    column, row = (torch.arange(n, device=velocity.device) for n in (width, height))
    right, below = _offsets(height, width, velocity.device)
    across, down = (velocity * (2 / n) for n in (width, height))
    velocity = torch.cat((across[:, :1], down[:, 1:]), dim=1)
    places = torch.empty_like(velocity)
    shares = (_moments() * path.share).tolist()
    for share, along in zip(shares, (_hats() @ path.curve).tolist(), strict=True):
        shift_x, shift_y, turn, zoom = along
        # Rotation and zoom are a part that depends on the column plus one that depends on the row.
        by_column = (
            (2 * (column + shift_x + zoom * right) + 1) / width - 1,
            2 * (shift_y + turn * right) / height,
        )
        by_row = (-2 * turn * below / width, (2 * (row[:, None] + zoom * below) + 1) / height - 1)
        torch.add(torch.stack(by_column)[:, None], velocity, alpha=share, out=places)
        yield places.add_(torch.stack(by_row)).permute(0, 2, 3, 1)


def _sampled(x: Tensor, places: Tensor) -> Tensor:
    """(1, C, H, W) at `_places`; edge pixels are repeated."""
    return functional.grid_sample(
        x, places, mode="bilinear", padding_mode="border", align_corners=False
    )


def _velocity_at(path: CameraPath, height: int, width: int) -> Tensor:
    """Velocity at each pixel, (1, 2, H, W)."""
    return functional.interpolate(
        path.velocity, (height, width), mode="bilinear", align_corners=False
    )


def _moments() -> Tensor:
    """Times of the moments relative to the middle, in exposures."""
    return torch.linspace(-0.5, 0.5, _MOMENTS)


def _hats() -> Tensor:
    """Linear interpolation from the points of a curve to the moments, (9, 7)."""
    times = torch.linspace(0, _POINTS - 1, _MOMENTS)
    return (1 - (times[:, None] - torch.arange(_POINTS)).abs()).clamp_min(0)


def _offsets(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Offsets from the middle in halves of the width: (W) to the right, (H, 1) downwards."""
    right, below = (
        (torch.arange(side, device=device) - (side - 1) / 2) / (width / 2)
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
        path = _fitted(small, seen, path.scaled(1 / shrink), trials).scaled(shrink)
    return path


def _first_curve() -> Tensor:
    """A small arc. On a straight line of length zero, no direction would be better than another."""
    time = torch.linspace(-1, 1, _POINTS)
    still = torch.zeros_like(time)
    return torch.stack((1.2 * (time.square() - 0.4), 1.2 * time, still, still), dim=1)


def _fitted(restored: Tensor, blurry: Tensor, path: CameraPath, trials: int) -> CameraPath:
    """Levenberg-Marquardt: a path that fits better than the one to start from, if there is any."""
    slopes = _slope(blurry) * _unclipped(blurry)
    prior, usual = _preferences()

    def look(path: CameraPath) -> tuple[float, Tensor, Tensor]:
        """Cost, its curvature and its downward slope by the parameters."""
        off, by = _difference(restored, blurry, path, slopes)
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
    restored: Tensor, blurry: Tensor, path: CameraPath, slopes: Tensor
) -> tuple[Tensor, Tensor]:
    """How far the reblurred frame is off, in encoded values, (N), and its derivatives by the
    parameters of the path, (29, N).
    """
    height, width = restored.shape[-2:]
    x, y = (
        functional.pad(restored, margin, mode="replicate")
        for margin in ((1, 1, 0, 0), (0, 0, 1, 1))
    )
    stack = torch.cat(
        (restored, (x[..., 2:] - x[..., :-2]) / 2, (y[..., 2:, :] - y[..., :-2, :]) / 2), dim=1
    )
    velocity = _velocity_at(path, height, width)[0]
    total = torch.zeros_like(restored[0])
    by_share = torch.zeros_like(total)
    by_shift = [torch.zeros_like(velocity) for _ in range(_POINTS)]
    every = _places(path, height, width)
    for moment, weights, places in zip(_moments(), _hats(), every, strict=True):
        seen = _sampled(stack, places)[0]
        total += seen[:1]
        by_share += moment * (seen[1:] * velocity).sum(dim=0)
        for point in weights.nonzero().flatten().tolist():
            by_shift[point] += seen[1:] * float(weights[point])
    right, below = _offsets(height, width, total.device)
    by_x, by_y = torch.stack(by_shift).unbind(1)
    by_curve = torch.stack(
        (by_x, by_y, right * by_y - below * by_x, right * by_x + below * by_y), dim=1
    ).flatten(0, 1)
    derivatives = torch.cat((by_curve, by_share)) * (slopes[0] / _MOMENTS)
    off = (total / _MOMENTS - blurry[0]) * slopes[0]
    return off.flatten(), derivatives.flatten(1)


class Blur(NamedTuple):
    """How a frame was blurred, and how its restored luma should change. Changes are encoded values,
    as the frame is; blur adds up light.

    Attributes:
        path: in pixels of the frame.
        blurry: luma of the frame as it came, (1, 1, H, W), 0..1, encoded.
        slopes: of the encoding, likewise.
        known: the same, but 0 where the sensor may have clipped the light.
    """

    path: CameraPath
    blurry: Tensor
    slopes: Tensor
    known: Tensor

    @classmethod
    def fitted(cls, restored: Tensor, blurry: Tensor, velocity: Tensor) -> Blur:
        """That which turns a restored frame into the blurry one, as far as it can.

        Args:
            restored: luma, (1, 1, H, W), 0..1, encoded.
            blurry: luma of the frame as it came, likewise.
            velocity: motion from frame to frame, (1, 2, h, w), in pixels of the frame.
        """
        light, seen = (x.clamp(0, 1) ** GAMMA for x in (restored, blurry))
        path = fit_path(light, seen, velocity).scaled(_STRETCH)
        slopes = _slope(seen)
        return cls(path, blurry, slopes, _unclipped(seen) * slopes)

    def lacking(self, restored: Tensor) -> Tensor:
        """What a restored frame, blurred again, lacks: (1, 1, H, W)."""
        light, seen = (x.clamp(0, 1) ** GAMMA for x in (restored, self.blurry))
        return (seen - reblurred(light, self.path)) * self.known

    def forth(self, change: Tensor) -> Tensor:
        """How a change of the restored frame changes the blurry one, about."""
        return self.known * reblurred(change / self.slopes, self.path)

    def back(self, change: Tensor) -> Tensor:
        """The adjoint of `forth`, about."""
        return reblurred(self.known * change, self.path, adjoint=True) / self.slopes


def correction(restored: Tensor, blur: Blur, *, told: bool = False) -> Tensor:
    """What to add to a restored frame, as far as it can be trusted.

    Args:
        restored: luma, (1, 1, H, W), 0..1, encoded.
        blur: of this frame.
        told: whether a network that was told what reblurring finds has corrected it.

    Returns:
        (1, 1, H, W). Zero where nothing finite was found.
    """
    off = blur.lacking(restored)
    caution = _caution(off, _noise_power(blur.blurry)) * _coding_caution(blur.blurry)
    caution = caution * _TOLD_CAUTION if told else caution
    *_, change = _solutions(blur, off, caution, _SOLVER_STEPS)
    return change.nan_to_num(0, 0, 0)


def evidence(restored: Tensor, blur: Blur) -> Tensor:
    """What reblurring tells a network that decides itself how far to trust it.

    Args:
        restored: luma, (1, 1, H, W), 0..1, encoded.
        blur: of this frame.

    Returns:
        (1, 3, H, W): what the restored frame, blurred again, lacks; then what to add to it, nearly
        not held back, after one step and after five. Zero where nothing finite was found.
    """
    off = blur.lacking(restored)
    changes = list(_solutions(blur, off, torch.full_like(off, _BOLD_CAUTION), _BOLD_STEPS))
    return torch.cat((off, changes[0], changes[-1]), dim=1).nan_to_num(0, 0, 0)


def _slope(light: Tensor) -> Tensor:
    """How fast encoded values rise with light at each pixel, (1, 1, H, W), without detail."""
    return tent_filtered(light, 2).clamp_min(_DARK) ** (1 / GAMMA - 1) / GAMMA


def _unclipped(light: Tensor) -> Tensor:
    """1 where the light is known, 0 where the sensor may have clipped it."""
    return (light < _CLIPPED**GAMMA).to(light.dtype)


def _noise_power(blurry: Tensor) -> Tensor:
    """Variance of the noise of a blurry frame (1, 1, H, W): in the finest diagonal detail there is
    little else. From the median, as in Donoho and Johnstone 1994.
    """
    return (_diagonal(blurry)[..., ::2, ::2].abs().median() / 0.6745).square()


def _diagonal(luma: Tensor) -> Tensor:
    """Finest diagonal detail, (1, 1, H - 2, W - 1)."""
    return (luma[..., 1:, 1:] - luma[..., 1:, :-1]).diff(dim=-2) / 2


def _coding_caution(blurry: Tensor) -> Tensor:
    """Factor of the caution, 1 for frames (1, 1, H, W) that were not coded or only finely.

    A coder leaves much of the finest detail at exactly zero, noise of a sensor little. Places
    without any contrast around them, as in black bars, say nothing.
    """
    contrast = tent_filtered((blurry - tent_filtered(blurry, 8)).abs(), 8)[..., 1:-1, 1:]
    told = contrast > 1 / 255
    zeros = (_diagonal(blurry).abs() < 0.25 / 255) & told
    share = zeros.sum() / told.sum().clamp_min(1)
    return 1 + _CODED_CAUTION * (share - _USUAL_ZEROS).clamp_min(0)


def _caution(off: Tensor, noise: Tensor) -> Tensor:
    """Weight of the change at each pixel: noise and what blur does not explain say little."""
    power = tent_filtered(off.square(), 8)
    told = (power - noise).clamp_min(0) + noise / 100
    return _CAUTION + _NOISE_CAUTION * noise / told.clamp_min(1e-12) + power / _ODD**2


def tent_filtered(x: Tensor, radius: int) -> Tensor:
    """Smooth (1, 1, H, W) with a tent filter that reaches twice the radius: a box filter, twice."""
    for _ in range(2):
        padded = functional.pad(x, (radius,) * 4, mode="replicate")
        for side in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
            padded = functional.avg_pool2d(padded, side, stride=1)
        x = padded
    return x


def _solutions(blur: Blur, off: Tensor, caution: Tensor, steps: int) -> Iterator[Tensor]:
    """Steps of conjugate gradients towards the change u for which |forth(u) - off|^2 + caution
    |u|^2 is least: what was found after each.
    """
    change = torch.zeros_like(off)
    left = blur.back(off)
    way = left
    power = left.square().sum()
    for _ in range(steps):
        curved = blur.back(blur.forth(way)) + caution * way
        bend = (way * curved).sum()
        # None left, or none that can be trusted: `back` is not exactly the adjoint.
        step = power / bend.clamp_min(_NOTHING) * (bend > _NOTHING)
        change = change + step * way
        yield change
        left = left - step * curved
        after = left.square().sum()
        way = left + after / power.clamp_min(_NOTHING) * way
        power = after
