"""Many tensors in one, to hand them to other processes: each tensor that is shared takes a file
descriptor, of which a process has some hundreds, and a training folder holds thousands of pictures.
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
    """Tensors of one type, one after the other.

    Attributes:
        values: of all of them, flat.
        shapes: one for each.
    """

    values: Tensor
    shapes: tuple[torch.Size, ...]


def pack(tensors: Sequence[Tensor]) -> Packed:
    """A copy of all in one; they must be of one type and on one device."""
    values = torch.cat([tensor.flatten() for tensor in tensors]) if tensors else torch.empty(0)
    return Packed(values, tuple(tensor.shape for tensor in tensors))


def unpack(packed: Packed) -> list[Tensor]:
    """The tensors again, as views."""
    parts = packed.values.split([shape.numel() for shape in packed.shapes])
    return [part.view(shape) for part, shape in zip(parts, packed.shapes, strict=True)]


class PackedShots(NamedTuple):
    """`Shot`s, field by field."""

    frames: Packed
    forth: Packed
    back: Packed


def pack_shots(shots: Sequence[Shot]) -> PackedShots:
    """A copy of all."""
    return PackedShots(
        pack([shot.frames for shot in shots]),
        pack([shot.forth for shot in shots]),
        pack([shot.back for shot in shots]),
    )


def share(packed: Sequence[Packed]) -> None:
    """Move all into memory that other processes see.

    Raises:
        UnsmearError: there is less of it than they take. (Linux would find room for what is asked
            for, and end the process that writes there.)
    """
    wanted = sum(part.values.nbytes for part in packed)
    if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free < wanted:
        raise _too_small(wanted)
    for part in packed:
        try:
            part.values.share_memory_()
        except RuntimeError:  # another process took some since
            raise _too_small(wanted) from None


def _too_small(wanted: int) -> UnsmearError:
    left = ""
    if _SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(_SHARED_MEMORY).free
        left = f", but '{_SHARED_MEMORY}' has only {free / 1e6:,.0f} MB left"
    return UnsmearError(
        f"the training data need {wanted / 1e6:,.0f} MB of shared memory in each training process"
        f"{left}: enlarge it (docker run --shm-size), or use --workers 0"
    )


def unpack_shots(packed: PackedShots) -> list[Shot]:
    """The shots again, as views."""
    return [Shot(*sides) for sides in zip(*(unpack(side) for side in packed), strict=True)]
