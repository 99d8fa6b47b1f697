"""Packets of a video stream up to the end or truncation of the file, and the frames decoded from
them.
"""

from __future__ import annotations

from collections import deque
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
    """Yield all packets at their times on the common timeline, then None at the end.

    The last packet is left out if the file is truncated in it: the error that it causes costs
    multithreaded decoders whole frames before it. Empty packets, which recorders write for dropped
    frames, are left out too: a decoder would take one for the end of the stream.

    Args:
        container: the opened file.
        stream: its video stream.
        joints: where recordings are joined in the file.
        damage: records the packets left out, and whether reading ended in an error.
    """
    packets, timeline = container.demux(stream), Timeline(joints)
    held: Packet[VideoStream] | None = None
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, ValueError):
            damage.broke_off = True
            packet = None
        if packet is None or _is_end(packet):
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


class Reordering:
    """Presentation times of H.264 with B-frames in AVI, which has only decoding times. FFmpeg takes
    these for presentation times (those of MPEG-4 it reorders). That is right for key frames, except
    in open GOPs. Other frames are presented when they leave the decoder, less the delay with which
    key frames leave it.

    Args:
        container: the opened file.
        stream: its video stream.
        late: that delay, from `delay_at_start`, if the file is not read from its start.
    """

    def __init__(
        self, container: InputContainer, stream: VideoStream, late: int | None = None
    ) -> None:
        context = stream.codec_context
        h264 = context.codec.canonical_name == "h264"
        self.needed = container.format.name == "avi" and h264 and context.has_b_frames
        self._late = late  # ticks
        self._decoded: int | None = None  # decoding time of the frame before
        self._placed: deque[int] = deque(maxlen=2)

    def place(self, frame: VideoFrame) -> None:
        """Correct the time of the next decoded frame; None if it is unknown."""
        if not self.needed:
            return
        decoded, leaves = frame.pts, frame.dts
        if (
            (frame.key_frame and decoded is not None and leaves is not None)
            # In an open GOP, the frame before a key frame was decoded after it.
            and (self._late is None if self._decoded is None else decoded > self._decoded)
        ):
            self._late = leaves - decoded
        if leaves is not None:
            frame.pts = leaves - (self._late or 0)
        elif len(self._placed) == 2:  # at the end of the file, frames leave without a time
            frame.pts = 2 * self._placed[1] - self._placed[0]
        elif not frame.key_frame:
            frame.pts = None
        self._decoded = decoded
        if frame.pts is not None:
            self._placed.append(frame.pts)


def delay_at_start(container: InputContainer, stream: VideoStream) -> int | None:
    """Ticks from the presentation of a file's first frame to when it leaves the decoder, for
    `Reordering`; None where that is not needed, or not known. Seek after it.
    """
    if not Reordering(container, stream).needed:
        return None
    first = next(decodable(container, stream), None)
    if first is None or not first.key_frame or first.pts is None or first.dts is None:
        return None
    return first.dts - first.pts


def decodable(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield the frames that can be decoded from the container's current position on. Broken packets
    are skipped, such as those before the first key frame of a cut recording. `VideoReader` also
    counts them.
    """
    reordering = Reordering(container, stream)
    for packet in packets_of(container, stream, (), Damage()):
        try:
            frames = stream.decode(packet)
        except (av.FFmpegError, ValueError):
            continue
        for frame in frames:
            reordering.place(frame)
            yield frame


def _is_end(packet: Packet[Any]) -> bool:
    """Whether a packet is the demuxer's end-of-stream marker: empty and without time stamps. An
    empty packet with a time stamp is not.
    """
    return not packet.size and packet.pts is None and packet.dts is None
