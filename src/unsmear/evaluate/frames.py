"""Frames that exist already: pictures of a folder, or a video file, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from unsmear.errors import InputError
from unsmear.video.images import list_images, read_image


@dataclass(frozen=True)
class PictureFrames:
    """Picture files in order."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Tensor]:
        """(3, H, W), uint8 or uint16."""
        return (read_image(path) for path in self.paths)


@dataclass(frozen=True)
class VideoFrames:
    """A video file, decoded to 8 bits as players show it."""

    path: Path
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        """(3, H, W), uint8."""
        from unsmear.video.reader import read_rgb8

        return read_rgb8(self.path)


Frames = PictureFrames | VideoFrames


def open_frames(path: Path) -> Frames:
    """A folder of pictures or a video file.

    Raises:
        InputError: it is neither, or empty.
    """
    if path.is_dir():
        pictures = tuple(list_images(path))
        if not pictures:
            raise InputError(f"'{path}' holds no pictures")
        return PictureFrames(pictures)
    from unsmear.video.reader import count_frames

    return VideoFrames(path, count_frames(path))
