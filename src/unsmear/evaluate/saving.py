"""Restored frames of a data set, saved as PNG for the measures of other programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from unsmear.data.pairs import PairedSequence
from unsmear.errors import InputError, OutputError, writing
from unsmear.outputs import check_folder_of, check_named, is_free, lies_in, real_path, telling_of
from unsmear.video.folder import growing_folder
from unsmear.video.images import integer_from_unit, write_image

Keep = Callable[[PairedSequence, int, Tensor], None]
"""Keeps a restored frame: its sequence, its index there, and the frame (3, H, W), float, 0..1."""


def keep_nothing(sequence: PairedSequence, index: int, frame: Tensor) -> None:
    """The `Keep` that keeps nothing."""


def place_of(sequence: PairedSequence, index: int) -> Path:
    """Where a restored frame is saved, relative to the folder: SEQUENCE/NAME.png, with the name of
    the blurry frame.
    """
    return Path(sequence.name, f"{sequence.blurry[index].stem}.png")


def check_save(path: Path, inputs: Iterable[Path | None], reports: Iterable[Path | None]) -> None:
    """Check before the work that frames can be saved in a folder.

    Args:
        path: the folder: none of that name yet, or an empty one.
        inputs: files and folders that are read; None is skipped.
        reports: other files that are written; None is skipped.

    Raises:
        OutputError: they cannot.
    """
    with writing(path):
        check_named(path)
        check_folder_of(path)
        for source in inputs:
            if source is not None and lies_in(path, source):
                raise OutputError(
                    f"'{path}' is the input '{source}' or inside it: choose another folder"
                )
        if any(real_path(report) == real_path(path) for report in reports if report is not None):
            raise OutputError(f"'{path}' is given for a report too: give each its own name")
        if path.exists() and not path.is_dir():
            raise OutputError(f"'{path}' is a file: choose another name for the folder")
        if not is_free(path):
            raise OutputError(f"'{path}' is not empty: choose another folder, or empty it")
        if path.exists() and not os.access(path, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write '{path}': no permission to write to it")


def check_places(sequences: Sequence[PairedSequence]) -> None:
    """Check that no two frames of a data set would be saved under one name.

    Raises:
        InputError: two would.
    """
    taken: dict[Path, Path] = {}
    for sequence in sequences:
        for index, path in enumerate(sequence.blurry):
            place = place_of(sequence, index)
            if (other := taken.setdefault(place, path)) != path:
                raise InputError(
                    f"'{other}' and '{path}' would both be saved as '{place}': give one --layout, "
                    "or rename one of them"
                )


@contextmanager
def saved_frames(path: Path) -> Iterator[Keep]:
    """Save frames in a folder, which appears when all are saved; after an error nothing is left.

    Args:
        path: the folder, see `check_save`.

    Yields:
        What keeps a frame: as PNG of 8 bits, rounded, see `place_of`.

    Raises:
        OutputError: the disk is full, or permission is missing.
    """
    target = real_path(path)  # the other end of a link, so that the work grows on its disk
    with growing_folder(target, last="") as folder:

        def keep(sequence: PairedSequence, index: int, frame: Tensor) -> None:
            image = folder / place_of(sequence, index)
            with writing(path), telling_of(path, folder):
                image.parent.mkdir(parents=True, exist_ok=True)
                write_image(image, integer_from_unit(frame))

        yield keep
