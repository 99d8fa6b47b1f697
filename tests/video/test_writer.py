"""Writing video files: time stamps, audio and colour are kept; what a muxer refuses is left out and
named; nothing is left of what breaks off.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from tests.conftest import audio_packets, stamps_of, write_video
from tests.video.conftest import clip, held, lines, restored, rewrite, rich_video, shaped, tone
from unsmear.clip import ClipInfo, ColorTags
from unsmear.errors import OutputError
from unsmear.video import writer
from unsmear.video.color import planes_from_rgb
from unsmear.video.encoding import EncodeChoice
from unsmear.video.reader import VideoReader
from unsmear.video.transcoding import AudioTranscoder
from unsmear.video.writer import Origin, VideoWriter

VARIABLE = [0, 1001, 1500, 4000, 4040, 9000, 9999, 20000]


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("pts", [None, VARIABLE, [7000 + value for value in VARIABLE]])
def test_every_time_stamp_is_kept(tmp_path, container, pts):
    source = write_video(tmp_path / f"in.{container}", pts=pts)
    frames = rewrite(source, tmp_path / f"out.{container}")
    assert len(frames) == 8
    assert [frame.pts for frame in frames] == stamps_of(source)
    assert stamps_of(tmp_path / f"out.{container}") == stamps_of(source)


def test_sound_is_copied_packet_by_packet(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=30, audio=True)
    rewrite(source, tmp_path / "out.mp4")
    packets = audio_packets(source)
    assert len(packets) > 20
    assert audio_packets(tmp_path / "out.mp4") == packets
    rewrite(source, tmp_path / "out.mkv")
    assert [data for _, data in audio_packets(tmp_path / "out.mkv")] == [d for _, d in packets]
    # This audio begins before zero. Matroska cannot hold that: all streams move, which is reported.
    with VideoReader(source) as reader:
        assert any("23 ms later" in note for note in Origin.of(reader, ".mkv").notes)
    moved = {
        two - one
        for one, two in zip(stamps_of(source), stamps_of(tmp_path / "out.mkv"), strict=True)
    }
    assert all(abs(shift - Fraction(1024, 44100)) < Fraction(1, 500) for shift in moved)
    sound = audio_packets(tmp_path / "out.mkv")[5][0] - packets[5][0]
    assert abs(sound - Fraction(1024, 44100)) < Fraction(1, 500)


def test_a_clip_without_sound_becomes_webm(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=4)
    rewrite(source, tmp_path / "out.webm")
    assert len(stamps_of(tmp_path / "out.webm")) == 4


@pytest.mark.parametrize("tags", [(1, 1, 1, 1), (2, 1, 1, 1), (1, 6, 6, 6)])
def test_colour_comes_out_as_it_went_in(tmp_path, tags):
    """A known RGB colour is written and read again: range and matrix cause no shift."""
    rgb = torch.tensor([0.8, 0.3, 0.5])[:, None, None].expand(3, 32, 32)
    known = ColorTags(matrix=tags[1], primaries=tags[3], transfer=tags[2], full_range=tags[0] == 2)
    info = ClipInfo(
        width=32, height=32, frames=3, rate=Fraction(25), time_base=Fraction(1, 25), tags=known
    )
    with VideoWriter(tmp_path / "c.mp4", info) as writer:
        for index in range(3):
            writer.write(planes_from_rgb(rgb, known), Fraction(index, 25))
        writer.commit()
    with VideoReader(tmp_path / "c.mp4") as reader:
        assert reader.info.tags == known
        for frame in reader:
            torch.testing.assert_close(frame.rgb, rgb.contiguous(), rtol=0, atol=2.5 / 255)


def test_nothing_is_left_when_writing_breaks_off(tmp_path):
    source, target = write_video(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    with VideoReader(source) as reader:
        info, frame = reader.info, next(iter(reader))
    with (
        pytest.raises(RuntimeError, match="power cut"),
        VideoWriter(target, info) as writer,
    ):
        writer.write(frame.planes, frame.pts)
        assert not target.exists()
        raise RuntimeError("power cut")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.mp4"]


def test_what_the_muxer_refuses_late_is_left_out(tmp_path, monkeypatch):
    source = rich_video(tmp_path / "in.mp4", sound=("aac", "aac"))
    original = writer.assemble

    def picky(*arguments, origin=None, **named):
        if origin is not None and any(entry.index == 2 for entry in origin.plan):
            raise writer.EncodeError("Invalid data found")
        return original(*arguments, origin=origin, **named)

    monkeypatch.setattr(writer, "assemble", picky)
    _, notes = restored(source, tmp_path / "out.mp4", 3)
    assert notes == ["stream 2 is damaged and was left out"]
    kinds = [(kind, language) for kind, _, language in held(tmp_path / "out.mp4")[0]]
    assert kinds == [("video", "und"), ("audio", "deu"), ("subtitle", "spa")]


def test_streams_that_are_refused_together_are_all_left_out(tmp_path, monkeypatch):
    source = clip(tmp_path / "in.mkv", tone("flac"), lines((100, 90, "one")), frames=2)
    original = writer.assemble

    def picky(*arguments, origin=None, **named):
        if origin is not None and len(origin.plan) > 1:
            raise writer.EncodeError("Invalid data found")
        return original(*arguments, origin=origin, **named)

    monkeypatch.setattr(writer, "assemble", picky)
    _, notes = restored(source, tmp_path / "out.mkv")
    assert notes[-2:] == [f"stream {index} is damaged and was left out" for index in (1, 2)]
    assert [kind for kind, *_ in held(tmp_path / "out.mkv")[0]] == ["video"]


def test_a_video_without_frames_is_not_written(tmp_path):
    with (
        pytest.raises(OutputError, match=r"nothing was written to '.*out\.mp4'"),
        VideoWriter(tmp_path / "out.mp4", ClipInfo(width=64, height=48, frames=0)) as writer,
    ):
        writer.commit()
    assert list(tmp_path.iterdir()) == []


def test_sound_that_cannot_be_converted_is_not_called_damaged(tmp_path, monkeypatch):
    def refuses(self, frame):
        raise ValueError("no such layout")

    monkeypatch.setattr(AudioTranscoder, "_encoded", refuses)
    source = clip(tmp_path / "in.mkv", tone("flac"))
    _, notes = restored(source, tmp_path / "out.webm")
    assert "stream 1 could not be converted to opus and was left out" in notes


def test_what_cannot_be_said_is_told(tmp_path, monkeypatch):
    source = shaped(tmp_path / "in.mp4", Fraction(4, 3), frames=2)
    monkeypatch.setattr(writer, "set_pixel_aspect", lambda *_: False)
    _, notes = restored(source, tmp_path / "out.mkv", encode=EncodeChoice(lossless=True))
    assert notes == ["the pixel aspect ratio, 4/3, is not kept"]
