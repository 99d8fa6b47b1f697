"""Existing frames, from folders of images or video files, read one at a time; and the pairing of
restored with sharp ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from unsmear.data.pairs import PairedSequence, named, names_differ, stems
from unsmear.data.sources import VIDEO_SUFFIXES
from unsmear.errors import InputError, Mistakes
from unsmear.evaluate import Pairing
from unsmear.video.images import (
    IMAGE_SUFFIXES,
    integer_from_unit,
    list_images,
    paths_below,
    read_image,
)
from unsmear.video.orientation import orientation_of, upright


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
    """A video file, decoded to 8 bits and turned upright, as players show it."""

    path: Path
    count: int

    @property
    def paths(self) -> tuple[Path]:
        """The file."""
        return (self.path,)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        """(3, H, W), uint8."""
        from unsmear.video.reader import VideoReader

        with VideoReader(self.path) as reader:
            turn = orientation_of(reader.info.display_matrix)
            for frame in reader:
                yield upright(integer_from_unit(frame.rgb), turn)


Frames = ImageFrames | VideoFrames


def open_frames(path: Path) -> Frames:
    """Open a folder of images, a single image, or a video file.

    Raises:
        InputError: it is none of these, or contains no frames.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        return ImageFrames((path,))  # as a video it would go through YUV, and lose 16 bits
    if path.is_dir():
        pictures = tuple(list_images(path))
        if not pictures:
            raise _without_images(path)
        return ImageFrames(pictures)
    from unsmear.video.reader import count_frames

    return VideoFrames(path, count_frames(path))


@dataclass(frozen=True)
class Comparison:
    """Restored frames and as many sharp ones, the ground truth; None if there is none.

    Attributes:
        name: of the sequence.
        restored: frames to measure.
        sharp: ground truth.
        blurry: what was restored, if it is known.
        layout: layout of the data set, see `unsmear.data.pairs`; None if the frames are from
            elsewhere.
        note: what a reader should know of the pairing.
    """

    name: str
    restored: Frames
    sharp: Frames | None
    blurry: Frames | None = None
    layout: str | None = None
    note: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, one side after the other."""
        sides = (self.restored, self.sharp, self.blurry)
        return tuple(path for side in sides if side is not None for path in side.paths)


def find_comparisons(restored: Path, sharp: Path, pair: Pairing = "name") -> list[Comparison]:
    """Pair restored with sharp frames: folders of images, nested or not, by the names of folders
    and files; a video and another video (or a folder of images) by frame order.

    Args:
        restored: frames to measure.
        sharp: ground truth.
        pair: `order` pairs the images of folders in sorted order, whatever their names. Folders
            still have the same names.

    Raises:
        InputError: something is missing or empty, names or numbers of frames differ, or a folder of
            restored frames has no sharp counterpart.
    """
    if restored.is_file() or sharp.is_file():
        given, target = (open_frames(path) for path in (restored, sharp))
        if len(given) != len(target):
            raise InputError(
                f"'{restored}' has {len(given)} frames, '{sharp}' has {len(target)}: they are "
                "compared one by one; cut the longer one to match the other"
            )
        return [Comparison(restored.stem, given, target)]
    for folder in (restored, sharp):
        if not folder.is_dir():
            raise InputError(f"'{folder}' is not a folder of images or a video file")
    truths, results = (dict(_pictures_below(side)) for side in (sharp, restored))
    if not truths:
        raise _without_images(sharp)
    if alone := [place for place in results if place not in truths]:
        raise InputError(
            f"'{restored / alone[0]}' contains images, but '{sharp / alone[0]}' has none to "
            "compare them with: remove them, or compare folders one by one"
        )
    found = []
    for relative, truth in truths.items():
        folder = sharp / relative
        made = results.get(relative, ())
        name, note = _name_of(sharp, relative), None
        if stems(made) != stems(truth):
            if pair == "name":
                raise _unpaired((restored / relative, made), (folder, truth))
            if len(made) != len(truth):
                raise InputError(
                    f"'{restored / relative}' contains {len(made)} images, '{folder}' "
                    f"{len(truth)}: --pair order needs as many in both"
                )
            note = _ordered(name, "sharp")
        found.append(Comparison(name, ImageFrames(made), ImageFrames(truth), note=note))
    return found


def _ordered(name: str, others: str) -> str:
    """The note on a sequence whose images are paired in sorted order with others."""
    return (
        f"{name}: the names of the restored images are not those of the {others} ones, so they "
        "are paired in sorted order"
    )


def _unpaired(
    restored: tuple[Path, Sequence[Path]], other: tuple[Path, Sequence[Path]]
) -> InputError:
    """The error for two folders whose images cannot be paired by name."""
    error = names_differ(restored, other)
    alike = len(restored[1]) == len(other[1])
    remedy = "; or give --pair order, which pairs them in sorted order" if alike else ""
    return InputError(f"{error}{remedy}")


def find_restored(
    restored: Path, sequences: Sequence[PairedSequence], pair: Pairing = "name"
) -> list[Comparison]:
    """Pair the sequences of a data set with frames that any program restored. Images have the names
    of the blurry ones; if no name agrees, they are paired in sorted order.

    Args:
        restored: holds for each sequence a folder of images, or a video, of its name or, if no
            other sequence shares it, of the last part of its name. For a single sequence it may be
            that folder or video itself.
        sequences: of the data set.
        pair: `order` pairs images in sorted order even if some names agree.

    Raises:
        InputError: there is no such path, two sequences have one name, sequences are missing, or
            their frames differ in names or number (CombinedError: several of the last two).
    """
    if not restored.exists():
        raise InputError(f"no such file or folder: '{restored}'")
    names = Counter(sequence.name for sequence in sequences)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(
            f"two sequences are named '{twice[0]}': give one --layout, or rename one of them"
        )
    lasts = [name.rpartition("/")[-1] for name in names]
    found: list[Comparison] = []
    missing, mistakes = [], Mistakes()
    for sequence, last in zip(sequences, lasts, strict=True):
        own = [sequence.name, *([last] if lasts.count(last) == 1 else [])]
        sources = [source for name in own for source in _sources_at(restored / name)]
        if not sources and len(sequences) == 1 and (restored.is_file() or _has_images(restored)):
            sources = [restored]
        if not sources:
            missing.append(sequence.name)
        elif comparison := mistakes.attempt(partial(_restored_pair, sources, sequence, pair)):
            found.append(comparison)
    if missing:
        mistakes.add(
            InputError(
                f"'{restored}' lacks {len(missing)} of {len(sequences)} sequences: "
                f"{', '.join(missing)}; it must contain a folder of images, or a video, of the "
                f"name of each sequence, such as '{restored / missing[0]}'"
            )
        )
    mistakes.tell()
    return found


def _has_images(path: Path) -> bool:
    return path.is_dir() and bool(list_images(path))


def _sources_at(place: Path) -> list[Path]:
    """What there is of a sequence: a folder of images, videos of that name with a suffix."""
    folders = [place] if _has_images(place) else []
    beside = sorted(place.parent.iterdir()) if place.parent.is_dir() else []
    videos = [
        path
        for path in beside
        if path.name == place.name + path.suffix
        and path.suffix.lower() in VIDEO_SUFFIXES
        and path.is_file()
    ]
    return folders + videos


def _restored_pair(sources: Sequence[Path], sequence: PairedSequence, pair: Pairing) -> Comparison:
    """Pair a sequence with its one source, by the names of images or the order of frames.

    Raises:
        InputError: there are two sources; it is no video; or names or numbers differ.
    """
    source, *more = dict.fromkeys(sources)
    if more:
        raise InputError(
            f"'{source}' and '{more[0]}' are both named like the sequence '{sequence.name}': "
            "keep one"
        )
    frames, blurry, note = open_frames(source), sequence.blurry, None
    if isinstance(frames, ImageFrames):
        wanted, others = stems(blurry), stems(frames.paths)
        if pair == "name" and set(wanted) & set(others) and wanted != others:
            raise _unpaired((source, frames.paths), (blurry[0].parent, blurry))
        if wanted != others:
            note = _ordered(sequence.name, "blurry")
    if len(frames) != len(blurry):
        raise InputError(
            f"'{source}' has {len(frames)} frames, the sequence '{sequence.name}' {len(blurry)}: "
            "give a restored frame for each blurry one"
        )
    truth, before = ImageFrames(sequence.sharp), ImageFrames(blurry)
    return Comparison(sequence.name, frames, truth, before, sequence.layout, note)


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
        Comparison(_name_of(restored, place), ImageFrames(pictures), None)
        for place, pictures in _pictures_below(restored)
    ]
    if not found:
        raise _without_images(restored)
    return found


def _without_images(folder: Path) -> InputError:
    """The error for a folder without images. Videos in a folder have no counterparts by name."""
    below = (path for path in paths_below(folder) if path.is_file())
    videos = [path for path in below if path.suffix.lower() in VIDEO_SUFFIXES]
    remedy = f": give its videos one by one, such as '{videos[0]}'" if videos else ""
    return InputError(f"'{folder}' contains no images{remedy}")


def _name_of(root: Path, place: Path) -> str:
    """Name of the sequence in a folder `place` below `root`, or in `root` itself."""
    return named(root).name if place == Path() else place.as_posix()


def _pictures_below(root: Path) -> list[tuple[Path, tuple[Path, ...]]]:
    """All folders below `root` that contain images: relative path and images, sorted."""
    folders = sorted({path.parent for path in paths_below(root) if path.is_file()})
    held = ((folder.relative_to(root), tuple(list_images(folder))) for folder in folders)
    return [(place, pictures) for place, pictures in held if pictures]
