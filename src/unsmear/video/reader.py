"""Read a video file frame by frame, each with its own time stamp, and pass packets of other
streams on untouched. One pass over the file, memory independent of its length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import torch
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from unsmear.clip import ClipInfo, ColorTags, Frame, YuvPlanes
from unsmear.errors import InputError
from unsmear.video.color import rgb_from_planes
from unsmear.video.images import integer_from_unit

# Pixel formats read as they are: name without depth suffix -> halvings of colour (x, y).
_SUBSAMPLING = {"yuv420p": (1, 1), "yuv422p": (1, 0), "yuv444p": (0, 0)}
_DEPTHS = (9, 10, 12, 14, 16)
NATIVE_FORMATS = {
    **{name: (8, *down) for name, down in _SUBSAMPLING.items()},
    **{name.replace("yuv", "yuvj"): (8, *down) for name, down in _SUBSAMPLING.items()},
    **{f"{n}{depth}le": (depth, *down) for n, down in _SUBSAMPLING.items() for depth in _DEPTHS},
}
_FULL_RANGE = 2


class VideoReader:
    """An opened video file. Use as a context manager, iterate once.

    Args:
        path: of the file.

    Raises:
        InputError: no such file, not a video, or no video stream in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container = _open(path)
        streams = [s for s in self._container.streams.video if not _is_cover(s)]
        if not streams:
            self._container.close()
            raise InputError(f"'{path}' holds no video stream: give a file with moving pictures")
        self.stream: VideoStream = streams[0]
        self.stream.thread_type = "AUTO"
        self._waiting: deque[Packet[Stream]] = deque()
        # The first frame settles what the header may leave open (colour, rotation).
        self._frames = self._decode()
        self._first = next(self._frames, None)
        if self._first is None:
            self._container.close()
            raise InputError(f"'{path}' holds no frame that can be decoded: is it complete?")
        self.rotation = float(self._first.rotation)
        self.info = self._describe(self._first)

    @property
    def copied(self) -> list[Stream]:
        """Streams whose packets are passed on: audio."""
        return list(self._container.streams.audio)

    @property
    def metadata(self) -> dict[str, str]:
        """Of the file: title, creation time and the like, without the muxer's own marks."""
        own = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration"}
        return {k: v for k, v in self._container.metadata.items() if k.lower() not in own}

    def _describe(self, first: VideoFrame) -> ClipInfo:
        stream = self.stream
        frames = stream.frames or None
        if frames is None and stream.duration and stream.average_rate and stream.time_base:
            frames = max(round(stream.duration * stream.time_base * stream.average_rate), 1)
        return ClipInfo(
            width=first.width,
            height=first.height,
            frames=frames,
            rate=stream.average_rate,
            time_base=stream.time_base,
            tags=_tags(first),
            pixel_aspect=stream.sample_aspect_ratio,
        )

    def _decode(self) -> Iterator[VideoFrame]:
        try:
            for packet in self._container.demux(self.stream, *self.copied):
                if packet.stream.index != self.stream.index:
                    if packet.dts is not None:
                        self._waiting.append(packet)
                    continue
                yield from self.stream.decode(packet)
        except av.FFmpegError as error:
            raise InputError(
                f"'{self.path}' cannot be decoded further: {error.strerror}; "
                "the file may be damaged"
            ) from None

    def __iter__(self) -> Iterator[Frame]:
        """Frames in order of presentation.

        Raises:
            InputError: the file is damaged, or its picture changes size.
        """
        time_base = self.stream.time_base or Fraction(1, 1000)
        tick = round(1 / (self.info.rate or 25) / time_base) or 1
        pts: int | None = None
        decoded: VideoFrame | None = self._first
        self._first = None
        while decoded is not None:
            if (decoded.width, decoded.height) != (self.info.width, self.info.height):
                raise InputError(
                    f"'{self.path}' changes size from {self.info.width}x{self.info.height} to "
                    f"{decoded.width}x{decoded.height}: split it there first"
                )
            # Without a stamp a frame follows the one before at the mean rate.
            pts = decoded.pts if decoded.pts is not None else (0 if pts is None else pts + tick)
            planes = _planes(decoded, self.info.tags)
            yield Frame(rgb_from_planes(planes), pts * time_base, planes)
            decoded = next(self._frames, None)

    def take_packets(self) -> Iterator[Packet[Stream]]:
        """Packets of the copied streams that came by since the last call."""
        while self._waiting:
            yield self._waiting.popleft()

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _open(path: Path) -> InputContainer:
    if not path.exists():
        raise InputError(f"no such file: '{path}'")
    try:
        return av.open(str(path), mode="r", metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or str(error)
        raise InputError(f"'{path}' cannot be read as a video: {reason}") from None


def _is_cover(stream: VideoStream) -> bool:
    """Cover pictures of audio files count as video streams; they are not."""
    return bool(stream.disposition & stream.disposition.__class__.attached_pic)


def _tags(frame: VideoFrame) -> ColorTags:
    return ColorTags(
        matrix=int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        full_range=int(frame.color_range) == _FULL_RANGE or "yuvj" in frame.format.name,
    )


def _planes(frame: VideoFrame, tags: ColorTags) -> YuvPlanes:
    """Copy the planes out of a decoded frame; formats other than planar YUV go through
    swscale to the nearest that is.
    """
    name = frame.format.name
    if name not in NATIVE_FORMATS:
        deep = max(component.bits for component in frame.format.components) > 8
        name = "yuv444p10le" if deep else "yuv444p"
        frame = frame.reformat(format=name)
        tags = _tags(frame)
    depth, down_x, down_y = NATIVE_FORMATS[name]
    dtype = np.dtype(np.uint8 if depth == 8 else "<u2")

    def copy(index: int) -> Tensor:
        plane = frame.planes[index]
        rows = np.frombuffer(memoryview(plane), dtype=dtype).reshape(plane.height, -1)
        return torch.from_numpy(rows[:, : plane.width].copy())

    return YuvPlanes(copy(0), copy(1), copy(2), depth, down_x, down_y, tags)


def count_frames(path: Path) -> int:
    """Frames that a video file holds, by decoding it: what a header says may be a guess.

    Raises:
        InputError: the file cannot be read as a video.
    """
    with VideoReader(path) as reader:
        return 1 + sum(1 for _ in reader._frames)  # the first was decoded when it was opened


def read_rgb8(path: Path) -> Iterator[Tensor]:
    """Frames of a video file as RGB, (3, H, W) uint8.

    Raises:
        InputError: the file cannot be read as a video.
    """
    with VideoReader(path) as reader:
        for frame in reader:
            yield integer_from_unit(frame.rgb)
