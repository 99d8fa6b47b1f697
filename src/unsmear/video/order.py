"""Packets of a new file in the order of decoding, and when each is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from unsmear.video.spool import EncodedPacket, read_spools


def timed(
    spools: Sequence[Path], stream: VideoStream, ticks: Fraction
) -> Iterator[tuple[Fraction, Packet[Stream]]]:
    """Packets of all parts as one stream. Each part was encoded on its own, so its decoding
    times are made anew: those of presentation in rising order, late enough for every packet.
    """
    shown, end = [], 0
    for packet in read_spools(spools, data=False):
        shown.append(packet.pts)
        end = max(end, packet.pts + packet.duration)
    rising = sorted(shown)
    rank = {pts: number for number, pts in enumerate(rising)}
    delay = max((number - rank[pts] for number, pts in enumerate(shown)), default=0)
    gap = min((late - early for early, late in pairwise(rising)), default=1)
    for number, packet in enumerate(read_spools(spools)):
        early = rising[0] - (delay - number) * max(gap, 1)
        dts = rising[number - delay] if number >= delay else early
        if number == len(shown) - 1:
            dts, packet = _as_last(packet, dts, end, delay * max(gap, 1))
        yield dts * ticks, _packet(packet, dts, stream, ticks)


def _as_last(packet: EncodedPacket, dts: int, end: int, delay: int) -> tuple[int, EncodedPacket]:
    """The last packet in order of decoding, and when it is decoded. MP4 adds up times between
    packets and this one's duration: so much that it all lasts as long as what is shown, whose end
    is given, and this one not beyond that. Where frames come at one rate, nothing changes.
    """
    dts = max(dts, packet.pts - delay)
    return dts, replace(packet, duration=max(packet.duration, end - delay - dts))


def _packet(
    encoded: EncodedPacket, dts: int, stream: VideoStream, ticks: Fraction
) -> Packet[Stream]:
    packet: Packet[Stream] = Packet(encoded.data)
    packet.pts, packet.dts, packet.time_base = encoded.pts, dts, ticks
    packet.duration, packet.is_keyframe, packet.stream = encoded.duration, encoded.key, stream
    return packet
