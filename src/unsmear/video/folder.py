"""Reading and writing folders of images, as benchmarks have them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from unsmear.clip import ClipInfo, Frame
from unsmear.errors import InputError, MidwayError, Mistakes, OutputError, writing
from unsmear.outputs import atomic_file, hidden_folder, rename_over, spelling_key
from unsmear.video.headers import ImageHeader, read_header
from unsmear.video.images import list_images, read_image, unit_from_integer
from unsmear.video.orientation import UPRIGHT

_REMEDY = "repair it, or remove it from the folder"


def numbered(number: int) -> str:
    """File name for the image of a frame that has no name; frames count from 0."""
    return f"{number:06d}.png"


class FolderReader:
    """Reads the images of a folder one at a time, in natural order of their names.

    Args:
        path: the folder.

    Raises:
        InputError: no such folder; no images; two with one stem; several images in one file; an
            image that cannot be read (the first, and those of doubtful or unknown headers, are
            tried); or a header that states another size.
        CombinedError: several of these images cannot be read.

    Attributes:
        dtype: uint16 if any image has 16 bits, otherwise uint8.
        notes: messages for the user.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = list_images(path)
        if not self._files:
            raise InputError(f"'{path}' contains no images: expected .png, .jpg, .tif, .bmp, .webp")
        keys = [spelling_key(file.stem) for file in self._files]
        (key, times), *_ = Counter(keys).most_common(1)
        if times > 1:
            stem = self._files[keys.index(key)].stem
            raise InputError(f"'{path}' contains two images named '{stem}': keep one")
        headers = {file: read_header(file) for file in self._files}
        for file, header in headers.items():
            if header.multi_image:
                raise InputError(
                    f"'{file}' contains more than one image: save each in its own file"
                )
        first, mistakes = _read(self._files[0]), Mistakes()
        for file, header in headers.items():
            # All mistakes are reported at once, before the work.
            if header.truncated or header.misread or header.size is None:
                mistakes.attempt(partial(_read, file))
        mistakes.tell()
        sixteen_bit = any(header.sixteen_bit for header in headers.values())
        self.dtype = torch.uint16 if sixteen_bit else first.dtype
        self.notes = _notes(headers.values())
        self._skipped = 0
        self.info = ClipInfo(width=first.shape[-1], height=first.shape[-2], frames=len(self._files))
        for file, header in headers.items():
            self._check_size(file, header.upright_size)

    def _check_size(self, file: Path, size: tuple[int, int] | None) -> None:
        first = self.info.width, self.info.height
        if size is not None and size != first:
            raise InputError(
                f"'{file}' is {size[0]}x{size[1]}, the first image {first[0]}x{first[1]}: all "
                f"must have the same size; {_REMEDY}"
            )

    def skip(self, frames: int) -> None:
        """Skip images, before iterating."""
        self._skipped += frames

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames. Their time stamps are their indices.

        Raises:
            MidwayError: an image cannot be read, or its size differs from that of the first.
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


def _notes(headers: Collection[ImageHeader]) -> list[str]:
    """Messages for the user: what is converted in the images, and what is not kept."""
    every = len(headers)
    turned = sum(header.orientation != UPRIGHT for header in headers)
    deep = sum(header.sixteen_bit for header in headers)
    exif = sum(header.exif for header in headers)
    profiles = sum(header.profile for header in headers)
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
def growing_folder(path: Path, last: str) -> Iterator[Path]:
    """Yield a hidden folder beside `path` to write into. At the end its files become `path`; after
    an error nothing is left.

    Args:
        path: the folder to create or to add to.
        last: name of the file to move last, see `publish_images`.

    Raises:
        OutputError: the folder cannot be written.
    """
    with writing(path):
        folder = hidden_folder(path)
    try:
        yield folder
        publish_images(folder, path, last)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish_images(images: Path, path: Path, last: str = "") -> None:
    """Give a folder of finished images its name. If a folder of that name exists, images of the
    same names are replaced, one by one, and everything else in it is left alone. Obstacles that can
    be foreseen are looked for before the first image is replaced.

    Args:
        images: the folder.
        path: its new name.
        last: name of the image to replace last.

    Raises:
        OutputError: the folder cannot be written, or a folder has the name of an image.
    """
    with writing(path):
        if not path.exists():
            rename_over(images, path)
            return
        files = sorted(images.iterdir(), key=lambda file: (file.name == last, file.name))
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


def _move(file: Path, place: Path) -> None:
    """Move a file or folder to its place in another folder, which may be on another file system
    (through a link or a mount point). In that case each file is copied, and appears only when it is
    complete.
    """
    try:
        rename_over(file, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if file.is_dir():
            place.mkdir()
            for inner in sorted(file.iterdir()):
                _move(inner, place / inner.name)
            file.rmdir()
            return
        with atomic_file(place) as partial:
            shutil.copyfile(file, partial)
        file.unlink()
