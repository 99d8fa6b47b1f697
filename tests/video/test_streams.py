"""Everything else in a file is kept: audio, subtitles, chapters, attachments, covers, metadata."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests.conftest import audio_packets, stamps_of, write_video
from tests.video.conftest import (
    CHAPTERS,
    SUBTITLES,
    clip,
    held,
    packet_of,
    packets,
    restored,
    rewrite,
    rich_video,
    small_jpeg,
    tone,
)
from unsmear.restoration.settings import Span
from unsmear.video import streams
from unsmear.video.opening import is_cover
from unsmear.video.reader import VideoReader
from unsmear.video.stills import image_notes
from unsmear.video.streams import stream_metadata
from unsmear.video.writer import Origin

SOUND = {"mkv": "flac", "mp4": "aac", "mov": "pcm_s16le", "webm": "libopus"}


@pytest.mark.parametrize("kind", ["mkv", "mp4", "mov", "webm"])
def test_everything_is_kept_in_the_same_container(tmp_path, kind):
    source = rich_video(tmp_path / f"in.{kind}", sound=(SOUND[kind], SOUND[kind]))
    target = tmp_path / f"out.{kind}"
    rewrite(source, target)
    with VideoReader(source) as reader:
        assert Origin.of(reader, f".{kind}").notes == []
    assert held(target) == held(source)
    assert len(held(source)[0]) == 4 + (kind == "mkv")
    assert packets(target, "subtitle") == packets(source, "subtitle")
    assert len(packets(source, "subtitle")) == 2
    assert packets(target, "audio") == packets(source, "audio")
    assert len(packets(source, "audio")) > 10


@pytest.mark.parametrize(
    ("kind", "sound", "becomes"),
    [("mp4", "flac", "flac"), ("webm", "flac", "opus"), ("mp4", "wavpack", "aac")],
)
def test_what_does_not_fit_is_converted_and_said(tmp_path, kind, sound, becomes):
    source = rich_video(tmp_path / "in.mkv", sound=(sound,))
    target = tmp_path / f"out.{kind}"
    rewrite(source, target)
    with VideoReader(source) as reader:
        notes = Origin.of(reader, f".{kind}").notes
        (images,) = image_notes(reader, Path("out"))
    assert "which has no sound, no subtitles, no chapters: for a video" in images
    streams, chapters, _, tags = held(target)
    assert (streams[1][0], streams[1][2]) == ("audio", "deu")
    assert becomes in streams[1][1]
    assert streams[2] == ("subtitle", SUBTITLES[kind], "spa")
    assert chapters == held(source)[1]
    assert tags == held(source)[3]
    assert any("attachment" in note and ".mkv" in note for note in notes)
    assert any("subrip" in note and SUBTITLES[kind] in note for note in notes)
    assert any("audio" in note for note in notes) == (becomes != sound)
    lines = [data for _, _, data in packets(target, "subtitle")]
    assert [b"line 0" in lines[0], b"line 1" in lines[1]] == [True, True]
    stamps = [pts for _, pts, _ in packets(target, "subtitle")]
    assert stamps == [pts for _, pts, _ in packets(source, "subtitle")]
    with av.open(str(target)) as container:
        frames = list(container.decode(audio=0))
        loudness = np.concatenate([frame.to_ndarray().ravel() for frame in frames]).std()
        seconds = sum(frame.samples / frame.sample_rate for frame in frames)
    assert loudness > 0
    assert 0.999 < seconds < 1.06  # to its end


@pytest.mark.parametrize("said", [b"windy", b"w\xefndy"])  # the latter is not UTF-8
def test_a_cover_is_kept(tmp_path, said):
    source = rich_video(tmp_path / "in.mkv", cover=True)
    source.write_bytes(source.read_bytes().replace(b"windy", said))
    rewrite(source, tmp_path / "out.mkv")
    for path in (source, tmp_path / "out.mkv"):
        with av.open(str(path), metadata_errors="replace") as container:
            covers = [s for s in container.streams.video if is_cover(s)]
            assert len(covers) == 1
            assert bytes(next(iter(container.demux(covers[0])))) == small_jpeg()


@pytest.mark.parametrize("start", [None, Fraction(1, 10)])
def test_a_cover_without_a_time_is_kept(tmp_path, start, monkeypatch):
    """In MP4, a cover stands beside streams with time stamps."""
    plain, path = write_video(tmp_path / "plain.mp4", frames=6), tmp_path / "in.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0], opaque=True)
        cover = target.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        image = packet_of(cover, small_jpeg())
        image.is_keyframe = True
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                target.mux(packet)
        target.mux(image)
    restored(path, tmp_path / "out.mp4", span=Span(start=start))
    with av.open(str(tmp_path / "out.mp4")) as container:
        (stream,) = [stream for stream in container.streams.video if is_cover(stream)]
        assert bytes(next(iter(container.demux(stream)))) == small_jpeg()
    restored(path, tmp_path / "out.mkv", span=Span(start=start))
    with av.open(str(tmp_path / "out.mkv")) as container:
        (stream,) = [stream for stream in container.streams.video if is_cover(stream)]
        assert stream.metadata == {"filename": "cover.jpg", "mimetype": "image/jpeg"}
    with VideoReader(path) as reader:
        notes = Origin.of(reader, ".mov").notes  # FFmpeg's muxer would drop it without an error
    assert notes == ["cover stream 1 (mjpeg) is left out: .mov does not support it"]
    # Nor is it written beside metadata under QuickTime keys.
    monkeypatch.setattr(streams, "has_quicktime_keys", lambda source: True)
    with VideoReader(path) as reader:
        notes = Origin.of(reader, ".mp4").notes
    assert notes == ["cover stream 1 (mjpeg) is left out: .mp4 does not support it"]


def test_what_muxers_write_themselves_is_not_copied():
    """As mkvmerge tags its streams."""
    said = {"title": "Main", "BPS-eng": "9", "NUMBER_OF_FRAMES": "9", "DURATION": "00:00:09.0",
            "_STATISTICS_TAGS-eng": "BPS", "vendor_id": "FFMP", "encoder": "x"}  # fmt: skip
    stream = SimpleNamespace(metadata=said)
    assert stream_metadata(stream, "matroska") == {"title": "Main"}


def test_sound_that_begins_before_the_first_key_frame_is_copied(tmp_path):
    """FFmpeg cannot seek such a file to its start."""
    source = write_video(
        tmp_path / "in.flv", pts=[*range(6)], codec="flv", time_base=Fraction(1, 25),
        sound=("aac", "stereo"),
    )  # fmt: skip
    restored(source, tmp_path / "out.mkv")
    assert [data for _, data in audio_packets(tmp_path / "out.mkv")] == [
        data for _, data in audio_packets(source)
    ]


@pytest.mark.parametrize(
    ("name", "codec"), [("flac", "flac"), ("libmp3lame", "mp3float"), ("libopus", "opus")]
)
def test_sound_of_all_kinds_goes_into_m4v(tmp_path, name, codec):
    source = write_video(tmp_path / "in.mkv", frames=6, sound=(name, "stereo"))
    rewrite(source, tmp_path / "out.m4v")
    with av.open(str(tmp_path / "out.m4v")) as container:
        assert container.streams.audio[0].codec_context.codec.name == codec
        assert sum(frame.samples for frame in container.decode(audio=0)) > 8000


def test_sound_of_a_shape_that_no_encoder_takes_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "audio_parameters_for", lambda *_: None)
    source = clip(tmp_path / "in.mkv", tone("flac"))
    with VideoReader(source) as reader:
        notes = Origin.of(reader, ".webm").notes
    assert notes == ["audio stream 1 (flac) is left out: opus does not support its 2 channels"]


def test_languages_are_kept_in_mov_or_named(tmp_path):
    source = rich_video(tmp_path / "in.mkv", sound=("aac", "flac"), languages=("deu", "tlh"))
    with VideoReader(source) as reader:
        notes = Origin.of(reader, ".mov").notes
    lost = "the language of audio stream 2, tlh, is not kept: .mov has no code for it"
    assert [note for note in notes if "audio" in note] == [
        f"audio stream 2 (flac) becomes aac; {lost}"
    ]
    rewrite(source, tmp_path / "out.mov")
    spoken = [language for kind, _, language in held(tmp_path / "out.mov")[0] if kind == "audio"]
    assert spoken == ["ger", None]


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_a_second_video_stream_is_passed_on(tmp_path, kind):
    plain = write_video(tmp_path / "plain.mp4", frames=6)
    path, result = tmp_path / f"in.{kind}", tmp_path / f"out.{kind}"
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        streams = [
            target.add_stream_from_template(source.streams.video[0], opaque=True) for _ in "ab"
        ]
        for stream in streams:
            stream.disposition = Disposition.default
        for packet in list(source.demux(video=0)):
            for stream in streams:
                if packet.pts is not None:
                    copy = av.Packet(bytes(packet))
                    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                    copy.is_keyframe, copy.stream = packet.is_keyframe, stream
                    target.mux(copy)
    rewrite(path, result)
    with av.open(str(result)) as container:
        # MP4 disables a track that is not a default one, if another is.
        assert [stream.disposition for stream in container.streams] == [Disposition.default] * 2
        passed = [(packet.pts, bytes(packet)) for packet in container.demux(video=1)]
    with av.open(str(path)) as container:
        assert passed == [(packet.pts, bytes(packet)) for packet in container.demux(video=1)]
    assert len([pts for pts, _ in passed if pts is not None]) == 6


def test_streams_of_unknown_kind_are_left_out_and_named(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=4)
    path = tmp_path / "data.mkv"
    with av.open(str(source)) as plain, av.open(str(path), "w", format="mpegts") as target:
        stream = target.add_stream_from_template(plain.streams.video[0], opaque=True)
        data = target.add_data_stream("klv")
        for packet in plain.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
        target.mux(packet_of(data, b"telemetry"))
    with VideoReader(path) as reader:
        notes = Origin.of(reader, ".mp4").notes
    assert any(note.startswith("data stream") and ".mp4" in note for note in notes)
    rewrite(path, tmp_path / "out.mp4")


def test_chapters_hide_no_other_data(tmp_path):
    """Cameras write their position to a data stream; MP4 stores chapters in one too."""
    source, path = write_video(tmp_path / "in.mp4", frames=30), tmp_path / "places.mp4"
    with av.open(str(source)) as plain, av.open(str(path), "w") as target:
        video = target.add_stream_from_template(plain.streams.video[0])
        data = target.add_data_stream("bin_data")
        target.set_chapters(CHAPTERS)
        for packet in plain.demux(video=0):
            if packet.size:
                packet.stream = video
                target.mux(packet)
        target.mux(packet_of(data, b"here"))
    with av.open(str(path)) as container:
        kinds = [stream.type for stream in container.streams]
    assert kinds == ["video", "data", "data"]
    with VideoReader(path) as reader:
        notes = Origin.of(reader, ".mp4").notes
    assert notes == ["data stream 1 is left out: .mp4 does not support it"]


def test_chapters_move_with_everything_else(tmp_path):
    """Sound that begins before zero moves all of a Matroska file."""
    source, result = rich_video(tmp_path / "in.mp4"), tmp_path / "out.mkv"
    rewrite(source, result)
    shift = stamps_of(result)[0] - stamps_of(source)[0]
    assert shift > Fraction(1, 100)
    old, new = ([float(time) for *times, _ in held(path)[1] for time in times]
                for path in (source, result))  # fmt: skip
    assert new == pytest.approx([time + float(shift) for time in old], abs=1e-3)
    with av.open(str(result)) as container:  # a Matroska file has no brands
        assert "major_brand" not in {key.lower() for key in container.metadata}
    with VideoReader(source) as reader:  # converted audio begins at zero
        notes = Origin.of(reader, ".webm").notes
    assert not any("before zero" in note for note in notes)


def test_a_chapter_without_length_is_kept_where_the_video_begins(tmp_path):
    source, path = write_video(tmp_path / "plain.mkv", frames=2), tmp_path / "in.mkv"
    with av.open(str(source)) as plain, av.open(str(path), "w") as target:
        video = target.add_stream_from_template(plain.streams.video[0])
        target.set_chapters([{**CHAPTERS[0], "end": 0}])
        for packet in plain.demux(video=0):
            if packet.size:
                packet.stream = video
                target.mux(packet)
    rewrite(path, tmp_path / "out.mkv")
    assert held(tmp_path / "out.mkv")[1] == held(path)[1] != []
