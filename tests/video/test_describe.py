"""Descriptions of files that were made for it."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
from av.stream import Disposition

from tests.conftest import write_video
from tests.video.conftest import remuxed
from unsmear.errors import InputError
from unsmear.video.describe import clock, describe_rate, describe_streams, measured_length


def test_a_plain_clip_is_described_with_all_it_holds(tmp_path):
    path = write_video(tmp_path / "clip.mp4", frames=12, audio=True)
    found = describe_streams(path)
    assert "MP4" in found.container or "MOV" in found.container
    assert (found.width, found.height, found.frames) == (64, 48, 12)
    assert found.bytes == path.stat().st_size
    assert found.duration == pytest.approx(12 * 1001 / 30000, abs=0.05)
    assert found.rate.mean == pytest.approx(29.97, abs=0.01)
    assert not found.rate.variable
    assert not found.interlaced
    assert found.hdr == ()
    assert found.rotation == 0
    video, audio = found.streams
    assert (video.kind, audio.kind) == ("video", "audio")
    assert "H.264" in str(video.codec)
    assert "AAC" in str(audio.codec)
    assert {"64x48", "yuv420p", "BT.709, limited range"} <= {*video.details}
    assert "44100 Hz" in audio.details


def test_variable_rate_and_rotation_are_told(tmp_path):
    path = write_video(tmp_path / "phone.mp4", pts=[0, 1000, 2000, 5000, 6000], rotation=90)
    found = describe_streams(path)
    assert found.rate.variable
    assert found.rate.slowest == pytest.approx(10)
    assert found.rate.fastest == pytest.approx(30)
    assert abs(found.rotation) == 90
    assert any("rotated by" in words for words in found.streams[0].details)


@pytest.mark.parametrize(("transfer", "hdr"), [(16, ("HDR (PQ)",)), (18, ("HDR (HLG)",)), (1, ())])
def test_colour_is_told_in_words(tmp_path, transfer, hdr):
    path = write_video(
        tmp_path / "hdr.mp4", codec="libx265", pixel_format="yuv420p10le",
        tags=(1, 9, transfer, 9), options={"x265-params": "log-level=none"},
    )  # fmt: skip
    found = describe_streams(path)
    assert found.hdr == hdr
    assert any("BT.2020" in words for words in found.streams[0].details)
    assert "yuv420p10le" in found.streams[0].details


def test_a_stream_that_cannot_be_sought_in_is_described(tmp_path):
    path = write_video(tmp_path / "plain.h264", frames=50)
    found = describe_streams(path)
    assert (found.width, found.frames, found.duration) == (64, 50, None)
    assert measured_length(path) == 2  # at 25 frames per second, FFmpeg's default


def test_a_length_is_measured_where_no_file_says_it(tmp_path):
    path = write_video(tmp_path / "clip.mkv", pts=[0, 1000, 40_000, 60_000])
    assert 2.03 < measured_length(path) < 2.04  # with the last frame


def test_a_file_whose_sound_begins_first_lasts_from_there_on(tmp_path):
    """Of Matroska by FFmpeg that begins late as a whole, the length is measured."""
    plain = write_video(tmp_path / "plain.mp4", frames=30, audio=True)
    for late, seconds in ((("video",), 3), (("video", "audio"), 1)):
        path = remuxed(plain, tmp_path / "late.mkv", later=2, late=late)
        assert describe_streams(path).duration == pytest.approx(seconds, abs=0.05)


def test_chapters_languages_and_untagged_colour(tmp_path):
    path = write_video(tmp_path / "plain.mp4", tags=(0, 2, 2, 2), audio=True)
    with av.open(str(path)) as source, av.open(str(tmp_path / "book.mkv"), "w") as target:
        outs = {}
        for stream in source.streams:
            outs[stream.index] = target.add_stream_from_template(stream)
            outs[stream.index].metadata.update({"language": "fin", "title": "Main"})
        outs[1].disposition = Disposition.default | Disposition.hearing_impaired
        tick = Fraction(1, 1000)
        target.set_chapters(
            [
                {"id": 1, "start": 0, "end": 100, "time_base": tick, "metadata": {"title": "One"}},
                {"id": 2, "start": 100, "end": 250, "time_base": tick, "metadata": {}},
            ]
        )
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = outs[packet.stream.index]
                target.mux(packet)
    found = describe_streams(tmp_path / "book.mkv")
    assert found.chapters == ("One", "0.1 s")
    assert [stream.language for stream in found.streams] == ["fin", "fin"]
    assert any("untagged" in words for words in found.streams[0].details)
    assert found.streams[1].details[-2:] == ("Main", "hearing impaired")
    assert found.frames == pytest.approx(8, abs=1)  # Matroska does not store the count


@pytest.mark.parametrize("kind", ["missing", "text", "sound"])
def test_what_is_no_video_is_an_input_error(tmp_path, kind):
    path = tmp_path / f"{kind}.mp4"
    if kind == "text":
        path.write_text("no video")
    if kind == "sound":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100, layout="mono")
            frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            frame.sample_rate = 44100
            frame.planes[0].update(bytes(4096))
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    with pytest.raises(InputError, match=kind):
        describe_streams(path)


def test_rounded_or_unordered_stamps_are_no_variable_rate():
    assert describe_rate([], None).slowest is None
    even = [Fraction(i, 25) for i in range(10)]
    assert not describe_rate(even[::-1], Fraction(25)).variable
    # 29.97 frames per second rounded to milliseconds, as in Matroska, is constant.
    rounded = [Fraction(round(1000 * i * 1001 / 30000), 1000) for i in range(60)]
    assert not describe_rate(rounded, Fraction(30000, 1001)).variable


def test_lengths_are_told_as_on_a_clock():
    assert [clock(s) for s in (4.24, 65, 3665)] == ["4.2 s", "1:05", "1:01:05"]
