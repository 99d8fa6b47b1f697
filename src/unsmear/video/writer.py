"""Write a video file: frames with their own time stamps, packets of other streams as they are.

The file grows beside its target under a hidden name and is renamed when whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from unsmear.clip import ClipInfo, ColorTags, YuvPlanes
from unsmear.errors import OutputError

VIDEO_CONTAINERS = (".mp4", ".mov", ".m4v", ".mkv", ".webm")
_X264 = {"crf": "16", "preset": "fast"}
_X265 = {"crf": "18", "preset": "fast", "x265-params": "log-level=none"}
_VP9 = {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
_TINY_TICK = 1_000_000  # no time base needs to be finer to hold a frame's time stamp


@dataclass(frozen=True)
class PixelFormat:
    """Planes that a file is written with.

    Attributes:
        depth: bits a number.
        down_x: halvings of colour in width.
        down_y: halvings of colour in height.
    """

    depth: int
    down_x: int
    down_y: int

    @classmethod
    def of(cls, planes: YuvPlanes) -> PixelFormat:
        """That of given planes."""
        return cls(planes.depth, planes.down_x, planes.down_y)

    @property
    def name(self) -> str:
        """As FFmpeg calls it."""
        base = {(1, 1): "yuv420p", (1, 0): "yuv422p", (0, 0): "yuv444p"}[self.down_x, self.down_y]
        return base if self.depth == 8 else f"{base}{self.depth}le"


class VideoWriter:
    """A video file being written. Use as a context manager: `commit` keeps it, else it is gone.

    Args:
        path: of the finished file; its suffix chooses the container.
        info: of the clip that is rewritten.
        width: of the frames, which may differ from the clip's (comparisons).
        rotation: degrees by which players shall turn the picture.
        copied: streams whose packets will be passed to `copy`.
        metadata: of the file.

    Raises:
        OutputError: unknown suffix, folder missing, or a stream that does not fit the container.
    """

    def __init__(
        self,
        path: Path,
        info: ClipInfo,
        width: int,
        *,
        rotation: float = 0.0,
        copied: Sequence[Stream] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        check_target(path)
        self.path = path
        self._partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        self._info, self._width, self._rotation = info, width, rotation
        self._time_base = info.time_base or Fraction(1, 90_000)
        self._stream: VideoStream | None = None
        self._committed = False
        try:
            self._container = av.open(str(self._partial), mode="w")
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"cannot write '{path}': {error.strerror or error}") from None
        self._check_fit(copied)
        self._container.metadata.update(metadata or {})
        self._copied: dict[int, Stream] = {}
        self._sources = copied
        self._early: list[Packet[Stream]] = []

    def _check_fit(self, copied: Sequence[Stream]) -> None:
        """Refuse now what the container would refuse after the first frame, without a reason."""
        supported = self._container.supported_codecs
        for stream in copied:
            context = stream.codec_context
            if context.codec.canonical_name not in supported:
                self._discard()
                raise OutputError(
                    f"cannot write '{self.path}': {stream.type} of kind "
                    f"'{context.codec.canonical_name}' does not fit into {self.path.suffix} "
                    "files; choose an output that ends in .mkv"
                )

    def _start(self, planes: YuvPlanes) -> VideoStream:
        """Add the streams: the first frame tells the pixel format."""
        pixel_format = PixelFormat.of(planes)
        codec, options = self._codec(pixel_format)
        rate = self._info.rate or Fraction(25)
        stream = self._container.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = self._width, self._info.height
        stream.pix_fmt = pixel_format.name
        stream.time_base = stream.codec_context.time_base = self._time_base
        stream.thread_type = "AUTO"
        if self._info.pixel_aspect:
            stream.codec_context.sample_aspect_ratio = self._info.pixel_aspect
        _tag(stream, planes.tags)
        if self._rotation:
            stream.set_display_rotation(self._rotation)
        if codec == "libx265" and self.path.suffix.lower() in (".mp4", ".mov", ".m4v"):
            stream.codec_context.codec_tag = "hvc1"  # without it Apple's players refuse
        for source in self._sources:
            self._copied[source.index] = self._container.add_stream_from_template(source)
        return stream

    def _codec(self, pixel_format: PixelFormat) -> tuple[str, dict[str, str]]:
        odd = self._width % (1 << pixel_format.down_x) or (
            self._info.height % (1 << pixel_format.down_y)
        )
        suffix = self.path.suffix.lower()
        # H.264 and H.265 hold odd sizes only without subsampled colour; VP9 holds them all.
        if pixel_format.depth == 8:
            return ("libvpx-vp9", _VP9) if odd or suffix == ".webm" else ("libx264", _X264)
        if pixel_format.depth in (10, 12) and not odd and suffix != ".webm":
            return "libx265", _X265
        if suffix == ".mkv":
            return "ffv1", {}
        raise OutputError(
            f"cannot write '{self.path}': pictures of {pixel_format.name}, "
            f"{self._width}x{self._info.height}, do not fit into {suffix} files; choose an "
            "output that ends in .mkv"
        )

    def write(self, planes: YuvPlanes, pts: Fraction) -> None:
        """Encode a picture.

        Args:
            planes: of the format of the first one.
            pts: presentation time in seconds.

        Raises:
            OutputError: the disk is full, or the encoder refuses.
        """
        try:
            if self._stream is None:
                self._stream = self._start(planes)
            frame = _video_frame(planes)
            frame.pts = round(pts / self._time_base)
            frame.time_base = self._time_base
            self._mux(self._stream.encode(frame))
            while self._early:
                self.copy(self._early.pop(0))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._failure(error) from None

    def copy(self, packet: Packet[Stream]) -> None:
        """Pass on a packet of a copied stream."""
        if self._stream is None:
            self._early.append(packet)
            return
        packet.stream = self._copied[packet.stream.index]
        try:
            self._mux([packet])
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from None

    def _mux(self, packets: Sequence[Packet[Stream]]) -> None:
        self._container.mux(packets)

    def commit(self) -> None:
        """Finish the file and give it its name.

        Raises:
            OutputError: the disk is full, or nothing was written.
        """
        if self._stream is None:
            raise OutputError(f"nothing was written to '{self.path}'")
        try:
            self._mux(self._stream.encode(None))
            self._container.close()
            os.replace(self._partial, self.path)
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from None
        self._committed = True

    def _failure(self, error: Exception) -> OutputError:
        reason = getattr(error, "strerror", None) or error
        return OutputError(f"cannot write '{self.path}': {reason}")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._committed:
            self._discard()

    def _discard(self) -> None:
        # What cannot even be closed goes all the same.
        with contextlib.suppress(av.FFmpegError, OSError):
            self._container.close()
        self._partial.unlink(missing_ok=True)


def check_target(path: Path) -> None:
    """Whether a video can be written there, before any work is done.

    Raises:
        OutputError: unknown suffix, or the folder is missing.
    """
    if path.suffix.lower() not in VIDEO_CONTAINERS:
        raise OutputError(
            f"cannot write '{path}': the suffix must be one of {', '.join(VIDEO_CONTAINERS)}, "
            "or none for a folder of pictures"
        )
    if not path.parent.is_dir():
        raise OutputError(f"cannot write '{path}': there is no folder '{path.parent}'")


def _tag(stream: VideoStream, tags: ColorTags) -> None:
    """All four colour fields: players guess wherever one is missing."""
    context = stream.codec_context
    context.colorspace = tags.matrix
    context.color_primaries = tags.primaries
    context.color_trc = tags.transfer
    context.color_range = 2 if tags.full_range else 1


def _video_frame(planes: YuvPlanes) -> VideoFrame:
    height, width = planes.y.shape
    frame = VideoFrame(width, height, PixelFormat.of(planes).name)
    for plane, values in zip(frame.planes, (planes.y, planes.u, planes.v), strict=True):
        _fill(plane, values)
    tags = planes.tags
    frame.colorspace, frame.color_range = tags.matrix, 2 if tags.full_range else 1
    frame.color_primaries, frame.color_trc = tags.primaries, tags.transfer
    return frame


def _fill(plane: av.video.plane.VideoPlane, values: Tensor) -> None:
    pixels = values.cpu().numpy()
    stride = plane.line_size // pixels.itemsize
    rows = np.frombuffer(memoryview(plane), dtype=pixels.dtype).reshape(-1, stride)
    rows[: pixels.shape[0], : pixels.shape[1]] = pixels
