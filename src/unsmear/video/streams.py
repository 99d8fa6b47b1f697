"""The other streams of a file: audio, subtitles, covers, attachments; and its chapters.

Each stream is copied if the new container accepts it, otherwise converted to something that it
accepts, otherwise left out. Conversions and losses are reported.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Literal

import av
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Discard, Disposition, Stream
from av.subtitles.stream import SubtitleStream

from unsmear.video.container import QUICKTIME, has_quicktime_keys
from unsmear.video.cut import Cut
from unsmear.video.formats import MUXERS
from unsmear.video.joints import Joint, Timeline
from unsmear.video.languages import macintosh_language
from unsmear.video.opening import demux, is_cover, is_still
from unsmear.video.transcoding import (
    AudioTranscoder,
    StreamCopy,
    StreamOutput,
    SubtitleTranscoder,
    audio_parameters_for,
)

if TYPE_CHECKING:
    from av.container.core import Chapter

_AUDIO_ENCODERS = {
    ".mp4": "aac", ".m4v": "aac", ".mov": "aac", ".webm": "libopus", ".mkv": "flac"
}  # fmt: skip
_SUBTITLE_ENCODERS = {
    ".mp4": "mov_text", ".m4v": "mov_text", ".mov": "mov_text", ".webm": "webvtt", ".mkv": "ass"
}  # fmt: skip
_TEXT_CODECS = frozenset({"mov_text", "subrip", "ass", "ssa", "webvtt", "text"})
_PACKETS_TO_TRY = 3
# Metadata of streams that muxers write themselves.
_WRITTEN_BY_MUXERS = frozenset(
    {"ENCODER", "DURATION", "BPS", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "VENDOR_ID", "ROTATE"}
)


@dataclass(frozen=True)
class StreamPlan:
    """What becomes of a stream.

    Attributes:
        index: of the stream in the source.
        how: copied, converted to another codec, stored as an attachment (Matroska), or left out.
        codec: the encoder, if it is converted.
        note: message for the user, empty if nothing changes.
    """

    index: int
    how: Literal["copy", "convert", "attach", "drop"]
    codec: str = ""
    note: str = ""


def plan_streams(source: InputContainer, main: int, suffix: str) -> list[StreamPlan]:
    """Decide what becomes of each stream but the main one.

    Args:
        source: the opened file.
        main: index of the video stream that is restored.
        suffix: of the file to write, such as .mp4.
    """
    others = [stream for stream in source.streams if stream.index != main]
    return [
        _with_language_note(_plan_stream(source, stream, suffix), stream, suffix)
        for stream in others
    ]


def _with_language_note(plan: StreamPlan, stream: Stream, suffix: str) -> StreamPlan:
    """Add a note to a plan if the stream's language will be lost."""
    language = stream.metadata.get("language", "und")
    if suffix != ".mov" or plan.how == "drop" or language == "und" or macintosh_language(language):
        return plan
    lost = f"the language of {stream.type} stream {stream.index}, {language}, is not kept"
    notes = [*([plan.note] if plan.note else []), f"{lost}: .mov has no code for it"]
    return replace(plan, note="; ".join(notes))


def _plan_stream(source: InputContainer, stream: Stream, suffix: str) -> StreamPlan:
    kind = "cover" if is_cover(stream) else stream.type
    context: CodecContext | None = stream.codec_context
    codec = "" if context is None else context.codec.canonical_name
    name = f"{kind} stream {stream.index}" + (f" ({codec})" if codec else "")

    def left_out(why: str) -> StreamPlan:
        return StreamPlan(stream.index, "drop", note=f"{name} is left out: {why}")

    if suffix == ".mkv" and kind in ("cover", "attachment"):
        return StreamPlan(stream.index, "attach")
    if kind == "attachment":
        return left_out("it needs .mkv")
    if isinstance(stream, av.VideoStream) and kind == "video" and is_still(stream):
        return left_out("an image without a time stamp")
    if _fits(source, stream, suffix):
        return StreamPlan(stream.index, "copy")
    if kind == "audio" and codec:
        assert isinstance(stream, AudioStream)
        encoder = _AUDIO_ENCODERS[suffix]
        family, parameters = encoder.removeprefix("lib"), audio_parameters_for(stream, encoder)
        if parameters is None:
            return left_out(f"{family} does not support its {stream.channels} channels")
        loss = f", {parameters.loss}" if parameters.loss else ""
        return StreamPlan(stream.index, "convert", encoder, f"{name} becomes {family}{loss}")
    if kind == "subtitle" and codec in _TEXT_CODECS:
        encoder = _SUBTITLE_ENCODERS[suffix]
        return StreamPlan(stream.index, "convert", encoder, f"{name} becomes {encoder}")
    if kind == "data" and (_holds_chapters(stream) or "timecode" in stream.metadata):
        return StreamPlan(stream.index, "drop")  # both are written separately
    return left_out(f"{suffix} does not support it")


def _holds_chapters(stream: Stream) -> bool:
    """Whether it is a chapter track: FFmpeg reads it itself and returns none of its packets. FFmpeg
    does the same with tracks without a duration, which hold something else.
    """
    return stream.discard == Discard.all and bool(stream.duration)


def _fits(source: InputContainer, stream: Stream, suffix: str) -> bool:
    """Whether the container accepts a stream unchanged: mux a few packets of it on trial."""
    context: CodecContext | None = stream.codec_context
    if stream.type == "data" or context is None:
        return False
    # There the muxer accepts covers, but does not write them.
    loses_covers = suffix == ".mov" or (suffix in QUICKTIME and has_quicktime_keys(source))
    if loses_covers and is_cover(stream):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=MUXERS[suffix]) as trial:
            if context.codec.canonical_name not in trial.supported_codecs:
                return False
            copy = StreamCopy(stream, trial)
            trial.start_encoding()
            for packet in _first_packets(stream, _PACKETS_TO_TRY):
                for out in copy.take(packet) if packet.size else ():
                    trial.mux(out)
    except (av.FFmpegError, ValueError):
        return False
    return True


def _first_packets(stream: Stream, count: int) -> list[Packet[Stream]]:
    """Read the first packets of a stream. The file is opened again: not all files can be sought
    back to the start, and seeking could lose the first packets of other streams.
    """
    with av.open(stream.container.name, metadata_errors="replace") as again:
        return list(islice(again.demux(again.streams[stream.index]), count))


class Remuxer:
    """Brings a source's other streams into a new file. Create it before the header is written.

    Args:
        source: the opened file.
        target: file to write.
        plan: from `plan_streams`.
        start: seconds cut off at the beginning; a negative value delays the streams.
        end: time in the source where it is cut off, seconds.
        later: seconds by which the muxer moves all packets, and chapters are moved here.
        joints: where recordings are joined in the source.
    """

    def __init__(
        self,
        source: InputContainer,
        target: OutputContainer,
        plan: Sequence[StreamPlan],
        *,
        start: Fraction = Fraction(0),
        end: Fraction | None = None,
        later: Fraction = Fraction(0),
        joints: Sequence[Joint] = (),
    ) -> None:
        self._source, self._cut = source, Cut(start, end)
        self._timeline = Timeline(joints)
        self._outputs: dict[int, StreamOutput] = {}
        for entry in plan:
            stream = source.streams[entry.index]
            if entry.how == "attach":
                _attach(stream, target)
            elif entry.how != "drop":
                output = self._outputs[entry.index] = _output(entry, stream, target)
                _label(output.target, stream)
        _set_chapters(source, target, start, end, later)

    def packets(self) -> Iterator[tuple[Fraction, Packet[Stream]]]:
        """Yield the packets for the new file in the source's order, each with its decoding time in
        seconds.
        """
        wanted = [self._source.streams[index] for index in self._outputs]
        if not wanted:
            return
        for packet in demux(self._source, *wanted):
            output = self._outputs[packet.stream.index]
            if packet.size and is_cover(packet.stream):  # covers have no time stamps
                packet.pts = packet.dts = 0
                yield from ((Fraction(0), out) for out in output.take(packet))
                continue
            # Without time stamps it is the demuxer's end-of-stream marker.
            if packet.dts is None and packet.pts is None:
                continue
            self._timeline.place(packet)
            if not self._cut.keeps(packet):
                continue
            for out in output.take(packet):
                yield self._cut.moved(out)
        for output in self._outputs.values():
            for out in output.finish():
                yield self._cut.moved(out)

    def notes(self) -> list[str]:
        """What was left out, for the user. Call it after the last packet, before the source is
        closed.
        """
        found = self._cut.notes()
        for index, output in self._outputs.items():
            if dropped := output.rising.dropped:
                seconds = f"{float(output.rising.lost):.2f} s"
                found.append(
                    f"{self._source.streams[index].type} stream {index}: {dropped} packets "
                    f"({seconds}) whose time stamps do not increase are left out"
                )
        return found


def _output(entry: StreamPlan, stream: Stream, target: OutputContainer) -> StreamOutput:
    """Add to a file the stream that another becomes."""
    if entry.how == "copy":
        return StreamCopy(stream, target)
    if isinstance(stream, AudioStream):
        return AudioTranscoder(stream, target, entry.codec)
    assert isinstance(stream, SubtitleStream)  # nothing else is converted
    return SubtitleTranscoder(stream, target, entry.codec)


def _label(target: Stream, source: Stream) -> None:
    """Copy language, title and role from one stream to another."""
    target.metadata.update(stream_metadata(source, target.container.format.name))
    target.disposition = Disposition(int(source.disposition))


def stream_metadata(stream: Stream, muxer: str) -> dict[str, str]:
    """Metadata of a stream for a muxer (FFmpeg's name), without what muxers write themselves
    (durations, sizes, encoders).
    """
    kept = {
        key: value
        for key, value in stream.metadata.items()
        if key.upper().split("-")[0] not in _WRITTEN_BY_MUXERS and not key.startswith("_STATISTICS")
    }
    if muxer == "mov" and "language" in kept:
        kept["language"] = macintosh_language(kept["language"]) or "und"
    return kept


def _attach(stream: Stream, target: OutputContainer) -> None:
    metadata = stream.metadata
    if isinstance(stream, AttachmentStream):
        name = metadata.get("filename", f"attachment-{stream.index}")
        kind = stream.mimetype or metadata.get("mimetype", "application/octet-stream")
        target.add_attachment(name, kind, stream.data)
        return
    codec = stream.codec_context.codec.canonical_name
    ending = {"mjpeg": "jpg"}.get(codec, codec)
    kind = metadata.get("mimetype", f"image/{'jpeg' if codec == 'mjpeg' else codec}")
    for packet in _first_packets(stream, 1):
        if packet.size:
            name = metadata.get("filename", f"cover.{ending}")
            target.add_attachment(name, kind, bytes(packet))


def _set_chapters(
    source: InputContainer,
    target: OutputContainer,
    start: Fraction,
    end: Fraction | None,
    later: Fraction,
) -> None:
    kept: list[Chapter] = []
    for chapter in source.chapters():
        base = chapter["time_base"] or Fraction(1, 1000)
        first, last = chapter["start"] * base, chapter["end"] * base
        # Some chapters have no length.
        if (first >= start or last > start) and (end is None or first < end):
            until = last if end is None else min(last, end)
            begin = round((max(first, start) - start + later) / base)
            finish = round((until - start + later) / base)
            kept.append({**chapter, "start": begin, "end": finish, "time_base": base})
    if kept:
        target.set_chapters(kept)
