"""Encoded packets on disk, kept until the whole file can be assembled.

A spool is written as NAME.part and renamed when it is complete, so a spool under its own name is
complete. Time stamps are stored unchanged, in ticks.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

from unsmear.errors import writing
from unsmear.outputs import commit_file

_RECORD = struct.Struct("<qqBI")  # pts, duration, key frame flag, bytes that follow


@dataclass(frozen=True)
class EncodedPacket:
    """A packet of an encoded video stream. Its decoding time is computed when the file is assembled
    (`order.py`).

    Attributes:
        pts: presentation time, ticks.
        duration: ticks, 0 if unknown.
        key: decoding can start here.
        data: encoded bytes.
    """

    pts: int
    duration: int
    key: bool
    data: bytes


class SpoolWriter:
    """Writes a spool. `finish` completes it and gives it its name; `abandon` closes it unfinished.

    Args:
        path: the finished spool.
        result: path to name in errors, if the spool is part of a file that the user knows.

    Raises:
        OutputError: the disk is full, or there is no permission.
    """

    def __init__(self, path: Path, result: Path | None = None) -> None:
        self._path, self._partial = path, path.with_name(f"{path.name}.part")
        self._result = path if result is None else result
        with writing(self._result):
            self._file = self._partial.open("wb")

    def write(self, packets: Iterable[EncodedPacket]) -> None:
        """Append packets, in decoding order."""
        with writing(self._result):
            for packet in packets:
                head = _RECORD.pack(packet.pts, packet.duration, packet.key, len(packet.data))
                self._file.write(head + packet.data)

    def finish(self) -> None:
        """Make sure that all packets are on disk, then rename the spool."""
        with writing(self._result):
            self._file.close()
            commit_file(self._partial, self._path)

    def abandon(self) -> None:
        """Close the file without finishing it. Flushing it may fail again on a full disk; that was
        reported the first time.
        """
        with contextlib.suppress(OSError):
            self._file.close()


def read_spools(
    paths: Iterable[Path], *, data: bool = True
) -> Generator[EncodedPacket, None, None]:
    """Yield the packets of finished spools, one spool after the other. The generator keeps a spool
    open until all its packets are read, or it is closed.

    Args:
        paths: the spools.
        data: also read the encoded bytes; otherwise `EncodedPacket.data` is empty.
    """
    for path in paths:
        with path.open("rb") as file:
            while head := file.read(_RECORD.size):
                pts, duration, key, size = _RECORD.unpack(head)
                if not data:
                    file.seek(size, os.SEEK_CUR)
                yield EncodedPacket(pts, duration, bool(key), file.read(size) if data else b"")
