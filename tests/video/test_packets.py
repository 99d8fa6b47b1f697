"""Packets that are empty, broken, or cut off by the end of the file."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from tests.conftest import write_video
from tests.video.conftest import cut, faststart, notes_of
from unsmear.restoration.sampling import sample_blur
from unsmear.video.damage import Damage
from unsmear.video.describe import describe_streams
from unsmear.video.reader import VideoReader


def test_packets_that_hold_nothing_are_counted_and_not_the_end(tmp_path):
    """Recorders write them for dropped frames."""
    source = write_video(tmp_path / "in.mp4", frames=12, codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(source)) as container:
        places = [(p.pos, p.pos + p.size) for p in container.demux(video=0) if p.size]
    (begin, end), last = places[5], places[-1][1]
    contents = bytearray(source.read_bytes())
    contents[begin:last] = contents[end:last] + bytes(end - begin)
    size = contents.find(b"stsz") + 16 + 4 * 5
    contents[size : size + 4] = bytes(4)
    source.write_bytes(contents)
    with VideoReader(source) as reader:
        stamps = [frame.pts * 30000 / 1001 for frame in reader]
        assert stamps == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
        assert reader.damage == Damage(packets=1)


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_break_in_the_middle_of_a_packet_costs_no_frame_before_it(tmp_path, kind):
    source = faststart(tmp_path / f"in.{kind}", frames=30, size=(128, 96), options={"bf": "2"})
    with av.open(str(source)) as container:
        place = [(p.pos, p.size) for p in container.demux(video=0) if p.size][12]
    share = (place[0] + place[1] / 2) / source.stat().st_size
    frames, notes = notes_of(cut(source, share))
    assert frames == 12
    assert any("truncated: 12 of 30 frames" in note or "of 1.00 s" in note for note in notes)


@pytest.mark.parametrize("opened", [0, 1])
def test_h264_with_b_frames_in_avi_gets_rising_times(tmp_path, opened):
    """In closed and open GOPs. AVI has only decoding times. FFmpeg begins a tick late, as it does
    without B-frames.
    """
    source = write_video(
        tmp_path / "in.avi", pts=[*range(170)], time_base=Fraction(1001, 30_000), size=(32, 32),
        options={"bf": "3", "b-adapt": "0", "g": "12", "x264-params": f"open-gop={opened}"},
    )  # fmt: skip
    with VideoReader(source) as reader:
        times = [frame.pts * 30_000 / 1001 for frame in reader]
        assert times == [*range(1, 171)]
        assert reader.damage == Damage()
    with VideoReader(source, start=Fraction(11, 2)) as reader:  # from a key frame on
        assert 1 < reader.first_pts * 30_000 / 1001 < 30
        rest = [frame.pts * 30_000 / 1001 for frame in reader]
    assert rest == times[times.index(rest[0]) :]


def test_h264_in_avi_has_even_times_in_open_gops_and_up_to_its_end(tmp_path):
    """With two ticks a frame, as by `ffmpeg -c copy`."""
    source = write_video(
        tmp_path / "in.avi", pts=[*range(0, 60, 2)], time_base=Fraction(1, 50), size=(32, 32),
        options={"bf": "3", "b-adapt": "0", "g": "12", "x264-params": "open-gop=1"},
    )  # fmt: skip
    even = [Fraction(number, 25) for number in range(1, 31)]
    with VideoReader(source) as reader:
        assert [frame.pts for frame in reader] == even
        assert reader.damage == Damage()
    assert [frame.time for frame in sample_blur(source, every=1)] == [*map(float, even)]


def test_broken_packets_are_passed_over_as_the_reader_does(tmp_path):
    path = write_video(tmp_path / "in.mkv", frames=12, options={"g": "4", "preset": "ultrafast"})
    contents = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux() if packet.size]
    for begin, size in (places[0], places[5]):
        contents[begin + 8 : begin + size] = b"\xff" * (size - 8)
    path.write_bytes(contents)
    with VideoReader(path) as reader:
        frames = sum(1 for _ in reader)
        assert reader.damage.packets
    assert 0 < frames < 12
    assert describe_streams(path).width == 64
    seen = sample_blur(path, every=1)
    assert len(seen) == frames
    assert [frame.time for frame in seen] == sorted(frame.time for frame in seen)
