"""Encoded packets on disk: what is encoded is kept until the whole file can be put together.

A spool is written under a hidden name and renamed when whole, so a file that can be seen is
complete. Its container has no time stamps of its own to lose: ticks are kept as they are.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from unsmear.errors import cannot_write
from unsmear.outputs import give_name

_RECORD = struct.Struct("<qqqBI")  # pts, dts, duration, key frame or not, bytes that follow


@dataclass(frozen=True)
class EncodedPacket:
    """A piece of a coded video stream.

    Attributes:
        pts: when it is shown, ticks.
        dts: when it is decoded, ticks, as the encoder said.
        duration: ticks, 0 if unknown.
        key: decoding can start here.
        data: coded bytes.
    """

    pts: int
    dts: int
    duration: int
    key: bool
    data: bytes


class SpoolWriter:
    """A spool being written. Use as a context manager; `finish` makes it visible.

    Args:
        path: of the finished spool.
        result: what errors call it, where it is a part of something that users know.

    Raises:
        OutputError: the disk is full, or its rights say no.
    """

    def __init__(self, path: Path, result: Path | None = None) -> None:
        self._path, self._partial = path, path.with_name(f"{path.name}.part")
        self._result = path if result is None else result
        try:
            self._file = self._partial.open("wb")
        except OSError as error:
            raise cannot_write(self._result, error) from None

    def write(self, packets: Iterable[EncodedPacket]) -> None:
        """Append packets, in the order of decoding."""
        try:
            for packet in packets:
                head = (packet.pts, packet.dts, packet.duration, packet.key, len(packet.data))
                self._file.write(_RECORD.pack(*head) + packet.data)
        except OSError as error:
            raise cannot_write(self._result, error) from None

    def finish(self) -> None:
        """Every packet is there: on disk first, then under its name."""
        try:
            self._file.close()
            give_name(self._partial, self._path)
        except OSError as error:
            raise cannot_write(self._result, error) from None

    def abandon(self) -> None:
        """Let go of the file without finishing it. What waits to be written may still not fit onto
        a full disk; that was said when it did not fit the first time.
        """
        with contextlib.suppress(OSError):
            self._file.close()


def read_spools(paths: Iterable[Path], *, data: bool = True) -> Iterator[EncodedPacket]:
    """Packets of finished spools, one spool after the other.

    Args:
        paths: of the spools.
        data: read the coded bytes too; without them only the stamps are of use.
    """
    for path in paths:
        with path.open("rb") as file:
            while head := file.read(_RECORD.size):
                pts, dts, duration, key, size = _RECORD.unpack(head)
                if data:
                    yield EncodedPacket(pts, dts, duration, bool(key), file.read(size))
                else:
                    file.seek(size, os.SEEK_CUR)
                    yield EncodedPacket(pts, dts, duration, bool(key), b"")
