"""Packets of one stream on their way into a new file: copied, or converted to another codec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.format import AudioFormat
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

_OPUS_RATE = 48_000
# Layouts that FFmpeg assumes for 1 to 8 channels without a stated layout.
_DEFAULT_LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")
_USUAL = {"7.1": 8, "5.1": 6, "quad": 4, "stereo": 2}  # common layouts and their number of channels
_RISING = ("mp4", "mov")  # muxers that refuse audio packets with equal times
_MICROSECOND = Fraction(1, 1_000_000)


@dataclass
class Rising:
    """Selects the packets of a stream whose decoding times rise. Muxers refuse others, and with
    them the whole stream.

    Attributes:
        together: whether equal times are accepted: for subtitles, and for audio packets that may be
            shorter than a tick of their container.
        dropped: packets left out.
        lost: their total duration, seconds.
    """

    together: bool
    dropped: int = 0
    lost: Fraction = Fraction(0)
    _last: int | None = None

    def admits(self, packet: Packet[Stream], dts: int | None) -> bool:
        """Whether the next packet is written, at a decoding time in its ticks, None if unknown."""
        if dts is None:
            return True
        if self._last is None or dts > self._last or (self.together and dts == self._last):
            self._last = dts
            return True
        self.leave_out(packet)
        return False

    def leave_out(self, packet: Packet[Stream]) -> None:
        """Count a packet that is not written, unless an edit list hides it anyway."""
        if not packet.is_discard:
            self.dropped += 1
            self.lost += (packet.duration or 0) * packet.time_base


class StreamCopy:
    """Copies packets. Matroska may omit the first decoding times: they are counted back from the
    first one known.

    Args:
        source: stream that the packets come from.
        target: file to write.

    Attributes:
        target: the new stream.
        rising: which packets are written.
    """

    def __init__(self, source: Stream, target: OutputContainer) -> None:
        self.target = target.add_stream_from_template(source, opaque=True)
        self._open: list[Packet[Stream]] = []
        sample, base = _sample_of(source), source.time_base
        coarse = sample is not None and base is not None and base > sample
        self.rising = Rising(coarse or source.type == "subtitle")
        self._fine = sample if coarse and target.format.name in _RISING else None
        self._written: int | None = None  # last decoding time, in fine ticks

    def take(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """Yield the output packets for the next packet of the source."""
        packet.stream = self.target
        self._open.append(packet)
        if packet.dts is not None:
            yield from self._closed(packet.dts)

    def finish(self) -> Iterator[Packet[Stream]]:
        """Yield the packets that are left when the source has ended."""
        if self._open:
            yield from self._closed(min(packet.pts or 0 for packet in self._open))

    def _closed(self, last: int) -> Iterator[Packet[Stream]]:
        for number, packet in enumerate(self._open):
            dts = last + 1 + number - len(self._open)
            if not self.rising.admits(packet, dts):
                continue
            packet.dts, packet.pts = dts, max(dts, dts if packet.pts is None else packet.pts)
            if self._fine is not None:
                self._refine(packet, self._fine)
            yield packet
        self._open = []

    def _refine(self, packet: Packet[Stream], tick: Fraction) -> None:
        """Convert to finer ticks, with strictly rising times, for muxers that require them."""
        assert packet.dts is not None
        assert packet.pts is not None
        scale = packet.time_base / tick
        dts = round(packet.dts * scale)
        self._written = packet.dts = dts if self._written is None else max(dts, self._written + 1)
        packet.pts = max(round(packet.pts * scale), packet.dts)
        packet.duration, packet.time_base = round((packet.duration or 0) * scale), tick


def _sample_of(stream: Stream) -> Fraction | None:
    """Seconds per audio sample; None for other streams, or if the rate is unknown."""
    rate = stream.rate if isinstance(stream, AudioStream) else 0
    return Fraction(1, rate) if rate else None


@dataclass(frozen=True)
class AudioParameters:
    """How audio is encoded.

    Attributes:
        rate: samples per second.
        layout: channel layout, FFmpeg's name.
        loss: what the source has more of, for the user; empty if nothing is lost.
    """

    rate: int
    layout: str
    loss: str = ""


def audio_parameters_for(source: AudioStream, codec: str) -> AudioParameters | None:
    """The parameters nearest to those of a source that an encoder accepts; None if there are none.

    Args:
        source: audio to convert.
        codec: FFmpeg's name of the encoder.
    """
    rate = _OPUS_RATE if codec == "libopus" else source.rate or 48_000
    rates = av.Codec(codec, "w").audio_rates or [rate]
    above = [known for known in rates if known >= rate]
    rate = min(above) if above else max(rates)
    loss = [f"{rate} Hz instead of {source.rate}"] if rate < source.rate else []
    count = source.channels
    for layout in _layouts(source.layout.name, count):
        if _accepts(codec, rate, layout):
            if AudioLayout(layout).nb_channels < count:
                loss.append(f"{layout} instead of {count} channels")
            return AudioParameters(rate, layout, ", ".join(loss))
    return None


def _layouts(name: str, count: int) -> Iterator[str]:
    """Candidate layouts for audio of a given layout, nearest first."""
    own = _DEFAULT_LAYOUTS[count - 1] if name.endswith("channels") and 0 < count <= 8 else name
    yield own
    yield own.partition("(")[0]  # 5.1(side) -> 5.1: rear instead of side speakers
    yield from (usual for usual, channels in _USUAL.items() if channels <= max(count, 2))


def _accepts(codec: str, rate: int, layout: str) -> bool:
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, AudioCodecContext)
    context.format = (context.codec.audio_formats or [])[0]
    try:
        context.sample_rate, context.layout = rate, layout
        context.time_base = Fraction(1, rate)
        context.open()
    except (av.FFmpegError, ValueError):
        return False
    return True


class AudioTranscoder:
    """Converts audio to another codec. If its format changes midway, it is resampled to one format.

    Args:
        source: audio to convert.
        target: file to write.
        codec: FFmpeg's name of the encoder.

    Attributes:
        target: the new stream.
        rising: which packets are written.

    Raises:
        ValueError: the encoder accepts nothing similar, see `audio_parameters_for`.
    """

    def __init__(self, source: AudioStream, target: OutputContainer, codec: str) -> None:
        parameters = audio_parameters_for(source, codec)
        if parameters is None:
            raise ValueError(f"{codec} takes no {source.layout.name}")
        out = target.add_stream(codec, rate=parameters.rate, layout=parameters.layout)
        assert isinstance(out, AudioStream)
        form: AudioFormat | None = source.format  # None if FFmpeg saw no packet of it
        if codec != "flac":
            out.bit_rate = 96_000 * max(out.layout.nb_channels, 1)
        elif form is not None and form.name in ("s32", "s32p"):
            out.codec_context.format = "s32"  # the default has 16 bits; samples usually have 24
        self._source, self.target, self.rising = source, out, Rising(together=False)
        self._resampler: AudioResampler | None = None
        self._resampled: object = None  # frame format that the resampler was made for

    def take(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """Yield the output packets for the next packet of the source."""
        try:
            frames = self._source.decode(packet)
        except av.FFmpegError:
            return  # a damaged audio packet becomes silence
        for frame in frames:
            yield from self._encoded(frame)

    def finish(self) -> Iterator[Packet[Stream]]:
        """Yield the packets that are left when the source has ended."""
        if self._resampler is not None:
            yield from self._encoded(None)
            yield from self._packets(None)

    def _encoded(self, frame: av.AudioFrame | None) -> Iterator[Packet[Stream]]:
        if frame is not None:
            came = frame.format.name, frame.layout.name, frame.sample_rate
            if came != self._resampled:
                if self._resampler is not None:
                    yield from self._encoded(None)
                context = self.target.codec_context
                self._resampled = came
                self._resampler = AudioResampler(context.format, context.layout, context.rate)
        assert self._resampler is not None
        for part in self._resampler.resample(frame):
            # The encoder cuts its own frames, and takes all times to be in ticks of the first.
            if part.pts is not None and part.time_base is not None:
                part.pts = round(part.pts * part.time_base * part.sample_rate)
            part.time_base = Fraction(1, part.sample_rate)
            yield from self._packets(part)

    def _packets(self, frame: av.AudioFrame | None) -> Iterator[Packet[Stream]]:
        packets = self.target.encode(frame)
        return (packet for packet in packets if self.rising.admits(packet, packet.dts))


class SubtitleTranscoder:
    """Converts subtitles to another format. mov_text shows one text at a time, so lines that
    overlap are written together while they do.

    Args:
        source: subtitles to convert.
        target: file to write.
        codec: FFmpeg's name of the encoder.

    Attributes:
        target: the new stream.
        rising: which packets are written.
    """

    def __init__(self, source: SubtitleStream, target: OutputContainer, codec: str) -> None:
        out = target.add_stream(codec)
        assert isinstance(out, SubtitleStream)
        if not source.codec_context.is_open:
            source.codec_context.open()
        out.codec_context.subtitle_header = source.codec_context.subtitle_header
        out.time_base = _MICROSECOND
        self._source, self.target, self.rising = source, out, Rising(together=True)
        self._one_at_a_time, self._base = codec == "mov_text", _MICROSECOND
        self._on: list[tuple[int, bytes]] = []  # lines on screen: their end, and their text
        self._written = 0  # end of what has been written, ticks of the source

    def take(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """Yield the output packets for the next packet of the source."""
        try:
            found = self._source.codec_context.decode2(packet)
        except (av.FFmpegError, ValueError):
            return  # a damaged line
        if found is None or not len(found):
            return
        self._base = packet.time_base
        if not (self._one_at_a_time and packet.duration and packet.pts is not None):
            yield from self._encoded(found, packet.pts, packet.duration)
            return
        yield from self._until(packet.pts)
        until = packet.pts + packet.duration
        if until > self._written:
            self._on += [(until, line.ass) for line in found if isinstance(line, AssSubtitle)]
        else:  # out of order, and too late
            self.rising.leave_out(packet)

    def finish(self) -> Iterator[Packet[Stream]]:
        """Yield the packets that are left when the source has ended."""
        if self._on:
            yield from self._until(max(until for until, _ in self._on))

    def _until(self, time: int) -> Iterator[Packet[Stream]]:
        """Yield the lines on screen, up to a time in ticks of the source."""
        while self._on and self._written < time:
            end = min(time, *(until for until, _ in self._on))
            joined = _joined([line for _, line in self._on])
            yield from self._encoded(joined, self._written, end - self._written)
            self._written = end
            self._on = [(until, line) for until, line in self._on if until > end]
        self._written = max(self._written, time)

    def _encoded(
        self, lines: SubtitleSet, pts: int | None, duration: int | None
    ) -> Iterator[Packet[Stream]]:
        try:
            out: Packet[Stream] = self.target.codec_context.encode_subtitle(lines)
        except (av.FFmpegError, ValueError):
            return  # a line that the format cannot hold
        out.pts = out.dts = pts
        out.duration, out.time_base, out.stream = duration, self._base, self.target
        if self.rising.admits(out, pts):
            yield out


def _joined(lines: list[bytes]) -> SubtitleSet:
    """Join lines in FFmpeg's ASS format, which has eight fields before the text, into one."""
    head = lines[0].split(b",", 8)[:8]
    texts = [line.split(b",", 8)[-1] for line in lines]
    # A line's style would continue in the next one; mov_text ignores a reset of all styles.
    ended = [text + rb"{\b0\i0\u0\r}" if b"{" in text else text for text in texts[:-1]]
    return SubtitleSet.create(b",".join([*head, rb"\N".join([*ended, texts[-1]])]), 0, 0)


StreamOutput = StreamCopy | AudioTranscoder | SubtitleTranscoder
