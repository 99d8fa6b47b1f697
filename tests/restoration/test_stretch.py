"""Stretches of clips: which frames they have, when these are shown and for how long."""

from __future__ import annotations

from fractions import Fraction

import av

from tests.conftest import audio_packets, mild, stamps_of, write_video
from tests.video.test_files import DURATIONS, lasting, length_of
from unsmear.restoration.files import restore_file
from unsmear.restoration.settings import Settings, Span
from unsmear.video import reader
from unsmear.video.reader import VideoReader

MS = Fraction(1, 1000)


def stretch(source, target, start=None, end=None, overwrite=False, **named):
    """Time stamps of the result, in milliseconds."""
    span = Span(start=None if start is None else start * MS, end=None if end is None else end * MS)
    restore_file(source, target, mild(), 1, Settings(span=span, overwrite=overwrite), **named)
    return [stamp / MS for stamp in stamps_of(target)]


def late(path, seconds, frames=9, **named):
    """A clip with sound whose times begin so late."""
    plain = write_video(path.with_name("plain.mp4"), frames=frames, audio=True, **named)
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        copies = [target.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.size:
                shift = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    return path


def test_what_begins_late_begins_near_zero(tmp_path):
    """As recordings of broadcasts do, whose clock stands anywhere."""
    source, target, notes = late(tmp_path / "in.ts", 36_000), tmp_path / "out.mp4", []
    stamps = stretch(source, target, on_note=notes.append)
    assert abs(stamps[0]) < 100
    assert sum("begins at 10:00:0" in note for note in notes) == 1
    apart = {audio_packets(path)[0][0] - stamps_of(path)[0] for path in (source, target)}
    assert max(apart) - min(apart) < MS
    moderate = late(tmp_path / "moderate.ts", 3)
    assert stretch(moderate, target, overwrite=True)[0] == 3000


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
