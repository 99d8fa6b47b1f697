"""Clips with everything that files hold beside frames, clips that are interlaced, truncated or
joined, and what is read back from them.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from tests.conftest import ONE_LEVEL, _write_tone, mild, picture, write_video
from unsmear.clip import ClipInfo
from unsmear.restoration.files import restore_file
from unsmear.restoration.quality import NETWORK_ALONE
from unsmear.restoration.settings import Settings, Span
from unsmear.video.color import convert_planes
from unsmear.video.encoding import EncodeChoice, FrameEncoder, choose_encoding
from unsmear.video.opening import is_cover
from unsmear.video.reader import VideoReader
from unsmear.video.spool import SpoolWriter
from unsmear.video.writer import Origin, VideoWriter, assemble

MS = Fraction(1, 1000)
CHAPTERS = [
    {"id": 1, "start": 0, "end": 400, "time_base": MS, "metadata": {"title": "Début"}},
    {"id": 2, "start": 400, "end": 900, "time_base": MS, "metadata": {"title": "Two"}},
]
SUBTITLES = {"mkv": "subrip", "mp4": "mov_text", "mov": "mov_text", "webm": "webvtt"}
DURATIONS = [40, 40, 320, 40, 1500]  # of frames, ms


def rewrite(source, target, choice=EncodeChoice()):
    """Read and write a file without changing its frames, with all other streams."""
    spool = target.with_name(f"{target.name}.spool")
    with VideoReader(source) as reader:
        info, suffix = reader.info, target.suffix.lower()
        size = (info.width, info.height)
        encoding = choose_encoding(choice, reader.codec, reader.pixel_format, suffix, size)
        encoder, file, frames = FrameEncoder(encoding, info), SpoolWriter(spool), []
        for frame in reader:
            frames.append(frame)
            picture = convert_planes(frame.planes, encoding.pixel_format)
            file.write(encoder.encode(picture, frame.pts, frame.duration))
        file.write(encoder.finish())
        file.finish()
        origin = Origin.of(reader, suffix)
        assemble(target, [spool], encoding, info, origin=origin, result=target)
    spool.unlink()
    return frames


def restored(source, target, window=1, **changes):
    """Restore with a tiny network alone, which is quicker than with burst. `changes` are settings.
    Returns the outcome and the notes.
    """
    notes, settings = [], Settings(quality=NETWORK_ALONE, **changes)
    outcome = restore_file(source, target, mild(ONE_LEVEL), window, settings, on_note=notes.append)
    return outcome, notes


def stretch(source, target, start, end):
    """Restore part of a clip; return the notes."""
    return restored(source, target, span=Span(start=start, end=end))[1]


def remuxed(
    source, target, *, later=0, late=("video", "audio"), form=None, options=None, metadata=None
):
    """The same packets in another file, those of the kinds `late` `later` seconds later. `form` is
    the muxer, by default that of the suffix.
    """
    with (
        av.open(str(source)) as plain,
        av.open(str(target), "w", format=form, container_options=options or {}) as out,
    ):
        out.metadata.update(metadata or {})
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in plain.streams}
        for packet in plain.demux():
            if packet.size:
                if later and packet.stream.type in late:
                    shift = round(later / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    return target


def faststart(path, **named):
    """A clip whose index comes before its frames."""
    plain = write_video(path.with_name(f"plain{path.suffix}"), **named)
    options = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}
    return remuxed(plain, path, options=options)


def cut(path, share):
    """The beginning of a file, up to a share of its bytes."""
    contents = path.read_bytes()
    target = path.with_name(f"cut{path.suffix}")
    target.write_bytes(contents[: int(len(contents) * share)])
    return target


def recording(path, *, later=0, frames=40, codec="libx264", sound="aac"):
    """A transport stream (.ts) or program stream (.mpg) with all times `later` seconds later."""
    rate = Fraction(1001, 30_000)
    times = {"pts": [*range(frames)], "time_base": rate} if codec == "mpeg2video" else {}
    plain = write_video(path.with_name("plain.mp4"), frames=frames, codec=codec,
                        sound=(sound, "mono"), **times)  # fmt: skip
    options = {"avoid_negative_ts": "disabled"} if path.suffix == ".ts" else {}
    form = None if path.suffix == ".ts" else "vob"
    return remuxed(plain, path, later=2 + later, form=form, options=options)


def join(path, *parts):
    """Join transport or program streams byte by byte."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def lasting(path, durations):
    """A clip with the given frame durations in milliseconds."""
    pts = [sum(durations[:number]) for number in range(len(durations))]
    plain = write_video(
        path.with_name("plain.mp4"), pts=pts, codec="mpeg4", time_base=Fraction(1, 1000)
    )
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for packet, milliseconds in zip(packets, durations, strict=True):
            packet.duration = round(Fraction(milliseconds, 1000) / packet.time_base)
            packet.stream = stream
            target.mux(packet)
    return path


def interlaced(path, frames=12):
    """A bar that moves from field to field."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            picture = np.zeros((48, 64, 3), np.uint8)
            picture[::2, 4 * index % 60 :][:, :4] = 255  # the fields show different positions
            picture[1::2, (4 * index + 2) % 60 :][:, :4] = 255
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def length_of(path):
    with av.open(str(path)) as container:
        return Fraction(container.duration, av.time_base)


def notes_of(path, **named):
    """Number of frames that are read, and what the reader says of damage."""
    with VideoReader(path, **named) as reader:
        frames = sum(1 for _ in reader)
        return frames, reader.damage.notes()


def shaped(path, aspect, **named):
    """A clip whose pixels are not square."""
    plain = write_video(path.with_name(f"plain-{path.name}"), **named)
    with VideoReader(plain) as reader:
        info = ClipInfo(**{**vars(reader.info), "pixel_aspect": aspect})
        with VideoWriter(path, info) as writer:
            for frame in reader:
                writer.write(frame.planes, frame.pts)
            writer.commit()
    return path


def rich_video(path, *, sound=("aac",), cover=False, languages=("deu", "fra")):
    """A second of video with audio in two languages, subtitles, chapters and attachments."""
    kind = path.suffix[1:]
    plain = write_video(
        path.with_name(f"plain.{kind}"),
        frames=30,
        codec="libvpx-vp9" if kind == "webm" else "libx264",
    )
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0], opaque=True)
        video.metadata.update({"title": "Main view"})
        tracks = [target.add_stream(name, rate=48000, layout="stereo") for name in sound]
        for track, language in zip(tracks, languages, strict=False):
            track.metadata["language"] = language
        text = target.add_stream(SUBTITLES[kind])
        text.codec_context.subtitle_header = subtitle_header()
        text.metadata["language"], text.time_base = "spa", MS
        target.metadata.update({"title": "Kite", "comment": "windy"})
        target.set_chapters(CHAPTERS)
        if kind == "mkv":
            target.add_attachment("font.ttf", "application/x-truetype-font", b"not really")
            if cover:
                target.add_attachment("cover.jpg", "image/jpeg", small_jpeg())
        for packet in source.demux(video=0):
            if packet.pts is not None:
                packet.stream = video
                target.mux(packet)
        for track in tracks:
            _tone(target, track)
        for number in range(2):
            target.mux(_line(text, f"line {number}", 400 * number + 50))
    return path


def subtitle_header():
    return av.CodecContext.create("subrip", "r").subtitle_header or (
        b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\nStyle: Default\n\n"
        b"[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, "
        b"Text\n"
    )


def _line(stream, text, at):
    data = text.encode()
    if stream.codec_context.codec.canonical_name == "mov_text":
        data = len(data).to_bytes(2, "big") + data
    packet = packet_of(stream, data, at)
    packet.duration = 300
    return packet


def packet_of(stream, data, at=0):
    """A packet of a stream, shown at `at` milliseconds."""
    packet = av.Packet(data)
    packet.pts = packet.dts = at
    packet.time_base, packet.stream = MS, stream
    return packet


def _tone(container, stream):
    context = stream.codec_context
    resampler = av.AudioResampler(context.format, context.layout, 48000, context.frame_size or 1024)
    samples = (np.sin(np.arange(48000) / 20) * 9000).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(samples, 2)[None], "s16", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def small_jpeg():
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = 32, 32, "yuvj420p"
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame(32, 32, "yuvj420p")
    for plane in frame.planes:
        plane.update(bytes([128]) * plane.buffer_size)
    return bytes((context.encode(frame) + context.encode(None))[0])


def held(path):
    """Streams with codec and language, chapters, attachments, title and comment."""
    with av.open(str(path)) as container:
        streams = [
            (
                stream.type,
                stream.codec_context.codec.canonical_name if stream.codec_context else "",
                stream.metadata.get("language"),
            )
            for stream in container.streams
            if stream.type not in ("data",) and not is_cover(stream)
        ]
        chapters = [
            (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"])
            for c in container.chapters()
        ]
        files = [(a.metadata, a.data) for a in container.streams.attachments]
        named = {key.lower(): value for key, value in container.metadata.items()}
        tags = {key: named.get(key) for key in ("title", "comment")}
        return streams, chapters, files, tags


def packets(path, kind):
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        return [
            (packet.stream.metadata.get("language"), packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(streams)
            if packet.dts is not None and packet.size > 2
        ]


def clip(path, *more, frames=10, codec="libx264", pixel_format="yuv420p"):
    """A clip of 10 frames per second. Each function of `more` adds streams to the container, and
    returns a function that writes them.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        writers = [add(container) for add in more]
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(48, 64, index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame.reformat(format=pixel_format)))
        container.mux(stream.encode(None))
        for write in writers:
            write()
    return path


def tone(codec, rate=48000, layout="stereo", seconds=0.5):
    def add(container):
        track = container.add_stream(codec, rate=rate, layout=layout)
        return lambda: _write_tone(container, track, seconds)

    return add


def lines(*events, codec="ass"):
    """Adds subtitles: begin and duration of each line, in ms, and its text."""

    def add(container):
        track = container.add_stream(codec)
        track.codec_context.subtitle_header, track.time_base = subtitle_header(), MS

        def write():
            for number, (at, duration, text) in enumerate(events):
                said = f"{number},0,Default,,0,0,0,,{text}" if codec == "ass" else text
                packet = packet_of(track, said.encode(), at)
                packet.duration = duration
                container.mux(packet)

        return write

    return add


def shown(path):
    """Begin and end of each subtitle line, in ms, and its text."""
    with av.open(str(path)) as container:
        found, track = [], container.streams.subtitles[0]
        codec = track.codec_context.codec.canonical_name
        for packet in container.demux(track):
            said = bytes(packet)
            if codec == "mov_text":  # the text follows its length
                text = said[2 : 2 + int.from_bytes(said[:2], "big")].decode()
            else:
                text = said.decode().rpartition(",")[2]
            if packet.dts is not None and text:
                begin = packet.pts * packet.time_base
                end = begin + packet.duration * packet.time_base
                found.append((round(begin * 1000), round(end * 1000), text))
        return found
