"""Writes the pixel aspect ratio into a finished Matroska file (RFC 9559).

FFmpeg's muxer takes it from a field that PyAV cannot set. VP9, AV1, ProRes and FFV1 do not carry it
themselves, so it would be lost.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

_EBML, _SEGMENT, _SEEK_HEAD, _VOID, _CRC = 0x1A45DFA3, 0x18538067, 0x114D9B74, 0xEC, 0xBF
_INFO, _TRACKS, _TRACK_ENTRY, _VIDEO = 0x1549A966, 0x1654AE6B, 0xAE, 0xE0
_SEEK, _SEEK_ID, _SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xB0, 0xBA
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_ASPECT_RATIO = 3  # display unit: aspect ratio; the default, 0, is pixels
_MASTERS = frozenset({_SEEK_HEAD, _SEEK, _TRACKS, _TRACK_ENTRY, _VIDEO})
_READ = 1 << 20  # bytes; everything up to the tracks must lie within
_VOID_HEADER = 9  # bytes, eight of them for the size


@dataclass(frozen=True)
class _Element:
    """An EBML element: its ID, and its content, which is other elements or bytes."""

    id: int
    content: tuple[_Element, ...] | bytes

    @property
    def children(self) -> tuple[_Element, ...]:
        return self.content if isinstance(self.content, tuple) else ()

    @property
    def data(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else b""

    def child(self, wanted: int) -> _Element:
        """The first child with a given ID.

        Raises:
            StopIteration: there is none.
        """
        return next(child for child in self.children if child.id == wanted)

    def with_child(self, old: _Element, new: _Element) -> _Element:
        """The element with one child replaced."""
        return _Element(self.id, tuple(new if c is old else c for c in self.children))

    def encoded(self) -> bytes:
        """The element as bytes of a file, with a new checksum if it had one."""
        body = b"".join(child.encoded() for child in self.children if child.id != _CRC) + self.data
        if any(child.id == _CRC for child in self.children):
            body = _Element(_CRC, zlib.crc32(body).to_bytes(4, "little")).encoded() + body
        length = next(n for n in range(1, 9) if len(body) < (1 << 7 * n) - 1)
        return _bytes(self.id) + (len(body) | 1 << 7 * length).to_bytes(length, "big") + body


def _bytes(number: int) -> bytes:
    """A number in as few bytes as it needs, at least one."""
    return number.to_bytes(max((number.bit_length() + 7) // 8, 1), "big")


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    """ID of the element at an offset, and first byte and size of its content."""
    numbers = []
    for keep_marker in (True, False):
        length = 9 - data[at].bit_length()
        number = int.from_bytes(data[at : at + length], "big")
        numbers.append(number if keep_marker else number & ((1 << 7 * length) - 1))
        at += length
    return numbers[0], at, numbers[1]


def _elements(data: bytes, at: int, end: int) -> Iterator[tuple[int, _Element]]:
    """Yield the elements between two offsets, each with the offset of its end."""
    while at < end:
        name, body, size = _header(data, at)
        at = body + size
        content: tuple[_Element, ...] | bytes = data[body:at]
        if name in _MASTERS:
            content = tuple(element for _, element in _elements(data, body, min(at, end)))
        yield at, _Element(name, content)


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
        data = file.read(_READ)
        try:
            first, changed = _changed(data, aspect)
        except (IndexError, StopIteration, ValueError):
            return False  # another layout, or not within what was read
        file.seek(first)
        file.write(changed)
    return True


def _changed(data: bytes, aspect: Fraction) -> tuple[int, bytes]:
    """Offset of the SeekHead, and the new bytes from there to the end of the tracks.

    Raises:
        IndexError, StopIteration, ValueError: the file has another layout.
    """
    ebml, body, size = _header(data, 0)
    segment, first, _ = _header(data, body + size)
    leading = islice(_elements(data, first, len(data)), 4)
    (_, seek_head), (_, void), (_, info), (end, tracks) = leading
    found = (ebml, segment, seek_head.id, void.id, info.id, tracks.id)
    if found != (_EBML, _SEGMENT, _SEEK_HEAD, _VOID, _INFO, _TRACKS) or end > len(data):
        raise IndexError
    new_tracks, same_info = _with_aspect(tracks, aspect).encoded(), info.encoded()
    positions = {_TRACKS: end - first - len(new_tracks)}
    positions[_INFO] = positions[_TRACKS] - len(same_info)
    new_head = _with_positions(seek_head, positions).encoded()
    room = positions[_INFO] - len(new_head) - _VOID_HEADER
    if room < 0:
        raise IndexError
    new_void = bytes((_VOID, 1)) + room.to_bytes(7, "big") + bytes(room)
    return first, new_head + new_void + same_info + new_tracks


def _with_aspect(tracks: _Element, aspect: Fraction) -> _Element:
    track = tracks.child(_TRACK_ENTRY)
    video = track.child(_VIDEO)
    width = int.from_bytes(video.child(_PIXEL_WIDTH).data, "big") * aspect
    height = int.from_bytes(video.child(_PIXEL_HEIGHT).data, "big")
    if width.denominator == 1:
        display = {_DISPLAY_WIDTH: width.numerator, _DISPLAY_HEIGHT: height}
    else:
        ratio = width / height
        display = {_DISPLAY_WIDTH: ratio.numerator, _DISPLAY_UNIT: _ASPECT_RATIO,
                   _DISPLAY_HEIGHT: ratio.denominator}  # fmt: skip
    replaced = (_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
    kept = [child for child in video.children if child.id not in replaced]
    new = [_Element(name, _bytes(value)) for name, value in display.items()]
    return tracks.with_child(track, track.with_child(video, _Element(_VIDEO, (*kept, *new))))


def _with_positions(seek_head: _Element, positions: dict[int, int]) -> _Element:
    """The SeekHead with new positions, relative to the start of the segment's content."""
    for seek in seek_head.children:
        if seek.id != _SEEK:  # the checksum
            continue
        position = positions.get(int.from_bytes(seek.child(_SEEK_ID).data, "big"))
        if position is not None:
            old, new = seek.child(_SEEK_POSITION), _Element(_SEEK_POSITION, _bytes(position))
            seek_head = seek_head.with_child(seek, seek.with_child(old, new))
    return seek_head
