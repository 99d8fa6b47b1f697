"""Opening files with FFmpeg, under names that it cannot misread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from unsmear.errors import InputError, reading
from unsmear.video.headers import read_header

# Demuxers that draw any text file as a terminal.
_TEXT = frozenset({"tty", "bin", "xbin", "adf", "idf"})
# Image demuxers take a % or * in a name for a pattern of many names. Other demuxers ignore this
# option.
_ONE_FILE = {"pattern_type": "none"}


def ffmpeg_name(path: Path) -> str:
    """The name of a file for FFmpeg, which expects a URL: it would take `12:30.mp4` for a protocol
    `12`, and `pipe:0` for standard input.
    """
    return f"file:{path}"


def reason_of(error: Exception) -> str:
    """What went wrong in FFmpeg or the system, without the number and name that `str` adds."""
    return getattr(error, "strerror", None) or str(error)


def open_container(path: Path) -> InputContainer:
    """Open a media file.

    Raises:
        InputError: no such file, FFmpeg cannot read it, it is text, or an image file with more than
            one image.
    """
    if not path.exists():
        raise InputError(f"no such file: '{path}'")
    if not path.is_file():
        raise InputError(f"'{path}' is not a file: give a video file or a folder of images")
    try:
        container = av.open(
            ffmpeg_name(path), mode="r", metadata_errors="replace", options=_ONE_FILE
        )
    except av.InvalidDataError:
        raise InputError(f"'{path}' cannot be read as a video: {_why_invalid(path)}") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read as a video: {reason_of(error)}") from None
    name = container.format.name
    if name in _TEXT:
        container.close()
        raise InputError(f"'{path}' cannot be read as a video: it is text")
    if name in ("image2", "tiff_pipe", "webp_pipe") and read_header(path).multi_image:
        container.close()
        raise InputError(
            f"'{path}' contains more than one image, of which only the first would be read: save "
            "each in its own file, in a folder"
        )
    return container


def _why_invalid(path: Path) -> str:
    """Why FFmpeg finds no valid data in a file, and the remedy, for the user."""
    with reading(path), path.open("rb") as file:
        start = file.read(8)
    if start[4:] == b"ftyp":
        what = "its index (moov), which is written last, is missing or damaged"
    else:
        what = "it is damaged, or no video" if start else "it is empty"
    return f"{what}; copy or download it again, or give another file"


def demux(container: InputContainer, *streams: Stream) -> Iterator[Packet[Any]]:
    """Yield the packets of streams, up to the end of the file or to where it cannot be read
    further, which `VideoReader` reports.
    """
    with contextlib.suppress(av.FFmpegError, ValueError):
        yield from container.demux(*streams)


def main_stream(path: Path, container: InputContainer) -> VideoStream:
    """The video stream of a file that is restored and described: the first of `video_streams`.

    Raises:
        InputError: there is none, or the file is an image in tiles, each a stream for FFmpeg.
    """
    streams = video_streams(container)
    if not streams:
        raise InputError(f"'{path}' contains no video stream: give a video file")
    if is_still(streams[0]) and any(one.disposition & Disposition.dependent for one in streams):
        raise InputError(
            f"'{path}' is an image in tiles (HEIC or AVIF): save it as PNG, in a folder"
        )
    return streams[0]


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Video streams except covers, in the order of the file, but stills last."""
    return sorted((s for s in container.streams.video if not is_cover(s)), key=is_still)


def is_still(stream: VideoStream) -> bool:
    """Whether a stream is one image without a duration, such as the one at the start of an animated
    AVIF, for programs that show no more.
    """
    return stream.frames == 1 and not stream.duration


def frames_shown(stream: VideoStream) -> int | None:
    """Number of frames that a file states for a stream, about without those that an edit list
    hides; None if it states none.
    """
    stated, rate = stream.frames or None, stream.average_rate
    if stated is None or not (rate and stream.duration and stream.time_base):
        return stated
    return min(stated, max(round(stream.duration * stream.time_base * rate), 1))


def is_cover(stream: Stream) -> bool:
    """Whether a stream is a cover image, which FFmpeg lists as a video stream."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)
