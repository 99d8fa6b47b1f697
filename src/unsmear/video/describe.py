"""What is in a video file (streams, colour, frame rate), decoding only the first frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from statistics import median

import av
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from unsmear.errors import InputError
from unsmear.video.color import HDR_CURVES, MATRIX_NAMES
from unsmear.video.damage import Extent, packet_end, shortfall
from unsmear.video.joints import find_joints
from unsmear.video.opening import (
    demux,
    frames_shown,
    is_cover,
    main_stream,
    open_container,
    reason_of,
)
from unsmear.video.packets import decodable
from unsmear.video.sidedata import is_cropped, side_data_of

# Code points of ITU-T H.273 in words.
_PRIMARIES = {
    1: "BT.709", 4: "BT.470 M", 5: "BT.601 (625 lines)", 6: "BT.601 (525 lines)",
    7: "SMPTE 240M", 8: "film", 9: "BT.2020", 10: "CIE XYZ", 11: "DCI-P3", 12: "Display P3",
    22: "EBU 3213",
}  # fmt: skip
_TRANSFERS = {
    1: "BT.709", 4: "gamma 2.2", 5: "gamma 2.8", 6: "BT.601", 7: "SMPTE 240M", 8: "linear",
    9: "log", 10: "log", 11: "xvYCC", 12: "BT.1361", 13: "sRGB", 14: "BT.2020 (10 bits)",
    15: "BT.2020 (12 bits)", 17: "SMPTE 428", **HDR_CURVES,
}  # fmt: skip
_RANGES = {1: "limited range", 2: "full range"}
_FIELD_ORDERS = {
    2: "interlaced, top field first", 3: "interlaced, bottom field first",
    4: "interlaced, top field first", 5: "interlaced, bottom field first",
}  # fmt: skip
_PACKETS_LOOKED_AT = 2000  # of the first video stream, to detect a variable frame rate
_SAME_INTERVAL = 0.1  # intervals that differ by less, relative to the median, are equal


@dataclass(frozen=True)
class StreamDescription:
    """One stream of a file.

    Attributes:
        index: in the file, from 0.
        kind: video, cover (an image that FFmpeg lists as video), audio, subtitle, data or
            attachment.
        codec: its long name, None if unknown.
        language: as stored (ISO 639-2), None if not stated.
        details: everything else, in words, in display order.
    """

    index: int
    kind: str
    codec: str | None
    language: str | None
    details: tuple[str, ...]


@dataclass(frozen=True)
class RateDescription:
    """Frame rate, from the time stamps of the first packets.

    Attributes:
        mean: frames per second according to the container, None if it does not say.
        variable: whether the intervals between frames differ.
        slowest: frames per second over the longest interval seen, None with fewer than 2 frames.
        fastest: over the shortest, likewise.
    """

    mean: float | None
    variable: bool
    slowest: float | None
    fastest: float | None


@dataclass(frozen=True)
class FileDescription:
    """A video file.

    Attributes:
        container: its long name.
        bytes: file size.
        duration: seconds, None if the file does not say.
        width: of the first video stream as coded, pixels.
        height: likewise.
        frames: of the first video stream, None if unknown.
        rate: of the first video stream.
        rotation: degrees by which players rotate the video, anticlockwise.
        hdr: kinds of high dynamic range, in words; empty for SDR.
        interlaced: whether the first frame or its stream is marked as interlaced.
        streams: all, in the file's order.
        chapters: titles, or start times where there are none, in order.
    """

    container: str
    bytes: int
    duration: float | None
    width: int
    height: int
    frames: int | None
    rate: RateDescription
    rotation: float
    hdr: tuple[str, ...]
    interlaced: bool
    streams: tuple[StreamDescription, ...]
    chapters: tuple[str, ...]


def describe_streams(path: Path) -> FileDescription:
    """Describe a video file.

    Raises:
        InputError: no such file, not a video, no video stream in it, or no frame that can be
            decoded.
    """
    try:
        with open_container(path) as container:
            return _describe(path, container)
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"'{path}' cannot be read as a video: {reason_of(error)}") from None


def _describe(path: Path, container: InputContainer) -> FileDescription:
    main = main_stream(path, container)
    cropped = is_cropped(container, main)
    first = next(decodable(container, main), None)
    if first is None:
        raise InputError(f"'{path}' contains no frame that can be decoded: is it complete?")
    duration = container.duration / av.time_base if container.duration else None
    if duration is not None and (joints := find_joints(path, container)):
        duration += float(joints[-1].shift)
    elif counts_from_zero(container, Fraction(container.start_time or 0, av.time_base)):
        duration = float(measured_length(path))
    streams = [_describe_stream(s, first if s is main else None) for s in container.streams]
    remarks = ["cropped by players"] if cropped else []
    times, count, end = _packet_times(path)
    frames = frames_shown(main) or count
    told = Extent.of(container, main)
    if count is not None and (present := shortfall(path, told, (count, count), end)):
        frames = count
        remarks.append(f"the file is truncated: {present}")
    details = (*streams[main.index].details, *remarks)
    streams[main.index] = replace(streams[main.index], details=details)
    if frames is None and duration and main.average_rate:
        frames = max(round(duration * main.average_rate), 1)
    return FileDescription(
        container=container.format.long_name or container.format.name,
        bytes=path.stat().st_size,
        duration=duration,
        width=first.width,
        height=first.height,
        frames=frames,
        rate=describe_rate(times, main.average_rate),
        rotation=float(first.rotation),
        hdr=_hdr(first),
        interlaced=bool(first.interlaced_frame) or _field_order(main) is not None,
        streams=(*streams,),
        chapters=tuple(
            chapter["metadata"].get("title")
            or clock(float(chapter["start"] * (chapter["time_base"] or 0)))
            for chapter in container.chapters()
        ),
    )


def _describe_stream(stream: Stream, first: VideoFrame | None) -> StreamDescription:
    """Describe a stream; the first frame is given for the main one."""
    if isinstance(stream, VideoStream):
        details = _video_details(stream, first)
    else:
        details = _audio_details(stream)
    return StreamDescription(
        index=stream.index,
        kind="cover" if is_cover(stream) else stream.type,
        codec=_codec(stream),
        language=_language(stream),
        details=(*details, *_tag_details(stream)),
    )


def describe_rate(times: list[Fraction], mean: Fraction | None) -> RateDescription:
    """Describe the frame rate.

    Args:
        times: presentation times, seconds, in any order.
        mean: frames per second according to the container.
    """
    ordered = sorted(set(times))
    gaps = [float(after - before) for before, after in pairwise(ordered)]
    told = float(mean) if mean else None
    if not gaps:
        return RateDescription(told, False, None, None)
    usual = median(gaps)
    variable = max(abs(gap - usual) for gap in gaps) > _SAME_INTERVAL * usual
    return RateDescription(told, variable, 1 / max(gaps), 1 / min(gaps))


def clock(seconds: float) -> str:
    """Format seconds as a time: 4.2 s, 1:05, 1:01:05."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counts_from_zero(container: InputContainer, begin: Fraction) -> bool:
    """Whether the duration that a container states may run from time zero to the end, although a
    clip begins much later, as in Matroska by FFmpeg. Other programs write that of the clip itself.

    Args:
        container: the opened file.
        begin: when the clip begins, seconds.
    """
    late = 20 * begin > Fraction(container.duration or 0, av.time_base)
    return late and "matroska" in container.format.name.split(",")


def measured_length(path: Path) -> Fraction:
    """Duration of the video, seconds, from all its packets, for files that do not state it. Without
    time stamps the mean frame rate counts, as in the reader.

    Raises:
        InputError: no such file, FFmpeg cannot read it, or no video stream in it.
    """
    count, begin, end = 0, Fraction(0), Fraction(0)
    with open_container(path) as container:
        stream = main_stream(path, container)
        for packet in _packets(container, stream):
            if packet.pts is not None:
                at = packet.pts * packet.time_base
                begin, end = min(begin, at) if count else at, max(end, packet_end(packet))
            count += 1
    return max(end - begin, Fraction(0)) or count / (stream.average_rate or Fraction(25))


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """The intact packets of a stream, up to where the file is truncated."""
    return (p for p in demux(container, stream) if p.size and not p.is_corrupt)


def _packet_times(path: Path) -> tuple[list[Fraction], int | None, Fraction]:
    """Presentation times of the first packets, in ascending order; the number of packets, if these
    are all; and when the last of these ends. The file is opened again, since not all files support
    seeking.
    """
    with open_container(path) as container:
        stream = main_stream(path, container)
        packets = [*islice(_packets(container, stream), _PACKETS_LOOKED_AT)]
        end = max((packet_end(packet) for packet in packets), default=Fraction(0))
    times = sorted(p.pts * p.time_base for p in packets if p.pts is not None)
    if len(packets) < _PACKETS_LOOKED_AT - 1:
        return times, len(packets) or None, end
    # Packets come in decoding order, so the last presentation times leave gaps.
    return times[:-16], None, end


def _codec(stream: Stream) -> str | None:
    # Data streams have none, despite the annotation.
    context: CodecContext | None = stream.codec_context
    return None if context is None else context.codec.long_name or context.name


def _language(stream: Stream) -> str | None:
    language = stream.metadata.get("language")
    return None if language in (None, "und") else language


def _field_order(stream: VideoStream) -> str | None:
    return _FIELD_ORDERS.get(int(stream.codec_context.field_order))


def _video_details(stream: VideoStream, first: VideoFrame | None) -> list[str]:
    context = stream.codec_context
    words = [f"{context.width}x{context.height}", str(context.pix_fmt or "unknown pixel format")]
    words.append(_color_words(first if first is not None else context))
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1:
        words.append(f"pixels {aspect.numerator}:{aspect.denominator}")
    if order := _field_order(stream):
        words.append(order)
    if first is not None:
        if order is None and first.interlaced_frame:
            words.append("interlaced")
        if first.rotation:
            words.append(f"displayed rotated by {first.rotation} degrees")
        words += _hdr(first)
    return words


def _color_words(tagged: VideoFrame | av.VideoCodecContext) -> str:
    """Primaries / transfer / matrix, or one name where they agree; then the range."""
    codes = (
        _PRIMARIES.get(int(tagged.color_primaries)),
        _TRANSFERS.get(int(tagged.color_trc)),
        MATRIX_NAMES.get(int(tagged.colorspace)),
    )
    span = _RANGES.get(int(tagged.color_range))
    if not any(codes):
        return f"colour untagged, {span}" if span else "colour untagged"
    known = {code for code in codes if code}
    if len(known) == 1 and all(codes):
        name = known.pop()
    else:
        names = ("primaries", "transfer", "matrix")
        name = ", ".join(
            f"{what} {code or 'untagged'}" for what, code in zip(names, codes, strict=True)
        )
    return f"{name}, {span}" if span else name


def _hdr(frame: VideoFrame) -> tuple[str, ...]:
    curve, carried = HDR_CURVES.get(int(frame.color_trc)), {*side_data_of(frame)}
    kinds = [f"HDR ({curve})"] if curve else []
    if SideDataType.MASTERING_DISPLAY_METADATA in carried and curve == "PQ":
        kinds.append("HDR10 mastering data")
    if SideDataType.DYNAMIC_HDR_PLUS in carried:
        kinds.append("HDR10+")
    if carried & {SideDataType.DOVI_METADATA, SideDataType.DOVI_RPU_BUFFER}:
        kinds.append("Dolby Vision")
    return (*kinds,)


def _audio_details(stream: Stream) -> list[str]:
    context = stream.codec_context
    if not isinstance(context, av.AudioCodecContext):
        return []
    return [f"{context.sample_rate} Hz", context.layout.name]


def _tag_details(stream: Stream) -> list[str]:
    """Title, file name of an attachment, and roles other than `default`."""
    words = [stream.metadata[key] for key in ("title", "filename") if stream.metadata.get(key)]
    roles = ("dub", "original", "comment", "lyrics", "karaoke", "forced", "hearing_impaired",
             "visual_impaired", "captions", "descriptions")  # fmt: skip
    words += [role.replace("_", " ") for role in roles if stream.disposition & Disposition[role]]
    return words
