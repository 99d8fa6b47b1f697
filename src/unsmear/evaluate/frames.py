"""Existing frames, from folders of images or video files, read one at a time; and the pairing of
restored with sharp ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from unsmear.data.pairs import names_differ
from unsmear.errors import InputError
from unsmear.video.images import list_images, paths_below, read_image


@dataclass(frozen=True)
class ImageFrames:
    """Image files, in order."""

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


Frames = ImageFrames | VideoFrames


def open_frames(path: Path) -> Frames:
    """Open a folder of images or a video file.

    Raises:
        InputError: it is neither, or contains no frames.
    """
    if path.is_dir():
        pictures = tuple(list_images(path))
        if not pictures:
            raise InputError(f"'{path}' contains no images")
        return ImageFrames(pictures)
    from unsmear.video.reader import count_frames

    return VideoFrames(path, count_frames(path))


@dataclass(frozen=True)
class Comparison:
    """Restored frames and as many sharp ones, the ground truth; None if there is none."""

    name: str
    restored: Frames
    sharp: Frames | None


def find_comparisons(restored: Path, sharp: Path) -> list[Comparison]:
    """Pair restored with sharp frames: folders of images, nested or not, by the names of folders
    and files; a video and another video (or a folder of images) by frame order.

    Raises:
        InputError: something is missing or empty, names or numbers of frames differ, or a folder of
            restored frames has no sharp counterpart.
    """
    if restored.is_file() or sharp.is_file():
        sides = [open_frames(path) for path in (restored, sharp)]
        if len(sides[0]) != len(sides[1]):
            raise InputError(
                f"'{restored}' has {len(sides[0])} frames, '{sharp}' has {len(sides[1])}: they are "
                "compared one by one; cut the longer one to match the other"
            )
        return [Comparison(restored.stem, *sides)]
    for folder in (restored, sharp):
        if not folder.is_dir():
            raise InputError(f"'{folder}' is not a folder of images or a video file")
    truths, results = (dict(_pictures_below(side)) for side in (sharp, restored))
    if not truths:
        raise InputError(f"'{sharp}' contains no images")
    if alone := [place for place in results if place not in truths]:
        raise InputError(
            f"'{restored / alone[0]}' contains images, but '{sharp / alone[0]}' has none to "
            "compare them with: remove them, or compare folders one by one"
        )
    found = []
    for relative, truth in truths.items():
        folder = sharp / relative
        made = results.get(relative, ())
        if [path.stem for path in made] != [path.stem for path in truth]:
            held = (restored / relative, made), (folder, truth)
            raise names_differ(*held, lambda path: path.stem)
        name = sharp.name if relative == Path() else relative.as_posix()
        found.append(Comparison(name, ImageFrames(made), ImageFrames(truth)))
    return found


def find_alone(restored: Path) -> list[Comparison]:
    """Restored frames without ground truth: a video, or a folder of images, nested or not.

    Raises:
        InputError: there are no frames.
    """
    if restored.is_file():
        return [Comparison(restored.stem, open_frames(restored), None)]
    if not restored.is_dir():
        raise InputError(f"'{restored}' is not a folder of images or a video file")
    found = [
        Comparison(
            restored.name if place == Path() else place.as_posix(), ImageFrames(pictures), None
        )
        for place, pictures in _pictures_below(restored)
    ]
    if not found:
        raise InputError(f"'{restored}' contains no images")
    return found


def _pictures_below(root: Path) -> list[tuple[Path, tuple[Path, ...]]]:
    """All folders below `root` that contain images: relative path and images, sorted."""
    folders = sorted({path.parent for path in paths_below(root) if path.is_file()})
    held = ((folder.relative_to(root), tuple(list_images(folder))) for folder in folders)
    return [(place, pictures) for place, pictures in held if pictures]
