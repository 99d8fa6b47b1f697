"""Files opened by FFmpeg, under names that it cannot take for anything else."""

from __future__ import annotations

from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from unsmear.errors import InputError
from unsmear.video.headers import read_header

# Demuxers that draw any text as pictures of a terminal: a list of notes is no video.
_TEXT = frozenset({"tty", "bin", "xbin", "adf", "idf"})
# Demuxers of pictures take a % or * in the name of one for a pattern of many names. Others do not
# know the option, and do not mind.
_ONE_FILE = {"pattern_type": "none"}


def ffmpeg_name(path: Path) -> str:
    """What to call a file where FFmpeg asks for an address: `12:30.mp4` would be one of a protocol
    `12`, `pipe:0` no file at all.
    """
    return f"file:{path}"


def open_container(path: Path) -> InputContainer:
    """Open a file with streams in it.

    Raises:
        InputError: no such file, or nothing that FFmpeg knows.
    """
    if not path.exists():
        raise InputError(f"no such file: '{path}'")
    if not path.is_file():
        raise InputError(f"'{path}' is not a file: give a video file or a folder of images")
    try:
        container = av.open(
            ffmpeg_name(path), mode="r", metadata_errors="replace", options=_ONE_FILE
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"'{path}' cannot be read as a video: {reason}") from None
    name = container.format.name
    if name in _TEXT:
        container.close()
        raise InputError(f"'{path}' cannot be read as a video: it is text")
    if name in ("image2", "tiff_pipe", "webp_pipe") and _holds_many(path):
        container.close()
        raise InputError(
            f"'{path}' contains more than one image, of which only the first would be read: save "
            "each in its own file, in a folder"
        )
    return container


def _holds_many(path: Path) -> bool:
    with path.open("rb") as file:
        return read_header(file).many


def moving_pictures(container: InputContainer) -> list[VideoStream]:
    """Streams of video that are more than a cover, in the file's order, but stills last."""
    shown = [stream for stream in container.streams.video if not is_cover(stream)]
    return sorted(shown, key=is_still)


def is_still(stream: VideoStream) -> bool:
    """Pictures without a time: animated AVIF begins with one, for programs that show no more."""
    return stream.frames == 1 and not stream.duration


def is_cover(stream: VideoStream) -> bool:
    """Cover pictures of audio files count as video streams; they are not."""
    return bool(stream.disposition & stream.disposition.__class__.attached_pic)
