"""Recordings joined byte by byte (`cat a.ts b.ts`): where each begins, its times begin anew.

Bridged there, for pictures and sound alike: what follows is moved so far that it continues what was
before, and no stream overlaps itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.packet import Packet

from unsmear.video.opening import open_container

_TS_DISCONT = 0x200  # AVFMT_TS_DISCONT: times of such a container may jump
_BACK = Fraction(1)  # seconds; less is damage, or a stream that was cut a little unevenly
# Seconds forward: FFmpeg takes times before the first ones for those of a clock that ran over, as
# clocks of transport streams do after 26.5 hours, and adds as much.
_FORWARD = Fraction(3600)
_NEAR = 1 << 23  # bytes between the first packets of streams after one joint


@dataclass(frozen=True)
class Joint:
    """Where another recording begins.

    Attributes:
        position: of its first packet in the file, bytes.
        shift: seconds that are added to all times from there on.
    """

    position: int
    shift: Fraction


@dataclass(frozen=True)
class Jump:
    """Where the times of one stream jump.

    Attributes:
        position: of the first packet after it, bytes.
        stream: number of the stream.
        move: seconds that this packet comes too early to continue what was before.
    """

    position: int
    stream: int
    move: Fraction


@dataclass
class _Watch:
    """The times of one stream, and a jump that the next packet has yet to confirm."""

    end: Fraction | None = None
    jump: tuple[int, Fraction, Fraction] | None = None
    found: list[Jump] = field(default_factory=list)

    def see(self, stream: int, position: int, begin: Fraction, end: Fraction) -> None:
        if self.end is None or not _jumps(self.end, begin):
            self.end, self.jump = end, None
        elif self.jump is None:  # one packet alone may be damaged
            self.jump = (position, begin, end)
        else:
            first, at, _ = self.jump
            self.found.append(Jump(first, stream, self.end - at))
            self.end, self.jump = end, None


def _jumps(end: Fraction, begin: Fraction) -> bool:
    return begin < end - _BACK or begin > end + _FORWARD


class _Places:
    """Where packets stand in a file, bytes. Of several from one piece only the first knows."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def of(self, packet: Packet[Any]) -> int:
        index = packet.stream.index
        if packet.pos is not None:
            self._last[index] = packet.pos
        return self._last.get(index, 0)


def find_joints(path: Path, opened: InputContainer) -> tuple[Joint, ...]:
    """Joints of a file, by one look at all its packets; none in a container that keeps its times
    in an index.

    Args:
        path: of the file, which is opened once more for that look.
        opened: the same, opened, which is not moved.

    Raises:
        InputError: no such file, or nothing that FFmpeg knows.
    """
    if not opened.format.flags & _TS_DISCONT:
        return ()
    with open_container(path) as container:
        return joined(_jumps_in(container))


def _jumps_in(container: InputContainer) -> list[Jump]:
    streams = [s for s in container.streams if s.type in ("video", "audio")]
    watches, places = {stream.index: _Watch() for stream in streams}, _Places()
    packets: Iterable[Packet[Any]] = container.demux(*streams)
    try:
        for packet in packets:
            time = packet.pts if packet.dts is None else packet.dts
            if time is not None:
                base, index = packet.time_base, packet.stream.index
                begin = time * base
                end = begin + (packet.duration or 0) * base
                watches[index].see(index, places.of(packet), begin, end)
    except (OSError, ValueError):
        pass  # the file breaks off here, as the reader tells
    return [jump for watch in watches.values() for jump in watch.found]


def joined(jumps: Iterable[Jump]) -> tuple[Joint, ...]:
    """Jumps of several streams near each other are one joint, which moves all streams alike, so
    that pictures and sound stay together: as far as the one that needs it most.
    """
    groups: list[list[Jump]] = []
    for jump in sorted(jumps, key=lambda one: one.position):
        last = groups[-1] if groups else []
        seen = {one.stream for one in last}
        if last and jump.stream not in seen and jump.position - last[0].position < _NEAR:
            last.append(jump)
        else:
            groups.append([jump])
    joints, shift = [], Fraction(0)
    for group in groups:
        shift += max(jump.move for jump in group)
        joints.append(Joint(group[0].position, shift))
    return tuple(joints)


class Timeline:
    """Moves packets of a file with joints.

    Args:
        joints: see `find_joints`.
    """

    def __init__(self, joints: Sequence[Joint]) -> None:
        self._positions = [joint.position for joint in joints]
        self._shifts = [Fraction(0), *(joint.shift for joint in joints)]
        self._places = _Places()

    def place(self, packet: Packet[Any]) -> None:
        """Give a packet its time, in ticks of its stream."""
        shift = self._shifts[bisect_right(self._positions, self._places.of(packet))]
        if shift:
            ticks = round(shift / packet.time_base)
            if packet.pts is not None:
                packet.pts += ticks
            if packet.dts is not None:
                packet.dts += ticks
