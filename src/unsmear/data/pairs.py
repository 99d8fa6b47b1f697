"""Blurry and sharp frames side by side: for validation, and for training on published sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unsmear.errors import InputError
from unsmear.video.images import list_images, read_image

# Folder names of blurry and sharp frames within one sequence, and who lays them out so.
PAIR_LAYOUTS: tuple[tuple[str, str, str], ...] = (
    ("blur", "sharp", "GOPRO"),
    ("input", "GT", "DVD"),
)


@dataclass(frozen=True)
class PairedSequence:
    """A blurry clip and its sharp counterpart, as files.

    Attributes:
        name: of the sequence, relative to the data set.
        blurry: files in order.
        sharp: files of the same names.
    """

    name: str
    blurry: tuple[Path, ...]
    sharp: tuple[Path, ...]

    def read(self, start: int = 0, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Blurry and sharp frames from `start`, each (T, 3, H, W) uint8.

        Raises:
            InputError: a file cannot be read, or sizes differ.
        """
        stop = len(self.blurry) if count is None else start + count
        return _stack(self.blurry[start:stop]), _stack(self.sharp[start:stop])


def _stack(paths: tuple[Path, ...]) -> Tensor:
    frames = [read_image(path) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if frame.shape != frames[0].shape or frame.dtype != torch.uint8:
            raise InputError(
                f"'{path}' is {tuple(frame.shape)} {frame.dtype}: all frames of a sequence must "
                f"be 8-bit and of the size of '{paths[0].name}', {tuple(frames[0].shape)}"
            )
    return torch.stack(frames)


def find_pairs(root: Path) -> list[PairedSequence]:
    """All sequences below a folder that hold a blurry and a sharp folder (`PAIR_LAYOUTS`).

    Raises:
        InputError: the two folders of a sequence hold different file names.
    """
    found = []
    for blurry_name, sharp_name, _ in PAIR_LAYOUTS:
        for blurry_folder in sorted(root.rglob(blurry_name)):
            sharp_folder = blurry_folder.parent / sharp_name
            if not (blurry_folder.is_dir() and sharp_folder.is_dir()):
                continue
            blurry, sharp = list_images(blurry_folder), list_images(sharp_folder)
            if [path.name for path in blurry] != [path.name for path in sharp]:
                raise InputError(
                    f"'{blurry_folder}' and '{sharp_folder}' must hold frames of the same names; "
                    f"they hold {len(blurry)} and {len(sharp)}"
                )
            if blurry:
                name = blurry_folder.parent.relative_to(root).as_posix()
                found.append(PairedSequence(name, tuple(blurry), tuple(sharp)))
    return found
