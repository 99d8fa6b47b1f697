"""Reads a video file frame by frame, each with its own time stamp, in one pass. Memory usage does
not depend on the length of the file. Damage is concealed and counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from unsmear.clip import MOST_PIXELS, ClipInfo, Frame, check_size
from unsmear.errors import InputError, MidwayError, quoted
from unsmear.video.color import MATRIX_NAMES, UNSPECIFIED, resolve_matrix
from unsmear.video.damage import Damage, Extent, LeadingPackets, packet_end, shortfall, stream_end
from unsmear.video.deinterlace import deinterlaced
from unsmear.video.formats import PixelFormat
from unsmear.video.frames import (
    bits_of,
    display_matrix_of,
    hdr_of,
    is_opaque,
    planar_format,
    planes_of,
    rgb_of,
    tags_of,
)
from unsmear.video.images import integer_from_unit
from unsmear.video.joints import find_joints
from unsmear.video.opening import frames_shown, main_stream, open_container, reason_of
from unsmear.video.packets import Reordering, delay_at_start, packets_of
from unsmear.video.sidedata import is_cropped, lost_side_data

_Stamped = tuple[int, VideoFrame]
_FLATTEN = "flatten it onto a background first"
_SEEK_MARGIN = 5  # seconds: in open GOPs, frames right after a key frame may be missing


class VideoReader:
    """An opened video file. Use it as a context manager, and iterate once.

    Args:
        path: the file.
        start: seconds after the beginning of the file; reading begins at a key frame some seconds
            earlier. Default: the beginning.
        deinterlace: deinterlace interlaced frames (bwdif), one frame for each.
        finest: time stamps rise by at least this many seconds, and by at least a tick.
        end: seconds after the beginning of the file; from there on, a frame that cannot be used
            ends the reading without an error.

    Raises:
        InputError: no such file, not a video, no video stream or decodable frame in it, too large,
            with transparency, interlaced without `deinterlace`, or it cannot be deinterlaced.
    """

    def __init__(
        self,
        path: Path,
        *,
        start: Fraction | None = None,
        deinterlace: bool = False,
        finest: Fraction = Fraction(0),
        end: Fraction | None = None,
    ) -> None:
        self.path = path
        self.damage = Damage()
        self._deinterlace, self._interlaced = deinterlace, False
        self._end = end
        self._whole = True  # the file is read from its beginning
        self._late: int | None = None  # see `Reordering`
        self._shortest: int | None = None  # distance of two frames, ticks
        self._container = open_container(path)
        try:
            self.stream = self._main_stream()
            self._cropped = is_cropped(self._container, self.stream)
            self.joints = find_joints(path, self._container)
            # The first frame has what the header may lack (colour, rotation).
            self._frames = self._stamped(self._started(start), finest)
            self._first = next(self._frames, None)
            if self._first is None:
                raise InputError(
                    f"'{path}' contains no frame that can be decoded: is it complete, and a video?"
                )
            first = self._first[1]
            self._check(first)
            self.rotation = float(first.rotation)  # degrees, anticlockwise, for players
            self.info = self._describe(first)
            self.notes = self._notes(first)
        except BaseException:
            self._container.close()
            raise

    @property
    def start(self) -> Fraction:
        """Time stamp of the beginning of the file, seconds; never negative."""
        return max(Fraction(self._container.start_time or 0, av.time_base), Fraction(0))

    @property
    def first_pts(self) -> Fraction:
        """Presentation time of the first frame, seconds; only before iterating."""
        assert self._first is not None  # not iterated yet
        return self._first[0] * self._tick

    @property
    def shortest(self) -> Fraction | None:
        """Shortest duration of the frames read so far, seconds; None before the second frame."""
        return None if self._shortest is None else self._shortest * self._tick

    @property
    def duration(self) -> Fraction:
        """Duration according to the file, seconds; 0 if it does not say."""
        whole = Fraction(self._container.duration or 0, av.time_base)
        own = (self.stream.duration or 0) * self._tick
        return max(whole, own, Fraction(0)) + self._bridged

    @property
    def pixel_format(self) -> PixelFormat:
        """Pixel format of the planes of frames; only before iterating."""
        assert self._first is not None  # not iterated yet
        return PixelFormat.of(planes_of(self._first[1], self.info.tags))

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec, such as h264."""
        return self.stream.codec_context.codec.canonical_name

    def skip(self, frames: int) -> None:
        """Skip frames without converting them, before iterating."""
        for _ in range(frames):
            self._first = next(self._frames, None)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in presentation order.

        Raises:
            MidwayError: a frame before `end` has another size or transparent pixels.
            InputError: a frame cannot be deinterlaced, or the file no longer exists at the end.
        """
        tick = self._tick
        stamped, self._first = self._first, None
        while stamped is not None:
            pts, decoded = stamped
            following = next(self._frames, None)
            if obstacle := self._obstacle(decoded):
                if self._end is not None and self._from_beginning(pts) >= self._end:
                    return
                raise self._midway(pts, *obstacle)
            planes = planes_of(decoded, self.info.tags)
            begin = pts * tick
            if following is None:
                duration = self._last_duration(begin, decoded)
            else:
                duration = following[0] * tick - begin
            yield Frame(rgb_of(decoded, planes), begin, planes, duration=duration)
            stamped = following

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _main_stream(self) -> VideoStream:
        stream = main_stream(self.path, self._container)
        if stream.codec_context is None:
            raise InputError(f"'{self.path}' contains video in a codec that cannot be decoded here")
        check_size(f"'{self.path}' declares frames of", stream.width, stream.height)
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        stream.thread_type = "AUTO"
        return stream

    @property
    def _tick(self) -> Fraction:
        """Seconds of one tick of the stream's time stamps."""
        assert self.stream.time_base is not None  # demuxers set it for every stream
        return self.stream.time_base

    @property
    def _rate(self) -> Fraction | None:
        """Frames per second; None if the header does not say, or gives more than one per tick."""
        rate = self.stream.average_rate
        return rate if rate and 0 < rate * self._tick <= 1 else None

    @property
    def _bridged(self) -> Fraction:
        """Seconds that joints add to all times at the end of the file."""
        return self.joints[-1].shift if self.joints else Fraction(0)

    def _started(self, start: Fraction | None) -> Iterator[VideoFrame]:
        """Frames from a key frame before `start` on; from the beginning if seeking fails."""
        if start is None or self.joints:  # with joints, the same time may occur in several places
            return self._decoded()
        tick, target = self._tick, self.start + start - _SEEK_MARGIN
        if target <= (self.stream.start_time or 0) * tick:
            return self._decoded()
        try:
            self._whole = False
            self._late = delay_at_start(self._container, self.stream)
            self._container.seek(round(target / tick), stream=self.stream)
            frames = self._decoded()
            first = next(frames, None)
        except (av.FFmpegError, OverflowError):  # beyond 64 bits of ticks
            first = None
        stamp = None if first is None else _stamp(first, tick)
        if first is None or stamp is None or stamp * tick > target + _SEEK_MARGIN:
            return self._reopened()
        return chain((first,), frames)

    def _reopened(self) -> Iterator[VideoFrame]:
        """Frames from the beginning: the index is wrong, or there is no seeking, even back to the
        start.
        """
        self._container.close()
        self._container, self._whole, self.damage = open_container(self.path), True, Damage()
        self.stream = self._main_stream()
        return self._decoded()

    def _decoded(self) -> Iterator[VideoFrame]:
        frames = self._concealed()
        return self._deinterlaced(frames) if self._deinterlace else frames

    def _deinterlaced(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        try:
            yield from deinterlaced(frames, self.stream)
        except (av.FFmpegError, ValueError) as error:
            raise InputError(
                f"'{self.path}' cannot be deinterlaced ({reason_of(error)}): leave out "
                "--deinterlace"
            ) from None

    def _concealed(self) -> Iterator[VideoFrame]:
        """Yield all frames that can be decoded; what cannot is counted."""
        count, decoded, end, leading = 0, 0, Fraction(0), LeadingPackets()
        reordering = Reordering(self._container, self.stream, self._late)
        for packet in packets_of(self._container, self.stream, self.joints, self.damage):
            if packet is not None:
                count, end = count + 1, max(end, packet_end(packet))
                if not decoded:
                    leading.see(packet)
            try:
                frames = self.stream.decode(packet)
            except av.EOFError:
                frames = []
            except (av.FFmpegError, ValueError):
                self.damage.packets += 1
                frames = []
            for frame in frames:
                reordering.place(frame)
                if not decoded and self._whole:
                    self.damage.early = max(leading.lost(frame) - self.damage.packets, 0)
                self.damage.frames += frame.is_corrupt
                self._interlaced |= frame.interlaced_frame
                self.damage.interlaced += frame.interlaced_frame and not self._deinterlace
                decoded += 1
                yield frame
        told = Extent.of(self._container, self.stream)
        seen = (count, decoded) if self._whole else None
        self.damage.present = shortfall(self.path, told, seen, end)

    def _stamped(self, frames: Iterator[VideoFrame], finest: Fraction) -> Iterator[_Stamped]:
        """Yield frames with rising presentation times, in ticks of the stream."""
        tick = self._tick
        usual = round(1 / (self._rate or 25) / tick) or 1
        least = max(math.ceil(finest / tick), 1)
        last: int | None = None
        for frame in frames:
            pts = _stamp(frame, tick)
            if pts is None:  # without a time stamp, continue at the mean rate
                pts = 0 if last is None else last + max(usual, least)
            elif last is not None and pts < last + least:
                self.damage.stamps += 1
                pts = last + least
            if last is not None:
                self._shortest = min(self._shortest or pts - last, pts - last)
            last = pts
            yield pts, frame

    def _check(self, first: VideoFrame) -> None:
        check_size(f"'{self.path}' declares frames of", first.width, first.height)
        # VP9 and AV1 hold alpha in a separate stream, which decoders ignore.
        if not is_opaque(first) or self.stream.metadata.get("alpha_mode") == "1":
            raise InputError(f"'{self.path}' has transparency, which would be lost: {_FLATTEN}")
        if self._interlaced and not self._deinterlace:
            raise InputError(
                f"'{self.path}' is interlaced: add --deinterlace, as in "
                f"`unsmear {quoted(self.path)} --deinterlace`"
            )

    def _describe(self, first: VideoFrame) -> ClipInfo:
        stream, rate = self.stream, self._rate
        frames = frames_shown(stream)
        if frames is None and stream.duration and rate:
            frames = max(round((stream.duration * self._tick + self._bridged) * rate), 1)
        return ClipInfo(
            width=first.width,
            height=first.height,
            frames=frames,
            rate=rate,
            time_base=self._tick,
            tags=tags_of(first),
            pixel_aspect=stream.sample_aspect_ratio,
            display_matrix=display_matrix_of(first),
            hdr=hdr_of(first),
        )

    def _notes(self, first: VideoFrame) -> list[str]:
        info, notes = self.info, []
        if planar_format(first.format.name) is None:
            depth = self.pixel_format.depth
            bits = f" of {depth} bits" if depth < bits_of(first) else ""
            notes.append(f"{first.format.name} frames are written as YUV{bits}")
        elif (guess := resolve_matrix(info.tags, info.width, info.height)) != info.tags.matrix:
            notes.append(_taken_for(info.tags.matrix, MATRIX_NAMES[guess]))
        if self.joints:
            notes.append(
                f"{len(self.joints) + 1} recordings are joined in this file: the time stamps of "
                "each continue from the one before"
            )
        if self._interlaced:
            notes.append("the video was deinterlaced")
        if self._cropped:
            notes.append("the cropping for players is not kept: the whole frame is shown")
        return notes + [f"{name} is not kept" for name in lost_side_data(first)]

    def _obstacle(self, frame: VideoFrame) -> tuple[str, str] | None:
        """Why a frame cannot be used, and the remedy; None if it can."""
        if (frame.width, frame.height) != (self.info.width, self.info.height):
            sizes = f"{self.info.width}x{self.info.height} to {frame.width}x{frame.height}"
            return f"changes size from {sizes}", "split it there first"
        if not is_opaque(frame):
            return "has transparency", f"it would be lost; {_FLATTEN}"
        return None

    def _midway(self, pts: int, what: str, remedy: str) -> MidwayError:
        when = f"{math.floor(self._from_beginning(pts) * 1000) / 1000:.3f}"  # rounded down
        return MidwayError(
            f"'{self.path}' {what} at {when} s: {remedy}, or restore what comes before, with "
            f"--end {when}"
        )

    def _from_beginning(self, pts: int) -> Fraction:
        return pts * self._tick - self.start

    def _last_duration(self, begin: Fraction, last: VideoFrame) -> Fraction | None:
        """Duration of the last frame, seconds; None if unknown. If frames are not decoded in
        presentation order, MP4 does not state it for the frame, and Matroska states one duration
        for all frames. But both state when the stream ends.
        """
        whole = not (self.damage.present or self.damage.broke_off)
        if whole and (end := stream_end(self._container, self.stream)) and end > begin:
            return end - begin
        return last.duration * (last.time_base or self._tick) if last.duration else None


def count_frames(path: Path) -> int:
    """Number of frames in a video file, by decoding it: the header may hold an estimate.

    Raises:
        InputError: the file cannot be read as a video.
    """
    with VideoReader(path) as reader:
        return 1 + sum(1 for _ in reader._frames)  # the first was decoded when it was opened


def read_rgb8(path: Path) -> Iterator[Tensor]:
    """Yield the frames of a video file as RGB, (3, H, W) uint8.

    Raises:
        InputError: the file cannot be read as a video.
    """
    with VideoReader(path) as reader:
        for frame in reader:
            yield integer_from_unit(frame.rgb)


def _taken_for(matrix: int, guess: str) -> str:
    """Message for the user if the colour matrix of a video (ITU-T H.273) cannot be used."""
    if matrix == UNSPECIFIED:
        return f"the video does not specify its colour matrix: assuming {guess}"
    name = MATRIX_NAMES.get(matrix, f"number {matrix} of ITU-T H.273")
    return (
        f"the video's colour matrix, {name}, is not supported: it is processed as {guess}, and "
        "keeps its tag"
    )


def _stamp(frame: VideoFrame, tick: Fraction) -> int | None:
    """Presentation time in ticks of the stream, if known; filters use ticks of their own."""
    if frame.pts is None:
        return None
    return round(frame.pts * (frame.time_base or tick) / tick)
