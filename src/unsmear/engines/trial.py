"""Check of a device against the CPU: a small clip is restored on both.

A GPU may be too old for this build of torch, and some versions of torch give wrong results on
Apple's GPUs. Frames that are silently wrong are worse than slow ones.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from unsmear.engines.base import to_device
from unsmear.errors import first_line
from unsmear.models.flow import clip_motion
from unsmear.models.network import DeblurNetwork

_FRAMES, _SIDE = 3, 64
_STEP = 2  # motion of the trial clip, pixels per frame
# Largest RMS error, relative to the RMS of the network's residual. With 11 significant bits (TF32)
# it is some thousandths, with 8 (bfloat16) two or three hundredths.
_MOST_OFF = 0.05
_LEAST_CHANGE = 1e-3  # of 0..1; relative to a smaller residual, rounding errors would count


def fault_on(device: torch.device, network: DeblurNetwork) -> str | None:
    """Check that a network gives the same results on a device as on the CPU.

    Args:
        device: to be checked.
        network: on the CPU; it stays there.

    Returns:
        None if it does; else the fault, as the predicate of a sentence about the device.
    """
    clip = _trial_clip()
    motion = clip_motion(clip) if network.config.trail_levels else None
    with torch.no_grad():
        expected = network(clip, motion=motion)
        try:
            there = to_device(copy.deepcopy(network), device)
            given = None if motion is None else motion.to(device)
            made = there(clip.to(device), motion=given).cpu()
        except (RuntimeError, TypeError) as error:  # TypeError: a dtype is not supported
            return f"cannot run the network ({first_line(error)})"
    off = _rms(made - expected) / max(_rms(expected - clip), _LEAST_CHANGE)
    if off < _MOST_OFF:  # false for NaN
        return None
    return f"gives other results than the CPU ({off:.0%} off)"


def _trial_clip() -> Tensor:
    """A clip (1, 3, 3, 64, 64), 0..1: smooth random patches of all brightnesses, in motion."""
    random = torch.Generator().manual_seed(0)
    patches = torch.rand(1, 3, 12, 12, generator=random, dtype=torch.float32)
    size = [_SIDE + _STEP * (_FRAMES - 1)] * 2
    scene = torch.nn.functional.interpolate(patches, size, mode="bilinear", align_corners=False)
    places = [_STEP * number for number in range(_FRAMES)]
    return torch.stack([scene[..., at : at + _SIDE, at : at + _SIDE] for at in places], dim=1)


def _rms(x: Tensor) -> float:
    return math.sqrt(float(x.square().mean()))
