"""The header of a new file: its muxer, and the stream for the restored frames."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

from unsmear.clip import ClipInfo
from unsmear.errors import EncodeError
from unsmear.video.encoding import ENCODERS, Encoding, configure, ticks_of
from unsmear.video.formats import MUXERS
from unsmear.video.opening import ffmpeg_name, open_container, reason_of

QUICKTIME = (".mp4", ".mov", ".m4v")  # containers of the QuickTime family


def open_target(path: Path, source: Path | None) -> OutputContainer:
    """Open a file for writing.

    Args:
        path: the file; its suffix (in upper or lower case) selects the muxer.
        source: file that the metadata will come from: QuickTime keys need a muxer option.
    """
    suffix, options = path.suffix.lower(), {}
    if suffix in QUICKTIME and source is not None:
        with open_container(source) as opened:
            if has_quicktime_keys(opened):
                options["movflags"] = "use_metadata_tags"
    return av.open(ffmpeg_name(path), "w", format=MUXERS[suffix], container_options=options)


def has_quicktime_keys(source: InputContainer) -> bool:
    """Whether a file has metadata under QuickTime keys (`com.*`)."""
    return any(key.startswith("com.") for key in source.metadata)


def add_video_stream(
    target: OutputContainer, encoding: Encoding, info: ClipInfo, suffix: str
) -> VideoStream:
    """Add a stream for packets that are encoded elsewhere. Its own encoder is opened only for the
    header.

    Args:
        target: file to write.
        encoding: how the frames are encoded.
        info: the clip as it is written.
        suffix: of the file, in lower case.
    """
    stream = target.add_stream(encoding.encoder.name, rate=info.rate or Fraction(25))
    assert isinstance(stream, VideoStream)
    configure(stream.codec_context, encoding, info)
    stream.time_base = ticks_of(info)
    if info.display_matrix:
        stream.set_display_matrix(info.display_matrix)
    if encoding.encoder.family == "hevc" and suffix in QUICKTIME:
        stream.codec_context.codec_tag = "hvc1"  # Apple's players refuse the default, hev1
    return stream


def check_container(path: Path, encoding: Encoding, info: ClipInfo) -> None:
    """Check that a container accepts what will be encoded, by writing a header on trial.

    Raises:
        EncodeError: the encoder or the muxer refuses.
    """
    suffix = path.suffix.lower()
    try:
        with av.open(io.BytesIO(), "w", format=MUXERS[suffix]) as trial:
            add_video_stream(trial, encoding, info, suffix)
            trial.start_encoding()
    except (av.FFmpegError, ValueError) as error:
        what = (
            f"{encoding.encoder.family} ({encoding.pixel_format.name}, {info.width}x{info.height})"
        )
        held = (row for row in ENCODERS.values() if suffix in row.containers)
        others = " or ".join(row.family for row in held if row != encoding.encoder)
        remedy = "" if suffix == ".mkv" else ", or an output ending in .mkv"
        raise EncodeError(
            f"cannot write '{path}': {suffix} files cannot hold {what} ({reason_of(error)}): "
            f"choose --codec {others}{remedy}"
        ) from None
