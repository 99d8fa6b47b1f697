"""Float32 where half precision would lose too much: sums over a frame or window, coordinates."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> torch.dtype:
    """float32, or the dtype of x if that is more precise."""
    return torch.promote_types(x.dtype, torch.float32)


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Context that disables autocast."""
    if device.type != "meta" and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
