"""Packets of a video stream up to where the file ends or breaks off, and what decodes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from unsmear.video.damage import Damage
from unsmear.video.joints import Joint, Timeline


def packets_of(
    container: InputContainer, stream: VideoStream, joints: Sequence[Joint], damage: Damage
) -> Iterator[Packet[VideoStream] | None]:
    """All packets, at the times that they belong to, and None at the end. The last one is left
    out where the file breaks off in it: the error that it makes costs decoders with several
    threads whole frames before it. So are those that hold nothing, as recorders write them for
    frames that they dropped: a decoder would take one for the end.

    Args:
        container: opened file.
        stream: of it.
        joints: where recordings are joined in it.
        damage: what is left out is counted here.
    """
    packets, timeline = container.demux(stream), Timeline(joints)
    held: Packet[VideoStream] | None = None
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, ValueError):
            damage.broke_off = True
            packet = None
        if packet is None or is_end(packet):
            damage.packets += held is not None
            yield None
            return
        if not packet.size:
            damage.packets += 1
            continue
        timeline.place(packet)
        if held is not None:
            yield held
        held = packet if packet.is_corrupt else None
        if held is None:
            yield packet


def decodable(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames from where a container stands, as far as they can be decoded: broken packets, as a
    recording has that begins between key frames, are passed over. `VideoReader` also counts them.
    """
    for packet in packets_of(container, stream, (), Damage()):
        try:
            frames = stream.decode(packet)
        except (av.FFmpegError, ValueError):
            continue
        yield from frames


def is_end(packet: Packet[Any]) -> bool:
    """Whether a packet is the demuxer's mark that its stream has ended. One without contents but
    with a time is not.
    """
    return not packet.size and packet.pts is None and packet.dts is None
