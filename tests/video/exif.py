"""Image files with EXIF orientations and other parts, put together byte by byte."""

from __future__ import annotations

import zlib

import cv2
import numpy as np

from tests.conftest import picture

ENDINGS = ["jpg", "png", "webp", "tif"]


def tiff(orientation, order="little"):
    """EXIF data with nothing but an orientation."""

    def short(value):
        return value.to_bytes(2, order)

    entry = short(274) + short(3) + (1).to_bytes(4, order) + short(orientation) + bytes(2)
    start = b"II*\0" if order == "little" else b"MM\0*"
    return start + (8).to_bytes(4, order) + short(1) + entry + bytes(4)


def oriented(path, orientation, pixels=None, order="little"):
    """An image file with an EXIF orientation."""
    pixels = picture(24, 32) if pixels is None else pixels
    kind = path.suffix
    flags = [cv2.IMWRITE_WEBP_QUALITY, 101] if kind == ".webp" else []
    data = cv2.imencode(kind, np.ascontiguousarray(pixels[..., ::-1]), flags)[1].tobytes()
    exif = tiff(orientation, order)
    if kind == ".jpg":
        body = b"Exif\0\0" + exif
        data = data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]
    elif kind == ".png":
        data = data[:33] + png_chunk(b"eXIf", exif) + data[33:]
    elif kind == ".webp":
        size = (31).to_bytes(3, "little") + (23).to_bytes(3, "little")
        extended = b"VP8X" + (10).to_bytes(4, "little") + b"\x08\0\0\0" + size
        more = b"EXIF" + len(exif).to_bytes(4, "little") + exif
        body = b"WEBP" + extended + data[12:] + more
        data = b"RIFF" + len(body).to_bytes(4, "little") + body
    else:
        data = turned_tiff(data, orientation)
    path.write_bytes(data)
    return path


def png_chunk(kind, data):
    crc = zlib.crc32(kind + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + kind + data + crc


def retagged(data, tag, value):
    """A TIFF file, little-endian, with another first value of a tag."""
    at = int.from_bytes(data[4:8], "little")
    entry = data.index(tag.to_bytes(2, "little") + b"\3\0\1\0\0\0", at)
    return data[: entry + 8] + value.to_bytes(2, "little") + data[entry + 10 :]


def turned_tiff(data, orientation):
    """A TIFF file with an orientation added to its directory, which moves to the end."""
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    rows = [data[at + 2 + 12 * n : at + 14 + 12 * n] for n in range(count)]
    rows = [row for row in rows if row[:2] != (274).to_bytes(2, "little")]
    rows.append(tiff(orientation)[10:22])
    rows.sort(key=lambda row: int.from_bytes(row[:2], "little"))
    table = len(rows).to_bytes(2, "little") + b"".join(rows) + bytes(4)
    return data[:4] + len(data).to_bytes(4, "little") + data[8:] + table
