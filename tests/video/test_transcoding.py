"""Copying and converting audio, subtitles and other videos without loss."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.conftest import audio_packets
from tests.video.conftest import MS, clip, lines, recording, restored, rewrite, shown, tone
from unsmear.restoration.settings import Span
from unsmear.video.reader import VideoReader
from unsmear.video.writer import Origin


def heard(path):
    """The audio of a file: duration in seconds, loudness, rate, layout."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = list(container.decode(stream))
        loud = np.concatenate([frame.to_ndarray().ravel() for frame in frames]).std()
        seconds = sum(Fraction(frame.samples, frame.sample_rate) for frame in frames)
        return float(seconds), float(loud), stream.rate, stream.layout.name


@pytest.mark.parametrize(
    ("kind", "codec", "rate", "layout", "target", "shape", "told"),
    [
        ("avi", "pcm_u8", 11024, "mono", "mp4", (11025, "mono"), "becomes aac"),
        ("avi", "pcm_u8", 11024, "mono", "webm", (48000, "mono"), "becomes opus"),
        ("mkv", "ac3", 48000, "5.1(side)", "webm", (48000, "5.1"), "becomes opus"),
        ("mkv", "wavpack", 192000, "stereo", "mov", (96000, "stereo"), "aac, 96000 Hz instead of"),
        ("mkv", "pcm_s16le", 48000, "quad", "mp4", (48000, "4.0"), "becomes aac"),
        ("mkv", "flac", 48000, "2.1", "webm", (48000, "stereo"), "stereo instead of 3 channels"),
    ],
)
def test_sound_is_brought_to_a_shape_that_its_encoder_takes(
    tmp_path, kind, codec, rate, layout, target, shape, told
):
    source = clip(tmp_path / f"in.{kind}", tone(codec, rate, layout))
    rewrite(source, tmp_path / f"out.{target}")
    seconds, loudness, *got = heard(tmp_path / f"out.{target}")
    assert tuple(got) == shape
    assert abs(seconds - heard(source)[0]) < 0.2  # about the length of AAC frames at 11 kHz
    assert loudness > 0.1
    with VideoReader(source) as reader:
        (note,) = (note for note in Origin.of(reader, f".{target}").notes if "audio" in note)
    assert told in note
    assert ("instead" in note) == ("instead" in told)


def test_a_damaged_packet_of_sound_costs_no_other(tmp_path):
    source = clip(tmp_path / "in.mkv", tone("flac"), frames=3)
    with av.open(str(source)) as container:
        third = [bytes(packet) for packet in container.demux(audio=0)][2]
    source.write_bytes(source.read_bytes().replace(third, bytes(len(third))))
    rewrite(source, tmp_path / "out.webm")
    with av.open(str(tmp_path / "out.webm")) as container:
        *_, last = container.decode(audio=0)
    assert last.pts * last.time_base > 0.45


def test_sound_of_24_bits_keeps_them_in_flac(tmp_path):
    """As on Blu-ray discs; Matroska cannot hold their codec."""

    def discs(container):
        track = container.add_stream("pcm_bluray", rate=48000, layout="stereo")
        track.codec_context.format = "s32"

        def write():
            wave = np.arange(1920, dtype=np.int32) * 37 << 8
            frame = av.AudioFrame.from_ndarray(wave[None], "s32", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            container.mux(track.encode(frame))

        return write

    source = clip(tmp_path / "in.m2ts", discs, frames=3)
    _, notes = restored(source, tmp_path / "out.mkv")
    assert "audio stream 1 (pcm_bluray) becomes flac" in notes
    sounds = []
    for path in (source, tmp_path / "out.mkv"):
        with av.open(str(path)) as container:
            decoded = [frame.to_ndarray() for frame in container.decode(audio=0)]
        sounds.append(np.concatenate(decoded, axis=1))
    assert sounds[0].size > 1000
    assert np.array_equal(*sounds)


def sounding(begins, silent):
    """Adds audio that begins `begins` samples late and is silent for its first `silent` samples.
    Neither MP4 nor WebM can hold its codec.
    """

    def add(container):
        track = container.add_stream("pcm_u8", rate=48000, layout="mono")

        def write():
            wave = (128 + 64 * np.sin(np.arange(24000) / 20)).astype(np.uint8)
            wave[:silent] = 128
            for at in range(0, len(wave), 960):
                frame = av.AudioFrame.from_ndarray(wave[None, at : at + 960], "u8", "mono")
                frame.sample_rate, frame.pts, frame.time_base = (
                    48000,
                    begins + at,
                    Fraction(1, 48000),
                )
                container.mux(track.encode(frame))

        return write

    return add


def sounds_from(path):
    """When the audio becomes audible, in seconds after the first frame is shown."""
    with av.open(str(path)) as container:
        first = next(container.decode(video=0))
        container.seek(0)
        to_float = av.AudioResampler("fltp")
        for decoded in container.decode(audio=0):
            (frame,) = to_float.resample(decoded)
            if (heard := (np.abs(frame.to_ndarray()[0]) > 1 / 8).nonzero()[0]).size:
                at = decoded.pts * decoded.time_base + Fraction(int(heard[0]), frame.sample_rate)
                return float(at - first.pts * first.time_base)
    raise AssertionError("silent")


@pytest.mark.parametrize("kind", ["mp4", "webm"])
@pytest.mark.parametrize(("begins", "silent"), [(24000, 0), (0, 24000 - 4800)])
@pytest.mark.parametrize("start", [None, Fraction(1, 5)])
def test_converted_sound_stays_with_the_video(tmp_path, kind, begins, silent, start):
    """Whether the track begins late or begins with silence; the cut result begins at zero."""
    source = clip(tmp_path / "in.mkv", sounding(begins, silent), frames=6)
    target = tmp_path / f"out.{kind}"
    _, notes = restored(source, target, span=Span(start=start))
    assert any("becomes" in note for note in notes)
    late = sounds_from(source)
    assert late == pytest.approx((begins + silent) / 48000, abs=2e-3)
    # Codecs blur a sudden beginning.
    assert sounds_from(target) == pytest.approx(late - float(start or 0), abs=0.015)


def changing(container):
    """Adds audio that changes from stereo to 5.1 and back, as in broadcasts."""
    track = container.add_stream("ac3", rate=48000, layout="stereo")

    def write():
        for number, layout in enumerate(("stereo", "5.1(side)", "stereo")):
            context = av.CodecContext.create("ac3", "w")
            context.sample_rate, context.layout, context.format = 48000, layout, "fltp"
            context.time_base = Fraction(1, 48000)
            channels = context.layout.nb_channels
            wave = np.tile(np.sin(np.arange(1536) / 20).astype(np.float32) / 2, (channels, 1))
            for index in range(12 * number, 12 * number + 12):
                frame = av.AudioFrame.from_ndarray(wave, "fltp", layout)
                frame.sample_rate, frame.pts = 48000, 1536 * index
                frame.time_base = Fraction(1, 48000)
                for packet in context.encode(frame):
                    packet.stream, packet.time_base = track, Fraction(1, 48000)
                    container.mux(packet)

    return write


@pytest.mark.parametrize("kind", ["mkv", "ts"])
def test_sound_may_change_its_shape_on_the_way(tmp_path, kind):
    codec = "mpeg4" if kind == "ts" else "libx264"
    source = clip(tmp_path / f"in.{kind}", changing, codec=codec)
    _, notes = restored(source, tmp_path / "out.webm")
    assert not any("left out" in note for note in notes)
    with av.open(str(tmp_path / "out.webm")) as container:
        frames = list(container.decode(audio=0))
    starts = [frame.pts * frame.time_base for frame in frames]
    for early, late, frame in zip(starts, starts[1:], frames, strict=False):
        assert abs(late - early - Fraction(frame.samples, frame.sample_rate)) < 5 * MS
    for second in (0.2, 0.55, 0.9):  # one in each of the three parts
        near = [
            f for f, at in zip(frames, starts, strict=True) if abs(at - starts[0] - second) < 0.1
        ]
        assert np.concatenate([frame.to_ndarray().ravel() for frame in near]).std() > 0.1


def short_packets(container):
    """Adds audio in packets of 0.83 ms, like TrueHD, where Matroska has ticks of 1 ms."""
    track = container.add_stream("pcm_s16le", rate=48000, layout="stereo")

    def write():
        for index in range(600):
            frame = av.AudioFrame.from_ndarray(np.full((1, 80), index, np.int16), "s16", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 40 * index, Fraction(1, 48000)
            container.mux(track.encode(frame))

    return write


@pytest.mark.parametrize("kind", ["mkv", "mov"])
def test_packets_of_sound_shorter_than_a_tick_are_kept(tmp_path, kind):
    source = clip(tmp_path / "in.mkv", short_packets)
    _, notes = restored(source, tmp_path / f"out.{kind}")
    assert not any("left out" in note for note in notes)
    sounds = []
    for path in (source, tmp_path / f"out.{kind}"):
        with av.open(str(path)) as container:
            frames = list(container.decode(audio=0))
        sounds.append(np.concatenate([frame.to_ndarray() for frame in frames], axis=1))
        end = frames[-1].pts * frames[-1].time_base
        assert abs(end - Fraction(1, 2)) < 30 * MS
    assert np.array_equal(*sounds)


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_sound_that_must_be_left_out_is_counted(tmp_path, kind):
    """Whether it is copied or converted."""
    source = recording(tmp_path / "in.ts")
    with av.open(str(source)) as container:
        places = [packet.pos for packet in container.demux(audio=0) if packet.size]
    # Repeat a few audio packets, so that times go back by less than at a joint.
    contents = source.read_bytes()
    piece = contents[places[5] // 188 * 188 : places[11] // 188 * 188]
    at = places[11] // 188 * 188
    source.write_bytes(contents[:at] + piece + contents[at:])
    target = tmp_path / f"out.{kind}"
    _, notes = restored(source, target)
    (note,) = (note for note in notes if "left out" in note)
    assert note.startswith("audio stream 1: ")
    assert "packets (0." in note
    ends = [packets[-1][0] - packets[0][0] for packets in map(audio_packets, (source, target))]
    assert ends[0] == pytest.approx(ends[1], abs=0.05)


TOGETHER = ((100, 300, "top"), (100, 300, "bottom"), (600, 300, "x"), (600, 200, "y"))


def test_lines_that_begin_together_are_kept(tmp_path):
    source = clip(tmp_path / "in.mkv", lines(*TOGETHER))
    _, notes = restored(source, tmp_path / "out.mkv")
    assert shown(tmp_path / "out.mkv") == shown(source)
    assert [text for _, _, text in shown(source)] == ["top", "bottom", "x", "y"]
    assert not any("left out" in note for note in notes)


@pytest.mark.parametrize("kind", ["mkv", "webm", "mp4"])
def test_a_line_that_comes_too_late_costs_no_other(tmp_path, kind):
    source = clip(tmp_path / "in.mkv", lines((100, 90, "one"), (300, 90, "two"), (500, 90, "six")))
    contents = bytearray(source.read_bytes())
    at = contents.find(b"1,0,Default,,0,0,0,,two") - 3
    contents[at : at + 2] = (5).to_bytes(2, "big")  # the time stamp of its block
    source.write_bytes(contents)
    _, notes = restored(source, tmp_path / f"out.{kind}")
    assert shown(tmp_path / f"out.{kind}") == [(100, 190, "one"), (500, 590, "six")]
    assert any("1 packets (0.09 s) whose time stamps do not increase" in note for note in notes)


def test_lines_that_overlap_are_read_in_time_in_another_notation(tmp_path):
    events = ((100, 3000, "long"), (500, 300, "short"), (900, 300, "late"))
    source = clip(tmp_path / "in.mkv", lines(*events), frames=40)
    rewrite(source, tmp_path / "out.mp4")
    assert shown(tmp_path / "out.mp4") == [
        (100, 500, "long"), (500, 800, "long\nshort"), (800, 900, "long"),
        (900, 1200, "long\nlate"), (1200, 3100, "long"),
    ]  # fmt: skip
    rewrite(source, tmp_path / "out.webm")
    assert shown(tmp_path / "out.webm") == shown(source)
    rewrite(tmp_path / "out.webm", tmp_path / "again.mp4")
    assert shown(tmp_path / "again.mp4") == shown(tmp_path / "out.mp4")


def test_lines_that_begin_together_are_both_read_in_mp4(tmp_path):
    source = clip(tmp_path / "in.mkv", lines(*TOGETHER))
    rewrite(source, tmp_path / "out.mp4")
    assert shown(tmp_path / "out.mp4") == [
        (100, 400, "top\nbottom"), (600, 800, "x\ny"), (800, 900, "x"),
    ]  # fmt: skip


def test_the_style_of_a_line_ends_with_it(tmp_path):
    events = ((100, 300, r"{\b1}heavy"), (100, 300, "light"), (500, 100, r"one\Ntwo, three"))
    source = clip(tmp_path / "in.mkv", lines(*events))
    rewrite(source, tmp_path / "out.mp4")
    rewrite(tmp_path / "out.mp4", tmp_path / "again.mkv")
    with av.open(str(tmp_path / "again.mkv")) as container:
        track = container.streams.subtitles[0]
        said = [
            bytes(packet).split(b",", 8)[-1].decode()
            for packet in container.demux(track)
            if packet.dts is not None
        ]
    assert [text for text in said if text] == [r"{\b1}heavy{\r}\Nlight", r"one\Ntwo, three"]
