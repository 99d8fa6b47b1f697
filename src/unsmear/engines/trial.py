"""Whether a device computes what the CPU does: a small clip is restored on both.

A GPU may be older than what torch was built for, and some versions of torch have computed some
things wrongly on Apple's. Frames that are silently wrong are worse than slow ones.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from unsmear.errors import first_line
from unsmear.models.flow import clip_motion
from unsmear.models.network import DeblurNetwork

_FRAMES, _SIDE = 3, 64
_STEP = 2  # pixels that the trial clip moves on from frame to frame
# Of the change that the network makes, both root mean square. Products of 11 bits (TF32) are some
# thousandths off, of 8 bits (bfloat16) two or three hundredths.
_MOST_OFF = 0.05
_LEAST_CHANGE = 1e-3  # of 0..1: less would make roundings count


def laid_out(network: DeblurNetwork, device: torch.device) -> DeblurNetwork:
    """Moved to a device, its weights laid out as that is quickest there. In place."""
    # On Apple's GPUs convolutions of some channels of a tensor with channels last were wrong, see
    # pytorch/pytorch#180984.
    last = torch.contiguous_format if device.type == "mps" else torch.channels_last
    moved: DeblurNetwork = network.to(device, memory_format=last)  # type: ignore[call-overload]
    return moved


def fault_on(device: torch.device, network: DeblurNetwork) -> str | None:
    """What is wrong with a network on a device; None: it computes what it does on the CPU.

    Args:
        device: to be tried.
        network: on the CPU, where it stays.
    """
    clip = _trial_clip()
    motion = clip_motion(clip) if network.config.trail_levels else None
    with torch.no_grad():
        expected = network(clip, motion=motion)
        try:
            there = laid_out(copy.deepcopy(network), device)
            given = None if motion is None else motion.to(device)
            made = there(clip.to(device), motion=given).cpu()
        except (RuntimeError, TypeError) as error:  # the latter: no such numbers there
            return f"cannot run the network ({first_line(error)})"
    off = _rms(made - expected) / max(_rms(expected - clip), _LEAST_CHANGE)
    if off < _MOST_OFF:  # not where it is no number
        return None
    return f"gives other results than the CPU ({off:.0%} off)"


def _trial_clip() -> Tensor:
    """(1, 3, 3, 64, 64), 0..1: patches of all brightnesses, softened, that move on."""
    random = torch.Generator().manual_seed(0)
    patches = torch.rand(1, 3, 12, 12, generator=random, dtype=torch.float32)
    size = [_SIDE + _STEP * (_FRAMES - 1)] * 2
    scene = torch.nn.functional.interpolate(patches, size, mode="bilinear", align_corners=False)
    places = [_STEP * number for number in range(_FRAMES)]
    return torch.stack([scene[..., at : at + _SIDE, at : at + _SIDE] for at in places], dim=1)


def _rms(x: Tensor) -> float:
    return math.sqrt(float(x.square().mean()))
