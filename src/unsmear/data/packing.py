"""Many tensors in one, to share them with other processes. Each shared tensor takes a file
descriptor; a process has some hundreds of these, and a training folder holds thousands of images.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.data.sources import Shot
from unsmear.errors import UnsmearError

_SHARED_MEMORY = Path("/dev/shm")  # where Linux has it; containers are often given 64 MB


class Packed(NamedTuple):
    """Tensors of one dtype, concatenated.

    Attributes:
        values: of all tensors, flat.
        shapes: one for each tensor.
    """

    values: Tensor
    shapes: tuple[torch.Size, ...]


def pack(tensors: Sequence[Tensor]) -> Packed:
    """Copy tensors into one. They must share dtype and device."""
    values = torch.cat([tensor.flatten() for tensor in tensors]) if tensors else torch.empty(0)
    return Packed(values, tuple(tensor.shape for tensor in tensors))


def unpack(packed: Packed) -> list[Tensor]:
    """The original tensors, as views."""
    parts = packed.values.split([shape.numel() for shape in packed.shapes])
    return [part.view(shape) for part, shape in zip(parts, packed.shapes, strict=True)]


class PackedShots(NamedTuple):
    """`Shot`s, field by field."""

    frames: Packed
    forward: Packed
    backward: Packed


def pack_shots(shots: Sequence[Shot]) -> PackedShots:
    """Copy all shots."""
    return PackedShots(
        pack([shot.frames for shot in shots]),
        pack([shot.forward for shot in shots]),
        pack([shot.backward for shot in shots]),
    )


def unpack_shots(packed: PackedShots) -> list[Shot]:
    """The original shots, as views."""
    return [Shot(*sides) for sides in zip(*(unpack(side) for side in packed), strict=True)]


def share(tensors: Sequence[Tensor], needs: str) -> None:
    """Move tensors into shared memory.

    Args:
        tensors: on the CPU.
        needs: subject and verb of the error: what needs the memory.

    Raises:
        UnsmearError: there is not enough shared memory. (Linux would grant the allocation, and
            kill the process that writes to it.)
    """
    wanted = sum(tensor.nbytes for tensor in tensors)
    if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free < wanted:
        raise _too_small(wanted, needs)
    for tensor in tensors:
        try:
            tensor.share_memory_()
        except RuntimeError:  # another process took some in the meantime
            raise _too_small(wanted, needs) from None


def _too_small(wanted: int, needs: str) -> UnsmearError:
    left = ""
    if _SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(_SHARED_MEMORY).free
        left = f", but '{_SHARED_MEMORY}' has only {free / 1e6:,.0f} MB left"
    return UnsmearError(
        f"{needs} {wanted / 1e6:,.0f} MB of shared memory in each training process"
        f"{left}: enlarge it (docker run --shm-size), or use --workers 0"
    )
