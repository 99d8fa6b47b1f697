"""Writes the pixel aspect ratio into a finished Matroska file (RFC 9559).

FFmpeg's muxer takes it from a field that PyAV cannot set. VP9, AV1, ProRes and FFV1 do not carry it
themselves, so it would be lost.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

_EBML, _SEGMENT, _TOC, _VOID, _CRC = 0x1A45DFA3, 0x18538067, 0x114D9B74, 0xEC, 0xBF
_INFO, _TRACKS, _TRACK, _VIDEO = 0x1549A966, 0x1654AE6B, 0xAE, 0xE0
_SEEK, _SEEK_ID, _SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
_WIDTH, _HEIGHT = 0xB0, 0xBA
_SHOWN_WIDTH, _SHOWN_HEIGHT, _SHOWN_UNIT = 0x54B0, 0x54BA, 0x54B2
_RATIO = 3  # display unit: aspect ratio; the default, 0, is pixels
_MASTERS = frozenset({_TOC, _SEEK, _TRACKS, _TRACK, _VIDEO})
_HEAD = 1 << 20  # bytes; everything up to the tracks must lie within
_VOID_HEADER = 9  # bytes, eight of them for the size


@dataclass(frozen=True)
class _Element:
    """An EBML element: its ID, and its content, which is other elements or bytes."""

    name: int
    held: tuple[_Element, ...] | bytes

    @property
    def children(self) -> tuple[_Element, ...]:
        return self.held if isinstance(self.held, tuple) else ()

    @property
    def data(self) -> bytes:
        return self.held if isinstance(self.held, bytes) else b""

    def child(self, name: int) -> _Element | None:
        """The first child with a given ID."""
        return next((child for child in self.children if child.name == name), None)

    def coded(self) -> bytes:
        """The element as bytes of a file, with a new checksum if it had one."""
        body = b"".join(child.coded() for child in self.children if child.name != _CRC) + self.data
        if self.child(_CRC) is not None:
            body = _Element(_CRC, zlib.crc32(body).to_bytes(4, "little")).coded() + body
        name = self.name.to_bytes((self.name.bit_length() + 7) // 8, "big")
        length = next(n for n in range(1, 9) if len(body) < (1 << 7 * n) - 1)
        return name + (len(body) | 1 << 7 * length).to_bytes(length, "big") + body


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    """ID of the element at an offset, and first byte and size of its content."""
    numbers = []
    for keep_marker in (True, False):
        length = 9 - data[at].bit_length()
        number = int.from_bytes(data[at : at + length], "big")
        numbers.append(number if keep_marker else number & ((1 << 7 * length) - 1))
        at += length
    return numbers[0], at, numbers[1]


def _parsed(data: bytes, at: int, end: int) -> Iterator[tuple[int, _Element]]:
    """Yield the elements between two offsets, each with the offset of its end."""
    while at < end:
        name, body, size = _header(data, at)
        at = body + size
        held: tuple[_Element, ...] | bytes = data[body:at]
        if name in _MASTERS:
            held = tuple(element for _, element in _parsed(data, body, min(at, end)))
        yield at, _Element(name, held)


def set_pixel_aspect(path: Path, aspect: Fraction) -> bool:
    """Write the pixel aspect ratio of the first track into a finished file of FFmpeg's muxer.

    The space comes from the Void element that the muxer leaves after the SeekHead. Nothing that
    comes after the tracks moves.

    Args:
        path: the file, which is changed in place.
        aspect: width to height of one pixel.

    Returns:
        Whether it was written. A file with another layout is left unchanged.

    Raises:
        OSError: the file cannot be read or written.
    """
    with path.open("r+b") as file:
        data = file.read(_HEAD)
        try:
            first, changed = _changed(data, aspect)
        except (IndexError, StopIteration):  # another layout, or not within what was read
            return False
        file.seek(first)
        file.write(changed)
    return True


def _changed(data: bytes, aspect: Fraction) -> tuple[int, bytes]:
    """Offset of the SeekHead, and the new bytes from there to the end of the tracks.

    Raises:
        IndexError, StopIteration: the file has another layout.
    """
    name, body, size = _header(data, 0)
    segment, first, _ = _header(data, body + size)
    elements = _parsed(data, first, len(data))
    (_, toc), (_, gap), (_, info), (end, tracks) = (next(elements) for _ in range(4))
    found = (name, segment, toc.name, gap.name, info.name, tracks.name)
    if found != (_EBML, _SEGMENT, _TOC, _VOID, _INFO, _TRACKS) or end > len(data):
        raise IndexError
    shaped, about = _shaped(tracks, aspect).coded(), info.coded()
    places = {_TRACKS: end - first - len(shaped)}
    places[_INFO] = places[_TRACKS] - len(about)
    contents = _moved(toc, places).coded()
    room = places[_INFO] - len(contents) - _VOID_HEADER
    if room < 0:
        raise IndexError
    void = bytes((_VOID, 1)) + room.to_bytes(7, "big") + bytes(room)
    return first, contents + void + about + shaped


def _shaped(tracks: _Element, aspect: Fraction) -> _Element:
    track = next(child for child in tracks.children if child.name == _TRACK)
    video = next(child for child in track.children if child.name == _VIDEO)
    width, height = (
        int.from_bytes(next(c for c in video.children if c.name == name).data, "big")
        for name in (_WIDTH, _HEIGHT)
    )
    shown = {_SHOWN_WIDTH: width * aspect, _SHOWN_HEIGHT: Fraction(height)}
    if shown[_SHOWN_WIDTH].denominator != 1:  # the width would not be whole
        ratio = width * aspect / height
        shown = {_SHOWN_WIDTH: Fraction(ratio.numerator), _SHOWN_UNIT: Fraction(_RATIO),
                 _SHOWN_HEIGHT: Fraction(ratio.denominator)}  # fmt: skip
    kept = [c for c in video.children if c.name not in (_SHOWN_WIDTH, _SHOWN_HEIGHT, _SHOWN_UNIT)]
    new = [_number(name, int(value)) for name, value in shown.items()]
    return _with(tracks, track, _with(track, video, _Element(_VIDEO, (*kept, *new))))


def _moved(toc: _Element, places: dict[int, int]) -> _Element:
    """The SeekHead with new positions, relative to the start of the segment's content."""
    for seek in toc.children:
        name, position = seek.child(_SEEK_ID), seek.child(_SEEK_POSITION)
        if name is not None and position is not None:
            place = places.get(int.from_bytes(name.data, "big"))
            if place is not None:
                toc = _with(toc, seek, _with(seek, position, _number(_SEEK_POSITION, place)))
    return toc


def _with(parent: _Element, old: _Element, new: _Element) -> _Element:
    return _Element(parent.name, tuple(new if c is old else c for c in parent.children))


def _number(name: int, value: int) -> _Element:
    return _Element(name, value.to_bytes(max((value.bit_length() + 7) // 8, 1), "big"))
