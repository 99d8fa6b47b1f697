"""Folders of pictures in and out, as benchmarks have them: same names, PNG, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from unsmear.clip import ClipInfo, Frame
from unsmear.errors import InputError, OutputError
from unsmear.video.images import (
    integer_from_unit,
    list_images,
    read_image,
    unit_from_integer,
    write_image,
)


class FolderReader:
    """Pictures of a folder in the order of their names, read one at a time.

    Args:
        path: of the folder.

    Raises:
        InputError: no pictures, two of one stem, or the first cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = list_images(path)
        if not self._files:
            raise InputError(f"'{path}' holds no pictures: expected .png, .jpg, .tif, .bmp, .webp")
        stems = [file.stem for file in self._files]
        if double := [stem for stem in stems if stems.count(stem) > 1]:
            raise InputError(f"'{path}' holds two pictures named '{double[0]}': keep one")
        first = read_image(self._files[0])
        self.dtype = first.dtype
        self.info = ClipInfo(width=first.shape[-1], height=first.shape[-2], frames=len(self._files))

    def __iter__(self) -> Iterator[Frame]:
        """Frames; their time stamps count them.

        Raises:
            InputError: a picture cannot be read, or is of another size than the first.
        """
        for index, file in enumerate(self._files):
            image = read_image(file)
            if image.shape[-2:] != (self.info.height, self.info.width):
                raise InputError(
                    f"'{file}' is {image.shape[-1]}x{image.shape[-2]}, the first picture "
                    f"{self.info.width}x{self.info.height}: all must be of one size"
                )
            yield Frame(unit_from_integer(image), Fraction(index), name=file.stem)


class FolderWriter:
    """A folder of PNG files being written. Use as a context manager: `commit` keeps it.

    Args:
        path: of the finished folder.
        dtype: uint8 or uint16, of the files.

    Attributes:
        partial: the folder as long as it is being written; other files may be put there too.

    Raises:
        OutputError: the parent folder is missing or cannot be written.
    """

    def __init__(self, path: Path, dtype: torch.dtype = torch.uint8) -> None:
        self.path, self._dtype = path, dtype
        self.partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self.partial.mkdir()
        except OSError as error:
            raise OutputError(f"cannot write '{path}': {error.strerror or error}") from None

    def write(self, rgb: Tensor, name: str) -> None:
        """Write a picture, (3, H, W) float 0..1, under a name without suffix."""
        image = integer_from_unit(rgb, self._dtype)
        write_image(self.partial / f"{name}.png", image)

    def commit(self) -> None:
        """Give the folder its name. Where it exists already, files of the same names are
        replaced and everything else in it is left alone.

        Raises:
            OutputError: the disk or its rights say no.
        """
        try:
            if not self.path.exists():
                os.replace(self.partial, self.path)
                return
            for file in sorted(self.partial.iterdir()):
                os.replace(file, self.path / file.name)
        except OSError as error:
            raise OutputError(f"cannot write '{self.path}': {error.strerror or error}") from None

    def __enter__(self) -> FolderWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)
