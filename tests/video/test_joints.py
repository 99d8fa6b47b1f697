"""Recordings joined byte by byte: their times continue, for video and audio alike."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest

from tests.conftest import audio_packets, stamps_of, write_video
from tests.video.conftest import join, recording, restored
from unsmear.restoration.settings import Span
from unsmear.video.describe import describe_streams
from unsmear.video.joints import Joint, Jump, _Watch, joined
from unsmear.video.reader import VideoReader


def joints_of(path):
    with VideoReader(path) as reader:
        return reader.joints


@pytest.mark.parametrize(("first", "second"), [(0, 0), (500, 0), (0, -1), (90_000, 3)])
def test_joined_recordings_follow_each_other(tmp_path, first, second):
    one = recording(tmp_path / "one.ts", later=first)
    two = recording(tmp_path / "two.ts", later=second)
    both = join(tmp_path / "both.ts", one, two)
    (joint,) = joints_of(both)
    assert joint.position > one.stat().st_size - 1
    outcome, notes = restored(both, tmp_path / "out.mp4")
    assert outcome.frames == 80
    assert any("2 recordings are joined" in note for note in notes)
    assert not any("not increase" in note for note in notes)
    stamps, sound = stamps_of(tmp_path / "out.mp4"), audio_packets(tmp_path / "out.mp4")
    alone, heard = stamps_of(one), audio_packets(one)
    assert [stamp - stamps[0] for stamp in stamps[:40]] == [s - alone[0] for s in alone]
    # The second recording is shifted as a whole: its video and audio stay in sync.
    shift = stamps[40] - stamps[0]
    assert [stamp - shift for stamp in stamps[40:]] == stamps[:40]
    assert len(sound) == 2 * len(heard)
    half = len(heard)
    assert [data for _, data in sound[:half]] == [data for _, data in sound[half:]]
    moved = {late - early for (early, _), (late, _) in zip(sound[:half], sound[half:], strict=True)}
    assert max(abs(move - shift) for move in moved) <= Fraction(1, 44_100)
    # No stream overlaps itself or has a gap.
    frame, packet = Fraction(1001, 30_000), Fraction(1024, 44_100)
    gaps = stamps[40] - stamps[39] - frame, sound[half][0] - sound[half - 1][0] - packet
    assert min(gaps) >= -Fraction(1, 44_100)  # one tick
    assert max(gaps) < Fraction(1, 10)


def test_program_streams_are_joined_too(tmp_path):
    one = recording(tmp_path / "one.mpg", codec="mpeg2video", sound="mp2", frames=60)
    both = join(tmp_path / "both.mpg", one, one)
    assert len(joints_of(both)) == 1
    _, notes = restored(both, tmp_path / "out.mp4")
    assert not any("not increase" in note for note in notes)
    stamps = stamps_of(tmp_path / "out.mp4")
    assert len(stamps) == 120
    gaps = [late - early for early, late in pairwise(stamps)]
    assert max(gaps) < Fraction(1, 10)
    assert min(gaps) > Fraction(1, 40)
    sound, heard = audio_packets(tmp_path / "out.mp4"), audio_packets(one)
    assert len(sound) == 2 * len(heard)


def test_a_stretch_of_joined_recordings(tmp_path):
    one = recording(tmp_path / "one.ts", frames=300)
    both = join(tmp_path / "both.ts", one, one)
    with VideoReader(both) as reader:
        assert reader.info.frames == pytest.approx(600, abs=8)
        assert float(reader.duration) == pytest.approx(20, abs=0.3)
        assert describe_streams(both).duration == pytest.approx(20, abs=0.3)
        start, whole = reader.start, [frame.pts for frame in reader]
    span = Span(start=Fraction(12), end=Fraction(13))
    restored(both, tmp_path / "out.mp4", span=span)
    inside = [pts for pts in whole if start + 12 <= pts < start + 13]
    assert 29 <= len(inside) <= 31
    assert len(stamps_of(tmp_path / "out.mp4")) == len(inside)
    sound = audio_packets(tmp_path / "out.mp4")
    assert sound[-1][0] - sound[0][0] == pytest.approx(1, abs=0.1)


def test_single_recordings_have_no_joints(tmp_path):
    assert joints_of(recording(tmp_path / "one.ts")) == ()
    assert joints_of(write_video(tmp_path / "in.mp4")) == ()
    with VideoReader(tmp_path / "one.ts") as reader:
        assert reader.notes == []


def watched(*times):
    watch = _Watch()
    for position, time in enumerate(times):
        watch.see(0, 100 * position, Fraction(time), Fraction(time) + 1)
    return watch.found


def test_one_damaged_time_is_no_joint():
    assert watched(10, 11, 2, 13, 14) == []
    assert watched(10, 11, 2, 3, 4) == [Jump(200, 0, Fraction(10))]
    assert watched(10, 11, 90_000, 90_001) == [Jump(200, 0, Fraction(12 - 90_000))]


def test_jumps_near_each_other_move_all_streams_alike():
    late = 1 << 30
    jumps = [Jump(1000, 0, Fraction(5)), Jump(1200, 1, Fraction(6)),
             Jump(late, 1, Fraction(3)), Jump(late + 100, 0, Fraction(2))]  # fmt: skip
    assert joined(jumps) == (Joint(1000, Fraction(6)), Joint(late, Fraction(9)))
    far = [Jump(0, 0, Fraction(5)), Jump(1 << 30, 1, Fraction(6))]
    assert len(joined(far)) == 2
