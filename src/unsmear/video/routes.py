"""Packets of one stream on their way into a new file: as they are, or in another codec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

_OPUS_RATE = 48_000
# What FFmpeg takes so many channels for that do not say what they are.
_UNSAID = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")
_USUAL = {"7.1": 8, "5.1": 6, "quad": 4, "stereo": 2}  # layouts, and how many channels they have
_RISING = ("mp4", "mov")  # muxers that refuse packets of sound whose times are equal
_MICROSECOND = Fraction(1, 1_000_000)


class Copy:
    """Packets as they are, but for damaged ones, whose times do not rise. Matroska may leave the
    first times of decoding open: they count down from the first that is known.

    Lines of subtitles may begin together, and so may packets of sound that are shorter than a tick
    of their container.

    Args:
        source: where they come from.
        target: to write.

    Attributes:
        dropped: packets that were left out.
        lost: seconds that these would have lasted.
    """

    def __init__(self, source: Stream, target: Stream) -> None:
        self._target = target
        self._open: list[Packet[Stream]] = []
        self._last: int | None = None
        self.dropped, self.lost = 0, Fraction(0)
        sample, base = _sample_of(source), source.time_base
        coarse = sample is not None and base is not None and base > sample
        self._together = coarse or source.type == "subtitle"
        self._fine = sample if coarse and target.container.format.name in _RISING else None
        self._written: int | None = None  # last time of decoding, in fine ticks

    def take(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """What becomes of the next packet of the source."""
        packet.stream = self._target
        self._open.append(packet)
        if packet.dts is not None:
            yield from self._closed(packet.dts)

    def finish(self) -> Iterator[Packet[Stream]]:
        """What is left when the source has ended."""
        if self._open:
            yield from self._closed(min(packet.pts or 0 for packet in self._open))

    def _closed(self, last: int) -> Iterator[Packet[Stream]]:
        for number, packet in enumerate(self._open):
            dts = last + 1 + number - len(self._open)
            if self._last is None or dts > self._last or (self._together and dts == self._last):
                self._last = packet.dts = dts
                packet.pts = max(dts, dts if packet.pts is None else packet.pts)
                if self._fine is not None:
                    self._refine(packet, self._fine)
                yield packet
            else:
                self.dropped += 1
                self.lost += (packet.duration or 0) * packet.time_base
        self._open = []

    def _refine(self, packet: Packet[Stream], tick: Fraction) -> None:
        """Finer times, each later than the one before, for a container that insists on it."""
        assert packet.dts is not None
        assert packet.pts is not None
        scale = packet.time_base / tick
        dts = round(packet.dts * scale)
        self._written = packet.dts = dts if self._written is None else max(dts, self._written + 1)
        packet.pts = max(round(packet.pts * scale), packet.dts)
        packet.duration, packet.time_base = round((packet.duration or 0) * scale), tick


def _sample_of(stream: Stream) -> Fraction | None:
    """Seconds of a sample of sound; None for what is no sound, or does not say."""
    rate = stream.rate if isinstance(stream, AudioStream) else 0
    return Fraction(1, rate) if rate else None


@dataclass(frozen=True)
class SoundShape:
    """What sound is encoded as.

    Attributes:
        rate: samples a second.
        layout: of its channels, FFmpeg's name.
        less: what the source has more of, for the user; empty where nothing is lost.
    """

    rate: int
    layout: str
    less: str = ""


def shape_for(source: AudioStream, codec: str) -> SoundShape | None:
    """The shape nearest to that of a source which an encoder takes; None where there is none.

    Args:
        source: sound to be converted.
        codec: FFmpeg's name of the encoder.
    """
    rate = _OPUS_RATE if codec == "libopus" else source.rate or 48_000
    rates = av.Codec(codec, "w").audio_rates or [rate]
    above = [known for known in rates if known >= rate]
    rate = min(above) if above else max(rates)
    less = [f"{rate} Hz instead of {source.rate}"] if rate < source.rate else []
    count = source.channels
    for layout in _layouts(source.layout.name, count):
        if _takes(codec, rate, layout):
            if AudioLayout(layout).nb_channels < count:
                less.append(f"{layout} instead of {count} channels")
            return SoundShape(rate, layout, ", ".join(less))
    return None


def _layouts(name: str, count: int) -> Iterator[str]:
    """Layouts for sound of a given one, from the nearest on."""
    own = _UNSAID[count - 1] if name.endswith("channels") and 0 < count <= 8 else name
    yield own
    yield own.partition("(")[0]  # 5.1(side): the same with speakers behind instead of beside
    yield from (usual for usual, channels in _USUAL.items() if channels <= max(count, 2))


def _takes(codec: str, rate: int, layout: str) -> bool:
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


class Sound:
    """Sound in another codec. What changes its shape on the way is brought to that of the whole.

    Args:
        source: to be converted.
        target: to write.
        codec: FFmpeg's name of the encoder.

    Raises:
        ValueError: the encoder takes nothing like it, see `shape_for`.
    """

    def __init__(self, source: AudioStream, target: OutputContainer, codec: str) -> None:
        shape = shape_for(source, codec)
        if shape is None:
            raise ValueError(f"{codec} takes no {source.layout.name}")
        out = target.add_stream(codec, rate=shape.rate, layout=shape.layout)
        assert isinstance(out, AudioStream)
        if codec != "flac":
            out.bit_rate = 96_000 * max(out.layout.nb_channels, 1)
        self._source, self.target = source, out
        self._resampler: AudioResampler | None = None
        self._came: object = None  # shape of the frames that the resampler was made for

    def take(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """What becomes of the next packet of the source."""
        try:
            frames = self._source.decode(packet)
        except av.FFmpegError:
            return  # a damaged packet of sound is silence
        for frame in frames:
            yield from self._encoded(frame)

    def finish(self) -> Iterator[Packet[Stream]]:
        """What is left when the source has ended."""
        if self._resampler is not None:
            yield from self._encoded(None)
            yield from self.target.encode(None)

    def _encoded(self, frame: av.AudioFrame | None) -> Iterator[Packet[Stream]]:
        if frame is not None:
            came = frame.format.name, frame.layout.name, frame.sample_rate
            if came != self._came:
                if self._resampler is not None:
                    yield from self._encoded(None)
                context = self.target.codec_context
                self._came = came
                self._resampler = AudioResampler(context.format, context.layout, context.rate)
        assert self._resampler is not None
        for part in self._resampler.resample(frame):
            # The encoder cuts it into its own frames, and takes all times for those of the first.
            if part.pts is not None and part.time_base is not None:
                part.pts = round(part.pts * part.time_base * part.sample_rate)
            part.time_base = Fraction(1, part.sample_rate)
            yield from self.target.encode(part)


class Text:
    """Subtitles in another notation. In mov_text there is one text at a time: lines that overlap
    are written together for as long as they do.

    Args:
        source: to be converted.
        target: to write.
        codec: FFmpeg's name of the encoder.
    """

    def __init__(self, source: SubtitleStream, target: OutputContainer, codec: str) -> None:
        out = target.add_stream(codec)
        assert isinstance(out, SubtitleStream)
        if not source.codec_context.is_open:
            source.codec_context.open()
        out.codec_context.subtitle_header = source.codec_context.subtitle_header
        out.time_base = _MICROSECOND
        self._source, self.target = source, out
        self._one_at_a_time, self._base = codec == "mov_text", _MICROSECOND
        self._on: list[tuple[int, bytes]] = []  # until when lines are on, and what they say
        self._written = 0  # until when, ticks of the source

    def take(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """What becomes of the next packet of the source."""
        try:
            found = self._source.codec_context.decode2(packet)
        except (av.FFmpegError, ValueError):
            return  # a line that nobody can read
        if found is None or not len(found):
            return
        self._base = packet.time_base
        if not (self._one_at_a_time and packet.duration and packet.pts is not None):
            yield from self._encoded(found, packet.pts, packet.duration)
            return
        yield from self._until(packet.pts)
        until = packet.pts + packet.duration
        if until > self._written:  # else it comes out of order, and too late
            self._on += [(until, line.ass) for line in found if isinstance(line, AssSubtitle)]

    def finish(self) -> Iterator[Packet[Stream]]:
        """What is left when the source has ended."""
        if self._on:
            yield from self._until(max(until for until, _ in self._on))

    def _until(self, time: int) -> Iterator[Packet[Stream]]:
        """Lines that are on, up to a time."""
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
            return  # a line that cannot be said in it
        out.pts = out.dts = pts
        out.duration, out.time_base, out.stream = duration, self._base, self.target
        yield out


def _joined(lines: list[bytes]) -> SubtitleSet:
    """Lines in FFmpeg's ASS, in which eight fields stand before the text, as one."""
    head = lines[0].split(b",", 8)[:8]
    texts = [line.split(b",", 8)[-1] for line in lines]
    # A style that a line sets would go on in the next; mov_text does not know a reset of all.
    ended = [text + rb"{\b0\i0\u0\r}" if b"{" in text else text for text in texts[:-1]]
    return SubtitleSet.create(b",".join([*head, rb"\N".join([*ended, texts[-1]])]), 0, 0)


Route = Copy | Sound | Text
