"""Parts of clips: which frames they have, when these are shown and for how long."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import av
import pytest

from tests.conftest import audio_packets, mild, stamps_of, write_video
from tests.video.conftest import DURATIONS, lasting, length_of, remuxed
from unsmear.restoration.files import restore_file
from unsmear.restoration.settings import Settings, Span
from unsmear.restoration.stretch import frames_expected
from unsmear.video import reader
from unsmear.video.reader import VideoReader

MS = Fraction(1, 1000)


def stretch(source, target, start=None, end=None, overwrite=False, window=1, **named):
    """Restore part of a clip; return the time stamps of the result, in milliseconds."""
    span = Span(start=None if start is None else start * MS, end=None if end is None else end * MS)
    restore_file(source, target, mild(), window, Settings(span=span, overwrite=overwrite), **named)
    return [stamp / MS for stamp in stamps_of(target)]


def late(path, seconds, frames=9, **named):
    """A clip with audio whose times begin `seconds` late."""
    plain = write_video(path.with_name("plain.mp4"), frames=frames, audio=True, **named)
    return remuxed(plain, path, later=seconds)


def test_what_begins_late_begins_near_zero(tmp_path):
    """As in recorded broadcasts, whose clock starts anywhere."""
    source, target, notes = late(tmp_path / "in.ts", 36_000), tmp_path / "out.mp4", []
    stamps = stretch(source, target, on_note=notes.append)
    assert abs(stamps[0]) < 100
    assert sum("starts at 10:00:0" in note for note in notes) == 1
    apart = {audio_packets(path)[0][0] - stamps_of(path)[0] for path in (source, target)}
    assert max(apart) - min(apart) < MS
    moderate = late(tmp_path / "moderate.ts", 3)
    assert stretch(moderate, target, overwrite=True)[0] == 3000


def test_no_more_frames_are_expected_than_there_are_nor_fewer_than_one():
    info = SimpleNamespace(frames=30, rate=Fraction(30))
    for start, end, expected in (
        (None, None, 30), (Fraction(1, 2), None, 15), (None, 99, 30), (Fraction(1, 2), 99, 15),
        (Fraction(1, 2), Fraction(3, 4), 8), (99, None, 1),
    ):  # fmt: skip
        assert frames_expected(info, Span(start=start, end=end)) == expected
    unknown = SimpleNamespace(frames=None, rate=Fraction(30))
    assert frames_expected(unknown, Span(end=1)) is None


def test_a_stretch_of_what_begins_late_is_counted_in_its_own_time(tmp_path):
    source, seen = late(tmp_path / "in.ts", 36_000), []
    stretch(source, tmp_path / "out.mp4", start=100, end=201, on_progress=seen.append)
    assert {progress.expected for progress in seen} == {3}
    assert seen[-1].done == 3


def test_the_middle_of_what_begins_late_is_sought(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "_SEEK_MARGIN", Fraction(1, 10))
    source = late(tmp_path / "in.mkv", 36_000, frames=60, options={"g": "10"})
    with VideoReader(source, start=Fraction(1)) as sought:
        assert Fraction(1, 2) < sought.first_pts - sought.start < Fraction(9, 10)


def test_the_last_frame_ends_where_the_stretch_ends(tmp_path):
    source, target = lasting(tmp_path / "in.mp4", DURATIONS), tmp_path / "out.mp4"
    assert stretch(source, target, end=1000) == [0, 40, 80, 400, 440]
    assert length_of(target) == 1
    assert stretch(source, target, end=100, overwrite=True) == [0, 40, 80]
    assert length_of(target) == pytest.approx(0.12)


def test_the_mean_rate_of_a_stretch_is_that_of_the_source(tmp_path):
    """Whatever share of the last frame lies inside."""
    source, target = write_video(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    assert len(stretch(source, target, end=80)) == 3
    rates = set()
    for path in (source, target):
        with av.open(str(path)) as container:
            rates.add(container.streams.video[0].average_rate)
    assert rates == {Fraction(30000, 1001)}


SPARSE = [40, 4960, 40, 40]


@pytest.mark.parametrize("window", [1, "all"])
def test_a_stretch_begins_with_what_is_shown_then(tmp_path, window):
    source, target = lasting(tmp_path / "in.mp4", SPARSE), tmp_path / "out.mp4"
    assert stretch(source, target, start=1000, window=window) == [0, 4000, 4040]
    assert stretch(source, target, start=1000, end=4000, overwrite=True, window=window) == [0]
    assert length_of(target) == 3
    for start, first in ((5, 35), (5030, 10)):  # these frames do not last longer than usual
        assert stretch(source, target, start=start, overwrite=True, window=window)[0] == first
