"""What in a file could not be read properly, and whether the file is truncated.

Demuxers treat a truncation like the end of the file. A file counts as truncated if it is shorter
than its outermost structure says and frames are missing, so that edit lists and wrong headers raise
no false alarm. If it does not state the length of its video, being too short is enough.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from unsmear.errors import reading

_FRAMES = Fraction(3, 2)  # frames by which the stated end of a stream may be wrong
_OTHERS = Fraction(1)  # seconds that audio and subtitles may continue after the last frame
_MOVIE_BOXES = frozenset(
    {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot"}
)
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


@dataclass
class Damage:
    """What could not be read properly.

    Attributes:
        packets: packets that could not be decoded, or were empty.
        early: packets before the first key frame, without which they cannot be decoded.
        frames: frames that the decoder marked as damaged.
        stamps: time stamps that did not rise and were moved.
        interlaced: interlaced frames that were taken for progressive ones, like the first.
        broke_off: reading ended in an error, not at the end.
        present: for a truncated file, how much of it is present, for the user; empty for a complete
            file, and until the file has been read to its end.
    """

    packets: int = 0
    early: int = 0
    frames: int = 0
    stamps: int = 0
    interlaced: int = 0
    broke_off: bool = False
    present: str = ""

    def notes(self) -> list[str]:
        """For the user, one line each."""
        lines = []
        if self.early:
            lines.append(
                f"{self.early} packets before the first key frame cannot be decoded: the result "
                "begins with that key frame"
            )
        if self.packets:
            lines.append(f"{self.packets} packets could not be decoded; their frames are missing")
        if self.frames:
            lines.append(f"{self.frames} frames are damaged; the decoder concealed what it could")
        if self.stamps:
            lines.append(f"{self.stamps} time stamps did not increase and were adjusted")
        if self.interlaced:
            lines.append(
                f"{self.interlaced} frames are interlaced, though the first is not, and were "
                "restored as progressive ones: add --deinterlace to deinterlace them"
            )
        if self.present:
            lines.append(f"the file is truncated: {self.present}")
        elif self.broke_off:
            lines.append("the file is truncated; the frames before that are kept")
        return lines


class LeadingPackets:
    """Counts the packets before the first key frame, which decoders drop without an error."""

    def __init__(self) -> None:
        self._shown: list[Fraction] = []
        self._begun = False

    def see(self, packet: Packet[VideoStream]) -> None:
        """Take the next packet; call it until the first frame is decoded."""
        self._begun |= packet.is_keyframe
        if not self._begun and packet.pts is not None:
            self._shown.append(packet.pts * packet.time_base)

    def lost(self, first: VideoFrame) -> int:
        """How many packets would have been shown before the first decoded frame."""
        if first.pts is None or first.time_base is None:
            return 0
        return sum(shown < first.pts * first.time_base for shown in self._shown)


@dataclass(frozen=True)
class Extent:
    """What a file says about the length of a stream.

    Attributes:
        frames: number of frames, None if it does not say.
        end: when the last frame ends, seconds, None likewise.
        slack: seconds by which `end` may be wrong.
    """

    frames: int | None
    end: Fraction | None
    slack: Fraction

    @classmethod
    def of(cls, container: InputContainer, stream: VideoStream) -> Extent:
        """For a stream of an opened file."""
        rate = stream.average_rate
        if container.format.name == "avi":
            # AVI counts empty packets, and has no duration without its index.
            return cls(None, None, _OTHERS)
        slack = _FRAMES / rate if rate else _OTHERS
        end = _own_end(stream)
        if end is None and container.duration:
            end = Fraction((container.start_time or 0) + container.duration, av.time_base)
            slack += _OTHERS if len(container.streams) > 1 else 0
        return cls(stream.frames or None, end, slack)


def stream_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """When the last frame of a stream ends, seconds, if its container says that exactly, as MP4,
    MOV, Matroska and WebM do; otherwise None.
    """
    exact = {"mov", "matroska"} & {*container.format.name.split(",")}
    return _own_end(stream) if exact else None


def written_end(stream: VideoStream) -> Fraction | None:
    """When a stream ends, seconds, from the tag that Matroska has for it; None without one."""
    found = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    return 3600 * int(found[1]) + 60 * int(found[2]) + Fraction(found[3]) if found else None


def _own_end(stream: VideoStream) -> Fraction | None:
    if (end := written_end(stream)) is not None:
        return end
    if stream.duration and stream.time_base:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    return None


def packet_end(packet: Packet[VideoStream]) -> Fraction:
    """When the frame in a packet ends, seconds; 0 if it does not say."""
    if packet.pts is None:
        return Fraction(0)
    end = packet.pts * packet.time_base
    if packet.duration:
        return end + packet.duration * packet.time_base
    rate = packet.stream.average_rate
    return end + (1 / rate if rate else 0)


def shortfall(path: Path, told: Extent, seen: tuple[int, int] | None, end: Fraction) -> str:
    """How much of a truncated file is present, in words; empty if the file is not truncated.

    Args:
        path: the file, which was read to its end.
        told: what it says about the length of the stream.
        seen: number of packets read, and of frames decoded from them; None if reading did not start
            at the beginning.
        end: when the last frame seen ends, seconds.

    Raises:
        InputError: the file no longer exists, or cannot be read.
    """
    if not _bytes_missing(path):
        return ""
    if seen is not None and told.frames is not None:
        missing = seen[0] < told.frames
        return f"{seen[1]} of {told.frames} frames are present" if missing else ""
    if told.end is not None:
        missing = end < told.end - told.slack
        return f"{float(end):.2f} of {float(told.end):.2f} s are present" if missing else ""
    return "what is present is kept" if seen is None else f"{seen[1]} frames are present"


def _bytes_missing(path: Path) -> bool:
    """Whether a file is shorter than its outermost boxes say (MP4, MOV, Matroska, AVI)."""
    with reading(path), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(8)
        file.seek(0)
        if start[4:] in _MOVIE_BOXES:
            ends = _movie_ends(file)
        elif start[:4] == _EBML:
            ends = _matroska_ends(file)
        elif start[:4] == b"RIFF":
            ends = _riff_ends(file)
        else:
            return False
        return any(end > size for end in ends)


def _movie_ends(file: BinaryIO) -> Iterator[int]:
    """Yield the end offsets of the outermost boxes of ISO/IEC 14496-12."""
    at = 0
    while len(header := file.read(16)) >= 8 and header[4:8].isalnum():
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: up to the end of the file, wherever that is
            return
        at += length
        yield at
        file.seek(at)


def _matroska_ends(file: BinaryIO) -> Iterator[int]:
    """Yield the end offset of the segment, if its size is known (RFC 8794)."""

    def sized(name: bytes) -> int | None:
        if file.read(4) != name or not (first := file.read(1)) or not first[0]:
            return None
        length = 9 - first[0].bit_length()
        number = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
        return None if number == (1 << 7 * length) - 1 else number

    header = sized(_EBML)
    if header is not None:
        file.seek(header, 1)
        segment = sized(_SEGMENT)
        if segment is not None:
            yield file.tell() + segment


def _riff_ends(file: BinaryIO) -> Iterator[int]:
    """Yield the end offsets of an AVI file's `movi` lists; a long file has more than one."""
    at = 0
    while len(header := file.read(12)) == 12:
        name, length = header[:4], int.from_bytes(header[4:8], "little")
        if length in (0, 0xFFFFFFFF):  # never filled in by the recorder
            return
        if name == b"LIST" and header[8:] == b"movi":
            yield at + 8 + length
        at += 12 if name == b"RIFF" else 8 + length + length % 2
        file.seek(at)
