"""Detect implausible restored frames, so that the caller can fall back to the input.

Deblurring moves light by the length of the blur, no further. So means over larger blocks hardly
change, colour even less, and the change within a block stays in proportion to its detail. A network
that fails (frames far from the training distribution, damaged weights, numerical overflow) violates
at least one of these.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.models.precision import no_autocast

# Only every third row is measured. Not every second or fourth: a pixel-shuffle head computes each
# of those from its own channels, and only some of these may be broken.
_EVERY = 3
BLOCK = 33  # pixels, a multiple of _EVERY
_STRIP = 4 * BLOCK // _EVERY  # rows measured at a time: they fit into the CPU cache
_CLIPPED = 0.498  # distance from 0.5: within half an 8-bit step of black or white
_DETAIL_FLOOR = 0.02  # of full scale: change that noise alone can account for
# ITU-T T.871: full-range BT.601 luma and colour differences.
_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


@dataclass(frozen=True)
class Change:
    """How much a restored frame differs from its input; full scale is 1.

    Attributes:
        brightness: largest change of a block's mean luma.
        brightness_rms: root mean square over all blocks.
        color: largest change of a block's mean colour difference (Cb or Cr).
        color_rms: root mean square over all blocks.
        ringing: largest root mean square change of a block, relative to the detail of the input
            there (standard deviation of green, plus a floor).
        ringing_rms: root mean square over all blocks.
        clipping: share of values that are black or white in the result, minus that in the input.
    """

    brightness: float
    brightness_rms: float
    color: float
    color_rms: float
    ringing: float
    ringing_rms: float
    clipping: float


# Largest plausible values: at least twice what `core` (2026-11-27; three times except brightness)
# and a perfect restoration of 20 pixels of blur reach on real and synthetic clips.
# `scripts/calibrate_guard.py` prints both, and the values of broken networks.
LIMITS = Change(
    brightness=0.45,
    brightness_rms=0.12,
    color=0.12,
    color_rms=0.02,
    ringing=14.0,
    ringing_rms=2.2,
    clipping=0.08,
)
_REASONS = {
    "brightness": "part of the frame changed in brightness",
    "brightness_rms": "the frame changed in brightness",
    "color": "part of the frame changed colour",
    "color_rms": "the frame changed colour",
    "ringing": "part of the frame changed by far more than its detail",
    "ringing_rms": "the frame changed by far more than its detail",
    "clipping": "much of the frame became black or white",
}


def implausibility(before: Tensor, after: Tensor) -> str | None:
    """What makes a restored frame implausible, in words; None if it is plausible.

    Args:
        before: input, (3, H, W), float, 0..1.
        after: result, likewise, on the same device.

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"frames of {tuple(before.shape)} and {tuple(after.shape)} must agree")
    change = measure_change(before, after)
    if change is None:
        return "the frame has values that are not finite"
    for name, reason in _REASONS.items():
        value, limit = getattr(change, name), getattr(LIMITS, name)
        if value > limit:
            return f"{reason} ({value:.3f}, at most {limit} is plausible)"
    return None


def measure_change(before: Tensor, after: Tensor) -> Change | None:
    """Measure how much `after` differs from `before`, both (3, H, W) float; None if `after` has
    values that are not finite.
    """
    # One NaN or infinity makes the sum NaN or infinite.
    if not abs(float(after.sum())) < float("inf"):
        return None
    before, after = before[:, ::_EVERY], after[:, ::_EVERY]
    strips = zip(before.split(_STRIP, dim=1), after.split(_STRIP, dim=1), strict=True)
    means = torch.cat([_strip_means(*strip) for strip in strips], dim=1)  # (6, h, w)
    with no_autocast(means.device):
        to_ycc = torch.tensor(_YCC, dtype=means.dtype, device=means.device)
        luma_chroma = to_ycc @ means[:3].flatten(1)  # (3, hw)
    detail = (means[5] - means[4].square()).clamp_min(0).sqrt() + _DETAIL_FLOOR
    ringing = means[3].sqrt() / detail
    values = torch.stack(
        [
            measure
            for plane in (luma_chroma[0], luma_chroma[1:], ringing)
            for measure in (plane.abs().amax(), plane.square().mean().sqrt())
        ]
    ).tolist()
    values.append(_clipped_share(after) - _clipped_share(before))
    return Change(*values)


def _strip_means(before: Tensor, after: Tensor) -> Tensor:
    """Means over blocks of BLOCK x BLOCK pixels. Takes every third row, (3, H / 3, W) twice, and
    returns (6, h, w): change of red, green and blue, its mean square, green of the input and its
    square. Blocks at the right and the bottom may be smaller.
    """
    difference = (after - before).float()
    green = before[1:2].float()
    square = difference.square().sum(dim=0, keepdim=True) / 3
    planes = torch.cat((difference, square, green, green.square()))
    # Average over rows first: that is fast, and leaves little to pool.
    rows = [part.mean(dim=1) for part in planes.split(BLOCK // _EVERY, dim=1)]
    pooled: Tensor = functional.avg_pool1d(
        torch.stack(rows, dim=1), BLOCK, ceil_mode=True, count_include_pad=False
    )
    return pooled


def _clipped_share(frame: Tensor) -> float:
    """Share of black or white values, from every third of the given rows."""
    rows = frame[:, ::3]
    return int((rows - 0.5).abs_().gt(_CLIPPED).count_nonzero()) / rows.numel()
