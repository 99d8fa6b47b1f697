"""Recordings joined byte by byte (`cat a.ts b.ts`), whose time stamps restart at each joint.

All times after a joint are shifted, video and audio alike, so that they continue from before it and
no stream overlaps itself.
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

from unsmear.video.opening import demux, open_container

_TS_DISCONT = 0x200  # AVFMT_TS_DISCONT: times in such a container may jump
_BACK = Fraction(1)  # seconds; a smaller step back is damage, or a slightly uneven cut
# Seconds. FFmpeg takes times before the first ones for a clock that wrapped around, as in transport
# streams after 26.5 hours, and adds that period.
_FORWARD = Fraction(3600)
_NEAR = 1 << 23  # bytes; the first packets of all streams after a joint lie within this distance


@dataclass(frozen=True)
class Joint:
    """The point in a file where another recording begins.

    Attributes:
        position: byte offset of its first packet.
        shift: seconds added to all times from there on.
    """

    position: int
    shift: Fraction


@dataclass(frozen=True)
class Jump:
    """A jump in the time stamps of one stream.

    Attributes:
        position: byte offset of the first packet after it.
        stream: index of the stream.
        move: seconds to add to the times after it, so that they continue from before.
    """

    position: int
    stream: int
    move: Fraction


@dataclass
class _Watch:
    """Follows the times of one stream. A jump counts once the next packet confirms it.

    Attributes:
        end: when the last packet on the timeline ends, seconds; None before the first.
        jump: byte offset and time of a packet after a jump that is not confirmed yet.
        found: confirmed jumps.
    """

    end: Fraction | None = None
    jump: tuple[int, Fraction] | None = None
    found: list[Jump] = field(default_factory=list)

    def see(self, stream: int, position: int, begin: Fraction, end: Fraction) -> None:
        if self.end is None or not _jumps(self.end, begin):
            self.end, self.jump = end, None
        elif self.jump is None:  # a single packet may be damaged
            self.jump = position, begin
        else:
            first, at = self.jump
            self.found.append(Jump(first, stream, self.end - at))
            self.end, self.jump = end, None


def _jumps(end: Fraction, begin: Fraction) -> bool:
    return begin < end - _BACK or begin > end + _FORWARD


class _Places:
    """Byte offsets of packets. Of several packets read from one place, only the first has an
    offset; the others get the same one.
    """

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def of(self, packet: Packet[Any]) -> int:
        index = packet.stream.index
        if packet.pos is not None:
            self._last[index] = packet.pos
        return self._last.get(index, 0)


def find_joints(path: Path, opened: InputContainer) -> tuple[Joint, ...]:
    """Find the joints of a file by reading all its packets once. Containers whose times cannot jump
    (MP4, Matroska) have none.

    Args:
        path: the file, which is opened a second time for this.
        opened: the same file, already opened; its position does not change.

    Raises:
        InputError: no such file, or FFmpeg cannot read it.
    """
    if not opened.format.flags & _TS_DISCONT:
        return ()
    with open_container(path) as container:
        return joined(_jumps_in(container))


def _jumps_in(container: InputContainer) -> list[Jump]:
    streams = [s for s in container.streams if s.type in ("video", "audio")]
    watches, places = {stream.index: _Watch() for stream in streams}, _Places()
    for packet in demux(container, *streams):
        time = packet.pts if packet.dts is None else packet.dts
        if time is not None:
            base, index = packet.time_base, packet.stream.index
            begin = time * base
            end = begin + (packet.duration or 0) * base
            watches[index].see(index, places.of(packet), begin, end)
    return [jump for watch in watches.values() for jump in watch.found]


def joined(jumps: Iterable[Jump]) -> tuple[Joint, ...]:
    """Merge jumps into joints. Jumps of different streams near each other form one joint. It shifts
    all streams alike, by the most that one of them needs, so that video and audio stay in sync.
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
    """Shifts the packets of a file with joints onto a common timeline.

    Args:
        joints: from `find_joints`.
    """

    def __init__(self, joints: Sequence[Joint]) -> None:
        self._positions = [joint.position for joint in joints]
        self._shifts = [Fraction(0), *(joint.shift for joint in joints)]
        self._places = _Places()

    def place(self, packet: Packet[Any]) -> None:
        """Shift a packet's time stamps in place."""
        delay(packet, self._shifts[bisect_right(self._positions, self._places.of(packet))])


def delay(packet: Packet[Any], seconds: Fraction) -> None:
    """Add to a packet's time stamps in place, rounded to its ticks."""
    if seconds:
        ticks = round(seconds / packet.time_base)
        if packet.pts is not None:
            packet.pts += ticks
        if packet.dts is not None:
            packet.dts += ticks
