"""Writing video files: frames, time stamps, audio, colour; nothing is left of what breaks off."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from tests.conftest import audio_packets, stamps_of, write_video
from tests.video.conftest import rewrite
from unsmear.clip import ClipInfo, ColorTags
from unsmear.video.color import planes_from_rgb
from unsmear.video.reader import VideoReader
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


@pytest.mark.parametrize("size", [(65, 48), (64, 47), (33, 17), (16, 16)])
def test_odd_and_tiny_sizes_are_kept(tmp_path, size):
    source = write_video(tmp_path / "in.mkv", size=size, codec="ffv1", pixel_format="yuv420p")
    rewrite(source, tmp_path / "out.mp4")
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (reader.info.width, reader.info.height) == size
        assert sum(1 for _ in reader) == 8


def test_deep_colour_of_odd_size_finds_a_codec(tmp_path):
    source = write_video(
        tmp_path / "in.mkv", size=(65, 48), codec="ffv1", pixel_format="yuv420p10le", frames=3
    )
    frames = rewrite(source, tmp_path / "out.mkv")
    with VideoReader(tmp_path / "out.mkv") as reader:
        for frame, again in zip(frames, reader, strict=True):
            assert torch.equal(again.planes.y, frame.planes.y)  # FFV1 is lossless
    rewrite(source, tmp_path / "out.mp4")  # AV1 supports it
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (reader.codec, reader.pixel_format.name) == ("av1", "yuv420p10le")
        assert (reader.info.width, reader.info.height) == (65, 48)


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
