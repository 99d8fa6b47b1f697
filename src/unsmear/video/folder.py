"""Folders of pictures in and out, as benchmarks have them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from unsmear.clip import ClipInfo, Frame
from unsmear.errors import InputError, MidwayError, Mistakes, OutputError, cannot_write
from unsmear.outputs import growing_file
from unsmear.video.headers import PictureHeader, read_header
from unsmear.video.images import (
    list_images,
    read_image,
    unit_from_integer,
)
from unsmear.video.orientation import UPRIGHT

_REMEDY = "repair it, or remove it from the folder"


def numbered(number: int) -> str:
    """What the picture of a frame is called that has no name of its own, counted from 0."""
    return f"{number:06d}.png"


class FolderReader:
    """Pictures of a folder in the order of their names, read one at a time.

    Args:
        path: of the folder.

    Raises:
        InputError: no pictures, two of one stem, several pictures in one file, the first, or one
            that seems cut off, cannot be read, or a file says that it is of another size.
        CombinedError: several that seem cut off cannot be read.

    Attributes:
        dtype: uint16 if any picture has 16 bits, else uint8.
        notes: for the user.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = list_images(path)
        if not self._files:
            raise InputError(f"'{path}' contains no images: expected .png, .jpg, .tif, .bmp, .webp")
        (stem, times), *_ = Counter(file.stem for file in self._files).most_common(1)
        if times > 1:
            raise InputError(f"'{path}' contains two images named '{stem}': keep one")
        headers = [_header(file) for file in self._files]
        for file, header in zip(self._files, headers, strict=True):
            if header.many:
                raise InputError(
                    f"'{file}' contains more than one image: save each in its own file"
                )
        first, mistakes = _read(self._files[0]), Mistakes()
        for file, header in zip(self._files, headers, strict=True):
            if header.cut_off or header.size is None:  # told before the work, all at once
                mistakes.attempt(lambda: _read(file))  # noqa: B023
        mistakes.tell()
        self.dtype = torch.uint16 if any(header.deep for header in headers) else first.dtype
        self.notes = _notes(headers)
        self._skipped = 0
        self.info = ClipInfo(width=first.shape[-1], height=first.shape[-2], frames=len(self._files))
        for file, header in zip(self._files, headers, strict=True):
            self._check_size(file, header.upright_size)

    def _check_size(self, file: Path, size: tuple[int, int] | None) -> None:
        first = self.info.width, self.info.height
        if size is not None and size != first:
            raise InputError(
                f"'{file}' is {size[0]}x{size[1]}, the first image {first[0]}x{first[1]}: all "
                f"must have the same size; {_REMEDY}"
            )

    def skip(self, frames: int) -> None:
        """Pass over pictures, before iterating."""
        self._skipped += frames

    def __iter__(self) -> Iterator[Frame]:
        """Frames; their time stamps count them.

        Raises:
            MidwayError: a picture cannot be read, or is of another size than the first.
        """
        for index, file in enumerate(self._files[self._skipped :], start=self._skipped):
            try:
                image = _read(file)
                self._check_size(file, (image.shape[-1], image.shape[-2]))
            except InputError as error:
                raise MidwayError(str(error)) from None
            yield Frame(unit_from_integer(image), Fraction(index), name=file.stem)


def _read(file: Path) -> Tensor:
    try:
        return read_image(file)
    except InputError as error:
        raise InputError(f"{error}; {_REMEDY}") from None


def _header(file: Path) -> PictureHeader:
    try:
        with file.open("rb") as opened:
            return read_header(opened)
    except OSError as error:
        raise InputError(f"cannot read '{file}': {error.strerror or error}") from None


def _notes(headers: Sequence[PictureHeader]) -> list[str]:
    """For the user: what becomes of pictures, and what of theirs is not kept."""
    every = len(headers)
    turned = sum(header.orientation != UPRIGHT for header in headers)
    deep = sum(header.deep for header in headers)
    exif, profiles = (sum(header.exif for header in headers), sum(h.profile for h in headers))
    return [
        note
        for count, note in (
            (turned, f"{turned} of {every} images are rotated upright, as their EXIF says"),
            (deep % every, f"{deep} of {every} images have 16 bits: all are written with 16"),
            (exif, f"the EXIF metadata of {exif} of {every} images is not kept"),
            (profiles, f"the colour profiles (ICC) of {profiles} of {every} images are not kept"),
        )
        if count
    ]


@contextlib.contextmanager
def growing_folder(path: Path, last: str = "") -> Iterator[Path]:
    """A hidden folder beside `path` to write into; its files go there when all is done, and it
    is gone if not.

    Args:
        path: of the folder.
        last: name of the file that speaks for the others, see `store_pictures`.

    Raises:
        OutputError: the disk or its rights say no.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise cannot_write(path, error) from None
    try:
        folder.chmod(0o755)
        yield folder
        store_pictures(folder, path, last)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def store_pictures(pictures: Path, path: Path, last: str = "") -> None:
    """Give a folder of finished pictures its name. Where a folder of that name exists already,
    pictures of the same names are replaced, one after the other, and everything else in it is left
    alone. What can be seen to stand in the way is looked for before the first is replaced.

    Args:
        pictures: the folder.
        path: its name.
        last: the file among them that is replaced when all others are.

    Raises:
        OutputError: the disk or its rights say no, or a folder has the name of a picture.
    """
    try:
        if not path.exists():
            os.replace(pictures, path)
            return
        files = sorted(pictures.iterdir(), key=lambda file: (file.name == last, file.name))
        if not os.access(path, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write '{path}': no permission to write to it")
        for file in files:
            if (path / file.name).is_dir():
                raise OutputError(
                    f"'{path / file.name}' is a folder, where a file is to be written: move it, or "
                    "choose another output"
                )
        for file in files:
            _move(file, path / file.name)
    except OSError as error:
        raise cannot_write(path, error) from None


def _move(file: Path, place: Path) -> None:
    """Give a file its name in another folder, which may lie on another file system: where a link
    leads, or where a disk is mounted. There it is copied, and visible when it is whole.
    """
    try:
        os.replace(file, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with growing_file(place) as partial:
            shutil.copyfile(file, partial)
        file.unlink()
