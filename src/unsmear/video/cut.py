"""Cutting a file: which packets of its other streams are kept, and their new times."""

from __future__ import annotations

from fractions import Fraction

from av.packet import Packet
from av.stream import Stream

from unsmear.video.joints import delay

_PRIMING = Fraction(1, 10)  # seconds; more than one packet of 1024 samples at usual rates


def is_trimmed(packet: Packet[Stream]) -> bool:
    """Whether a packet is sound that the edit list of its file hides, as that of a clip trimmed on
    a phone does. Those right before zero are none: they prime the decoder.
    """
    if not packet.is_discard or packet.stream.type != "audio":
        return False
    begin = _shown(packet)
    return begin >= 0 or begin + (packet.duration or 0) * packet.time_base <= -_PRIMING


class Cut:
    """Selects packets, in the order of the file, and gives them their new times.

    Args:
        start: seconds cut off at the beginning; a negative value delays all packets.
        end: time in the source where it is cut off, seconds.
    """

    def __init__(self, start: Fraction, end: Fraction | None) -> None:
        self._start, self._end = start, end
        # Of video streams: when the first kept key frame is shown, and the first frame left out.
        self._begun: dict[int, Fraction] = {}
        self._missing: dict[int, Fraction] = {}

    def keeps(self, packet: Packet[Stream]) -> bool:
        """Whether a packet belongs to the kept part. A subtitle that is on screen at the cut is
        shortened in place to the part inside.
        """
        if packet.stream.type == "video":
            return self._decodable(packet)
        begin = _shown(packet)
        inside = not is_trimmed(packet) and (self._end is None or begin < self._end)
        if packet.stream.type == "subtitle" and packet.duration:
            return inside and self._shortened(packet)
        # Without a start, audio before zero is kept too: players prime their decoders with it.
        return inside and (self._start <= 0 or begin >= self._start)

    def _shortened(self, packet: Packet[Stream]) -> bool:
        """Shorten a subtitle in place; return whether anything is left."""
        begin, base = _shown(packet), packet.time_base
        until = begin + (packet.duration or 0) * base
        if self._start > 0 and begin < self._start:
            begin, first = self._start, round(self._start / base)
            packet.pts = first
            if packet.dts is not None:
                packet.dts = max(packet.dts, first)
        if self._end is not None:
            until = min(until, self._end)
        packet.duration = max(round((until - begin) / base), 0)
        return until > begin

    def _decodable(self, packet: Packet[Stream]) -> bool:
        """Whether a video packet is kept. A copied video begins at a key frame: packets before it
        cannot be decoded, nor later ones that are shown before it. At the end, all packets that are
        decoded in time are kept, even if shown later: others are predicted from them.
        """
        shown, base, index = _shown(packet), packet.time_base, packet.stream.index
        decoded = shown if packet.dts is None else packet.dts * base
        if self._end is not None and decoded >= self._end:
            return False
        if self._start <= 0:
            return True
        if shown >= self._start and packet.is_keyframe:
            self._begun.setdefault(index, shown)
        if index in self._begun and shown >= self._begun[index]:
            return True
        if shown >= self._start:
            self._missing[index] = min(self._missing.get(index, shown), shown)
        return False

    def moved(self, packet: Packet[Stream]) -> tuple[Fraction, Packet[Stream]]:
        """Move a packet to its time in the new file. Return its decoding time in seconds, and the
        packet.
        """
        delay(packet, -self._start)
        return (packet.dts or 0) * packet.time_base, packet

    def notes(self) -> list[str]:
        """What is missing, for the user. Call it after the last packet."""
        found = []
        for index, first in self._missing.items():
            if index in self._begun:
                late = f"begins {float(self._begun[index] - first):.2f} s late"
            else:
                late = "is empty"
            found.append(
                f"video stream {index} {late}: a copied stream can begin only at a key frame"
            )
        return found


def _shown(packet: Packet[Stream]) -> Fraction:
    return ((packet.dts or 0) if packet.pts is None else packet.pts) * packet.time_base
