"""Writes a video file: combines encoded frames with the source's other streams.

A file is written under another name, and gets its own when it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import filterfalse, islice
from operator import itemgetter
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from unsmear.clip import ClipInfo, YuvPlanes
from unsmear.errors import EncodeError, OutputError, writing
from unsmear.outputs import check_folder_of, hidden_folder, rename_over
from unsmear.video.color import convert_planes
from unsmear.video.container import add_video_stream, open_target
from unsmear.video.cut import is_trimmed
from unsmear.video.encoding import (
    EncodeChoice,
    Encoding,
    FrameEncoder,
    choose_encoding,
    ticks_of,
)
from unsmear.video.formats import VIDEO_CONTAINERS, PixelFormat
from unsmear.video.joints import Joint
from unsmear.video.matroska import set_pixel_aspect
from unsmear.video.opening import demux, open_container, reason_of
from unsmear.video.order import timed
from unsmear.video.reader import VideoReader
from unsmear.video.spool import SpoolWriter, read_spools
from unsmear.video.streams import Remuxer, StreamPlan, plan_streams, stream_metadata
from unsmear.video.timecode import with_later_time_code

_PACKETS_TO_PROBE = 16  # enough to include the first packet of each stream
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO, errno.EFBIG}
_MATROSKA = (".mkv", ".webm")
_WITHOUT_ASPECT = {"vp9", "av1", "prores", "ffv1"}  # codecs that store no pixel aspect ratio
_BITEXACT = 0x400  # AVFMT_FLAG_BITEXACT: otherwise Matroska files hold random numbers


@dataclass(frozen=True)
class Origin:
    """Where the other streams of a new file come from.

    Attributes:
        path: the source file.
        main: index of its video stream that was restored.
        plan: what becomes of the other streams.
        start: seconds cut off at the beginning.
        end: time in the source where it is cut off, seconds; None for its end.
        early: how far streams begin before zero, seconds, if the container has no negative times.
        joints: where recordings are joined in the source.
    """

    path: Path
    main: int
    plan: Sequence[StreamPlan]
    start: Fraction = Fraction(0)
    end: Fraction | None = None
    early: Fraction = Fraction(0)
    joints: tuple[Joint, ...] = ()

    @classmethod
    def of(
        cls, reader: VideoReader, suffix: str, start: Fraction = Fraction(0),
        end: Fraction | None = None,
    ) -> Origin:  # fmt: skip
        """For an opened video, and a new file with the given suffix."""
        with open_container(reader.path) as source:
            plan = plan_streams(source, reader.stream.index, suffix)
            early = _time_before_zero(source, plan, suffix)
        main, joints = reader.stream.index, reader.joints
        return cls(reader.path, main, plan, start, end, early, joints)

    @property
    def later(self) -> Fraction:
        """Seconds by which the muxer moves all streams, so that none begins before zero. With a
        start, nothing does, unless it only delays the streams.
        """
        return Fraction(0) if self.start > 0 else max(self.early + self.start, Fraction(0))

    @property
    def notes(self) -> list[str]:
        """What changes, for the user."""
        notes = [entry.note for entry in self.plan if entry.note]
        if self.later:
            late = f"{float(self.later) * 1000:.0f} ms"
            notes.append(
                f"the audio begins {late} before zero: in this container everything is {late} later"
            )
        return notes


def _time_before_zero(source: InputContainer, plan: Sequence[StreamPlan], suffix: str) -> Fraction:
    """How far copied streams begin before zero, seconds; 0 if the container can hold that. Audio
    encoders put samples before zero, which prime the decoder. MP4 has negative times for them. In
    Matroska all streams are moved, unless the source is Matroska too.
    """
    if suffix not in _MATROSKA or "matroska" in source.format.name:
        return Fraction(0)
    kept = [source.streams[entry.index] for entry in plan if entry.how == "copy"]
    starts = [Fraction(0)]
    packets = filterfalse(is_trimmed, demux(source, *kept) if kept else ())
    for packet in islice(packets, _PACKETS_TO_PROBE):
        if packet.pts is not None:
            starts.append(packet.pts * packet.time_base)
    return -min(starts)


def assemble(
    path: Path,
    spools: Sequence[Path],
    encoding: Encoding,
    info: ClipInfo,
    *,
    origin: Origin | None = None,
    result: Path,
) -> list[str]:
    """Assemble a video file. The same input gives the same bytes.

    Args:
        path: file to write; its suffix selects the container.
        spools: encoded frames, in order.
        encoding: how they were encoded.
        info: the clip as it is written.
        origin: source of other streams, chapters and metadata.
        result: path to name in errors; the file may have another name while it is written.

    Returns:
        What could not be kept, for the user.

    Raises:
        OutputError: the file cannot be written, or (`EncodeError`) the container refuses.
    """
    notes: list[str] = []
    try:
        with contextlib.ExitStack() as stack:
            target = stack.enter_context(open_target(path, None if origin is None else origin.path))
            target.flags = int(target.flags) | _BITEXACT
            video = add_video_stream(target, encoding, info, path.suffix.lower())
            packets, remuxer = [timed(spools, video, ticks_of(info))], None
            if origin is not None:
                source = stack.enter_context(open_container(origin.path))
                remuxer = Remuxer(
                    source, target, origin.plan, start=origin.start, end=origin.end,
                    later=origin.later, joints=origin.joints,
                )  # fmt: skip
                first = min((packet.pts for packet in read_spools(spools, data=False)), default=0)
                notes += _copy_metadata(source, origin, video, first * ticks_of(info), info.rate)
                packets.append(remuxer.packets())
            for _, packet in heapq.merge(*packets, key=itemgetter(0)):
                target.mux(packet)
            if remuxer is not None:
                notes += remuxer.notes()
        return notes + _write_pixel_aspect(path, encoding, info)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = reason_of(error)
        if getattr(error, "errno", None) in _DISK_ERRORS:
            raise OutputError(f"cannot write '{result}': {reason}") from None
        raise EncodeError(f"cannot write '{result}': {reason}") from None


def _copy_metadata(
    source: InputContainer,
    origin: Origin,
    video: VideoStream,
    first: Fraction,
    rate: Fraction | None,
) -> list[str]:
    """Copy the metadata of a file, and metadata and role of its video, to the file of `video`;
    return what cannot be kept, for the user. The time code is moved to the first frame written,
    whose time in the new file is `first`, seconds.
    """
    main, target, notes = source.streams[origin.main], video.container, []
    video.disposition = Disposition(int(main.disposition))  # players show the default video
    begin = (main.start_time or 0) * (main.time_base or 0)
    frames = max(round((origin.start + first - begin) * rate), 0) if rate else 0
    for place, said in (
        (target, _file_metadata(source.metadata)),
        (video, stream_metadata(main, target.format.name)),
    ):
        kept = with_later_time_code(said, frames, rate) if origin.start > 0 else said
        place.metadata.update(kept)
        if len(kept) < len(said):
            notes = ["the time code is not kept: it cannot be shifted to the new start"]
    return notes


def assemble_what_can_be(
    path: Path,
    spools: Sequence[Path],
    encoding: Encoding,
    info: ClipInfo,
    origin: Origin,
    result: Path,
) -> list[str]:
    """Like `assemble`, but if the container refuses, the streams that it refuses are left out.

    Returns:
        What was left out or could not be kept, for the user.

    Raises:
        OutputError: the file cannot be written, or (`EncodeError`) the container refuses the
            restored video itself.
    """

    def assembled(plan: Sequence[StreamPlan]) -> list[str]:
        reduced = replace(origin, plan=plan)
        return assemble(path, spools, encoding, info, origin=reduced, result=result)

    try:
        return assembled(origin.plan)
    except EncodeError:
        kept = []
        for entry in origin.plan:
            with contextlib.suppress(EncodeError):
                assembled([entry])
                kept.append(entry)
        try:
            told = assembled(kept)
        except EncodeError:  # accepted one by one, but not together
            kept = []
            told = assembled(kept)
        lost = [entry for entry in origin.plan if entry not in kept]
        return told + [_left_out(entry) for entry in lost]


def _left_out(entry: StreamPlan) -> str:
    if entry.how == "convert":
        codec = entry.codec.removeprefix("lib")
        return f"stream {entry.index} could not be converted to {codec} and was left out"
    return f"stream {entry.index} is damaged and was left out"


def _write_pixel_aspect(path: Path, encoding: Encoding, info: ClipInfo) -> list[str]:
    """Write the pixel aspect ratio where the muxer does not; if that fails, return a note."""
    aspect = info.pixel_aspect or Fraction(1)
    missing = path.suffix.lower() in _MATROSKA and encoding.encoder.family in _WITHOUT_ASPECT
    if aspect == 1 or not missing:
        return []
    kept = set_pixel_aspect(path, aspect)
    return [] if kept else [f"the pixel aspect ratio, {aspect}, is not kept"]


def finest_ticks(suffix: str) -> Fraction:
    """Seconds of one tick in containers where it is fixed; 0 where ticks can be chosen."""
    return Fraction(1, 1000) if suffix in _MATROSKA else Fraction(0)


def _file_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata of a file (title, creation time etc.), without what muxers write themselves."""
    own = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration"}
    return {key: value for key, value in metadata.items() if key.lower() not in own}


class VideoWriter:
    """Writes a video file without other streams. Use it as a context manager: without `commit`,
    nothing is left.

    Args:
        path: the finished file; its suffix selects the container.
        info: the clip as it is written.

    Raises:
        OutputError: unknown suffix, or the folder is missing or cannot be written.
    """

    def __init__(self, path: Path, info: ClipInfo) -> None:
        check_target(path)
        self.path, self._info = path, info
        with writing(path):
            self._folder = hidden_folder(path)
        self._spool = self._folder / "spool"
        self._file = SpoolWriter(self._spool)
        self._encoder: FrameEncoder | None = None

    def write(self, planes: YuvPlanes, pts: Fraction, duration: Fraction | None = None) -> None:
        """Encode a frame.

        Args:
            planes: in the format of the first frame.
            pts: presentation time, seconds.
            duration: seconds, if known.

        Raises:
            OutputError: the disk is full, no encoder fits, or (`EncodeError`) the encoder refuses.
        """
        if self._encoder is None:
            size = (self._info.width, self._info.height)
            source = PixelFormat.of(planes)
            encoding = choose_encoding(
                EncodeChoice(), "h264", source, self.path.suffix.lower(), size
            )
            self._encoder = FrameEncoder(encoding, self._info)
        converted = convert_planes(planes, self._encoder.encoding.pixel_format)
        self._file.write(self._encoder.encode(converted, pts, duration))

    def commit(self) -> None:
        """Finish the file and give it its name.

        Raises:
            OutputError: the file cannot be written, the container refuses, or there is no frame.
        """
        if self._encoder is None:
            raise OutputError(f"nothing was written to '{self.path}'")
        self._file.write(self._encoder.finish())
        self._file.finish()
        whole = self._folder / self.path.name
        assemble(whole, [self._spool], self._encoder.encoding, self._info, result=self.path)
        publish(whole, self.path)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.abandon()
        shutil.rmtree(self._folder, ignore_errors=True)


def publish(whole: Path, path: Path) -> None:
    """Give a finished file its name.

    Raises:
        OutputError: the file cannot be renamed.
    """
    with writing(path):
        rename_over(whole, path)


def check_target(path: Path) -> None:
    """Check that a video can be written to a path, before any work is done.

    Raises:
        OutputError: unknown suffix, or the folder is missing or cannot be written.
    """
    if path.suffix.lower() not in VIDEO_CONTAINERS:
        raise OutputError(
            f"cannot write '{path}': the suffix must be one of {', '.join(VIDEO_CONTAINERS)}, "
            "or none for a folder of images"
        )
    check_folder_of(path)
