"""Correction by reblurring: a restored frame, blurred again, should look like the frame as it came.

The camera's path while the shutter was open is fitted so that it does, as far as it can
(`exposure.py`). What then remains as a difference is what restoration got wrong in detail that blur
has left, and a regularised least-squares step puts it right. Both run on luma, in linear light:
with encoded values the differences are twice as large or more.

New here: it corrects what a network restored, along paths that follow from the motion between
restored frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.restoration.exposure import GAMMA, CameraPath, fit_path, reblurred, slope, unclipped
from unsmear.restoration.smoothing import tent_filtered

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
_NOTHING = 1e-30  # of squared error: when all is solved, further steps change nothing


class Blur(NamedTuple):
    """How a frame was blurred, and how its restored luma should change. Changes are encoded values,
    as the frame is; blur adds up light.

    Attributes:
        path: in pixels of the frame, with the velocity at each of them.
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
        path = fit_path(light, seen, velocity).scaled(_STRETCH).at_every_pixel(*seen.shape[-2:])
        slopes = slope(seen)
        return cls(path, blurry, slopes, unclipped(seen) * slopes)

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
