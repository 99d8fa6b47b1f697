"""Image files as tensors, through OpenCV. No PyAV here: training machines need this module too."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from unsmear.clip import check_size
from unsmear.errors import InputError, OutputError, reading, writing
from unsmear.video.headers import parse_header
from unsmear.video.orientation import UPRIGHT, upright

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def list_images(folder: Path) -> list[Path]:
    """Image files directly in a folder, in natural order of their names, since some programs count
    without leading zeros. Hidden files are skipped.

    Raises:
        InputError: the folder cannot be read.
    """
    with reading(folder):
        images = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        ]
    return sorted(images, key=_natural_order)


def _natural_order(path: Path) -> tuple[list[str | int], str]:
    """Sort key for paths of one folder, in natural order: text and numbers in turn."""
    parts = re.split(r"([0-9]+)", path.name)  # odd ones are numbers; text may hold other digits
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name


def paths_below(root: Path) -> list[Path]:
    """All files and folders below a folder, sorted; empty if it does not exist. Links to folders
    are followed, since data sets are large and often stored elsewhere, but not a link to a folder
    that contains it. Hidden files and folders are skipped, and so are `@eaDir` folders, where
    Synology devices keep thumbnails.

    Raises:
        InputError: a folder cannot be read.
    """

    def complain(error: OSError) -> None:
        raise InputError(f"cannot read '{error.filename}': {error.strerror or error}") from None

    if not root.is_dir():
        return []
    found: list[Path] = []
    above = {root: {root.resolve()}}
    for folder, folders, files in os.walk(root, followlinks=True, onerror=complain):
        here = Path(folder)
        folders[:] = [name for name in folders if not name.startswith((".", "@eaDir"))]
        files = [name for name in files if not name.startswith(".")]
        found += (here / name for name in folders + files)
        passed = above.pop(here)
        places = {name: (here / name).resolve() for name in folders}
        folders[:] = [name for name in folders if places[name] not in passed]
        above |= {here / name: passed | {places[name]} for name in folders}
    return sorted(found)


def read_image(path: Path) -> Tensor:
    """Read an image as RGB: (3, H, W), uint8, or uint16 if the file has 16 bits. It is rotated
    upright according to its EXIF data. Of several pages only the first is read.

    Raises:
        InputError: no such file, not an image with 8 or 16 bits per channel, too large, damaged,
            truncated, stored in a way that OpenCV misreads, or with transparent pixels.
    """
    with reading(path):
        # Not cv2.imread: on Windows it cannot open names outside the local code page.
        packed = np.fromfile(path, dtype=np.uint8)
    header = parse_header(io.BytesIO(packed.tobytes()))
    check_size(f"'{path}' declares", *(header.size or (0, 0)))
    if header.misread:
        raise InputError(
            f"'{path}' {header.misread}, which is not supported in TIFF files: save it as PNG"
        )
    if header.orientation_offset is not None and header.orientation != UPRIGHT:
        # Rotate below, as other images: OpenCV 5 fails on TIFF files rotated by 90 degrees.
        at, little = header.orientation_offset, packed[0] == ord("I")
        packed[at : at + 2] = (1, 0) if little else (0, 1)
    flags = cv2.IMREAD_UNCHANGED  # does not rotate
    try:
        pixels = cv2.imdecode(packed, flags) if packed.size else None
    except cv2.error:
        pixels = None
    if pixels is None and header.truncated:
        raise InputError(f"'{path}' is truncated: the file ends before its image does")
    if pixels is None and header.size is not None:
        raise InputError(
            f"'{path}' cannot be decoded: it is damaged, or does not have 8 or 16 bits per channel"
        )
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"'{path}' is not an image with 8 or 16 bits per channel")
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    elif pixels.shape[2] == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    elif pixels[..., 3].min() == (255 if pixels.dtype == np.uint8 else 65_535):
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
    else:
        raise InputError(f"'{path}' has transparent pixels: flatten it onto a background first")
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return upright(image, header.orientation)


def write_image(path: Path, image: Tensor) -> None:
    """Write RGB (3, H, W), uint8 or uint16, in the format that the suffix names.

    Raises:
        OutputError: the suffix is unknown, or the file cannot be written.
    """
    bgr = image.cpu().numpy().transpose(1, 2, 0)[..., ::-1]
    try:
        done, packed = cv2.imencode(path.suffix, np.ascontiguousarray(bgr))
    except cv2.error:  # unknown suffix
        done, packed = False, np.empty(0, np.uint8)
    if not done:
        raise OutputError(
            f"cannot write '{path}': no image format has the suffix '{path.suffix}', use .png"
        )
    with writing(path):
        # Not ndarray.tofile: its error does not say that the disk is full.
        path.write_bytes(packed.data)


def eight_bit(image: Tensor) -> Tensor:
    """uint8 or uint16 -> uint8, rounded; any shape."""
    if image.dtype == torch.uint8:
        return image
    return (image.float() / 257).round().to(torch.uint8)


def unit_from_integer(image: Tensor) -> Tensor:
    """uint8 or uint16 -> float32 0..1; any shape."""
    return image.float() / torch.iinfo(image.dtype).max


def integer_from_unit(image: Tensor, dtype: torch.dtype = torch.uint8) -> Tensor:
    """float, clipped to 0..1 and rounded -> uint8 or uint16, any shape."""
    return (image.float().clamp(0, 1) * torch.iinfo(dtype).max).round().to(dtype)
