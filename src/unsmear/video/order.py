"""Packets of a new file in decoding order, with their decoding times."""

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
    """Yield the packets of all parts as one stream, each with its decoding time in seconds. Each
    part was encoded on its own, so decoding times are computed again: the presentation times in
    ascending order, shifted so that no packet is decoded after it is shown.
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
    """The last packet in decoding order and its decoding time. MP4 computes the length of a track
    from the differences between decoding times and this packet's duration. So these are set such
    that the track ends at `end`, where the last frame shown ends, and this packet does not last
    longer. At a constant frame rate nothing changes.
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
