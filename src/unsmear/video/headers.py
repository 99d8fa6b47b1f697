"""What the header of an image file says, without decoding: size, depth, pages, EXIF orientation,
colour profile.

PNG (third edition), JPEG (ITU-T T.81 annex B, Exif 2.3, ICC.1 annex B), TIFF 6.0, WebP (RFC 9649,
RFC 6386) and BMP.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from unsmear.errors import reading

_WIDTH, _HEIGHT = 256, 257  # TIFF tags
_SUBFILE, _BITS, _ORIENTATION, _PROFILE = 254, 258, 274, 34_675
_COLORS, _SAMPLES, _LAYOUT = 262, 277, 284
_CIELAB = 8
_LYING = 5  # from this orientation on, rows and columns are swapped
_SHORT, _LONG = 3, 4  # TIFF field types
_MOST_PAGES = 1000
_TAIL = 1 << 16  # bytes searched for the end of a JPEG image
# JPEG markers that hold the size
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_Size = tuple[int, int] | None
_Order = Literal["little", "big"]


@dataclass(frozen=True)
class ImageHeader:
    """What is known of an image file before it is decoded.

    Attributes:
        sixteen_bit: a channel has 16 bits (PNG and TIFF only).
        multi_image: the file holds more than one image: pages, or frames of an animation.
        orientation: EXIF orientation, 1 to 8; see `orientation.py`.
        profile: there is a colour profile (ICC).
        exif: there is EXIF data; not known for TIFF.
        size: width and height as stored, pixels, before rotation; None if unknown.
        orientation_offset: byte offset of the two-byte orientation in a TIFF file; None if there
            is none, and in other files.
        truncated: the file seems to be truncated; not known for TIFF.
        misread: what makes OpenCV decode the file to wrong pixels without an error; None if nothing
            is known to.
    """

    sixteen_bit: bool = False
    multi_image: bool = False
    orientation: int = 1
    profile: bool = False
    exif: bool = False
    size: _Size = None
    orientation_offset: int | None = None
    truncated: bool = False
    misread: str | None = None

    @property
    def upright_size(self) -> _Size:
        """Width and height of the image as displayed; None if unknown."""
        if self.size is None or 0 in self.size:
            return None
        width, height = self.size
        return (height, width) if self.orientation >= _LYING else (width, height)


def read_header(path: Path) -> ImageHeader:
    """Read the header of an image file, see `parse_header`.

    Raises:
        InputError: the file cannot be read.
    """
    with reading(path), path.open("rb") as file:
        return parse_header(file)


def parse_header(file: BinaryIO) -> ImageHeader:
    """Read the header of an open file, from its start. A damaged header, or one of an unknown
    format, gives the defaults.

    Raises:
        OSError: the file cannot be read.
    """
    start = file.read(12)
    try:
        if start.startswith(b"\x89PNG"):
            return _png(file)
        if start.startswith(b"\xff\xd8"):
            return _jpeg(file)
        if start.startswith((b"II*\0", b"MM\0*")):
            return _tiff(file, 0)
        if start.startswith(b"BM"):
            truncated = _ends_before(file, _little(start[2:6]))
            return ImageHeader(size=_bmp_size(file), truncated=truncated)
        if start[:4] == b"RIFF" and start[8:] == b"WEBP":
            truncated = _ends_before(file, 8 + _little(start[4:8]))
            return replace(_webp(file), truncated=truncated)
    except (IndexError, EOFError):
        pass
    return ImageHeader()


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _ends_before(file: BinaryIO, place: int) -> bool:
    return file.seek(0, io.SEEK_END) < place


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _png(file: BinaryIO) -> ImageHeader:
    header, at = ImageHeader(truncated=True), 8
    while True:
        file.seek(at)
        lead = file.read(8)
        if len(lead) < 8:
            return header
        kind = lead[4:]
        if kind == b"IHDR":
            data = _read(file, 9)
            size = _big(data[:4]), _big(data[4:8])
            header = replace(header, size=size, sixteen_bit=data[8] == 16)
        elif kind == b"acTL":
            header = replace(header, multi_image=True)
        elif kind == b"iCCP":
            header = replace(header, profile=True)
        elif kind == b"eXIf":
            header = replace(header, exif=True, orientation=_orientation(file, file.tell()))
        elif kind == b"IEND":
            header = replace(header, truncated=False)
        at += 12 + _big(lead[:4])


def _jpeg(file: BinaryIO) -> ImageHeader:
    header, at = ImageHeader(), 2
    while True:
        file.seek(at)
        lead = _read(file, 4)
        if lead[:2] == b"\xff\xff":  # fill bytes before a marker
            run = lead + file.read(_TAIL)
            at += len(run) - len(run.lstrip(b"\xff")) - 1
            continue
        if lead[0] != 0xFF or lead[1] == 0xDA:  # the image data
            # The end marker is last, or before what cameras append. Image data cannot hold it.
            file.seek(max(at, file.seek(0, io.SEEK_END) - _TAIL))
            return replace(header, truncated=b"\xff\xd9" not in file.read())
        begin = file.read(12)
        if lead[1] in _START_OF_FRAME:
            header = replace(header, size=(_big(begin[3:5]), _big(begin[1:3])))
        elif lead[1] == 0xE2 and begin == b"ICC_PROFILE\0":
            header = replace(header, profile=True)
        elif lead[1] == 0xE1 and begin.startswith(b"Exif\0\0"):
            header = replace(header, exif=True, orientation=_orientation(file, at + 10))
        at += 2 + _big(lead[2:])


def _webp(file: BinaryIO) -> ImageHeader:
    header, at = ImageHeader(), 12
    while True:
        file.seek(at)
        lead = file.read(8)
        if len(lead) < 8:
            return header
        kind = lead[:4]
        if kind in (b"VP8X", b"VP8L", b"VP8 ") and header.size is None:
            header = replace(header, size=_webp_size(kind, file.read(10)))
        elif kind == b"ANIM":
            header = replace(header, multi_image=True)
        elif kind == b"ICCP":
            header = replace(header, profile=True)
        elif kind == b"EXIF":
            lead_in = 6 if file.read(6) == b"Exif\0\0" else 0
            orientation = _orientation(file, at + 8 + lead_in)
            header = replace(header, exif=True, orientation=orientation)
        length = _little(lead[4:])
        at += 8 + length + length % 2


def _webp_size(kind: bytes, data: bytes) -> _Size:
    if kind == b"VP8X":
        return _little(data[4:7]) + 1, _little(data[7:10]) + 1
    if kind == b"VP8L":
        bits = _little(data[1:5])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return _little(data[6:8]) & 0x3FFF, _little(data[8:10]) & 0x3FFF


def _bmp_size(file: BinaryIO) -> _Size:
    file.seek(14)
    told = _read(file, 12)
    if _little(told[:4]) == 12:  # OS/2
        return _little(told[4:6]), _little(told[6:8])
    height = int.from_bytes(told[8:12], "little", signed=True)
    return _little(told[4:8]), abs(height)  # negative if the top row comes first


def _orientation(file: BinaryIO, base: int) -> int:
    """Orientation in EXIF data, which is a TIFF file inside another at `base`; 1 if damaged."""
    try:
        return _tiff(file, base).orientation
    except (IndexError, EOFError):
        return 1


def _tiff(file: BinaryIO, base: int) -> ImageHeader:
    """Header of a TIFF file that begins at `base`."""
    file.seek(base)
    order: _Order = "little" if _read(file, 8)[:2] == b"II" else "big"
    pages = _pages(file, base, order)
    first = next(pages, {})
    try:
        # A smaller version of the image (a preview) does not count as a page.
        many = any(not page.get(_SUBFILE, (0, 0))[0] & 1 for page in pages)
    except EOFError:  # programs that remove the preview of EXIF data may leave its offset
        many = False
    orientation, orientation_offset = first.get(_ORIENTATION, (1, None))
    bits = first.get(_BITS, (8, 0))[0]
    size = (first[_WIDTH][0], first[_HEIGHT][0]) if first.keys() >= {_WIDTH, _HEIGHT} else None
    samples, colors = first.get(_SAMPLES, (1, 0))[0], first.get(_COLORS, (1, 0))[0]
    misread = None
    if colors == _CIELAB:  # white comes out yellow, and 16 bits become 8
        misread = "has CIELAB colours"
    elif samples == 2:
        misread = "is grey with transparency"
    elif bits == 16 and samples > 1 and first.get(_LAYOUT, (1, 0))[0] == 2:
        misread = "has 16 bits and stores its channels one after the other"
    elif bits == 16 and colors == 0:
        misread = "has 16 bits and stores white as zero"
    return ImageHeader(
        sixteen_bit=bits == 16,
        multi_image=many,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        profile=_PROFILE in first,
        size=size,
        orientation_offset=orientation_offset,
        misread=misread,
    )


def _pages(file: BinaryIO, base: int, order: _Order) -> Iterator[dict[int, tuple[int, int]]]:
    """Yield the tags of each page: the first value of each, and its byte offset in the file."""

    def number(data: bytes) -> int:
        return int.from_bytes(data, order)

    file.seek(base + 4)
    place = number(_read(file, 4))
    for _ in range(_MOST_PAGES):
        if not place:
            return
        file.seek(base + place)
        count = number(_read(file, 2))
        entries = _read(file, 12 * count)
        place, begin = number(file.read(4)), base + place + 2
        found = {}
        for at in range(0, len(entries), 12):
            tag, kind = number(entries[at : at + 2]), number(entries[at + 2 : at + 4])
            size = {_SHORT: 2, _LONG: 4}.get(kind, 1)
            value, where = number(entries[at + 8 : at + 8 + size]), begin + at + 8
            if size * number(entries[at + 4 : at + 8]) > 4:
                where = base + number(entries[at + 8 : at + 12])
                if tag == _BITS:
                    file.seek(where)
                    value = number(file.read(size))
            found[tag] = (value, where)
        yield found
