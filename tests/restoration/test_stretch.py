"""Stretches of clips: which frames they have, when these are shown and for how long."""

from __future__ import annotations

from fractions import Fraction

from tests.conftest import mild, stamps_of
from tests.video.test_files import DURATIONS, lasting, length_of
from unsmear.restoration.files import restore_file
from unsmear.restoration.settings import Settings, Span

MS = Fraction(1, 1000)


def stretch(source, target, start=None, end=None, **named):
    """Time stamps of the result, in milliseconds."""
    span = Span(start=None if start is None else start * MS, end=None if end is None else end * MS)
    restore_file(source, target, mild(), 1, Settings(span=span), **named)
    return [stamp / MS for stamp in stamps_of(target)]


def test_the_last_frame_ends_where_the_stretch_ends(tmp_path):
    source, target = lasting(tmp_path / "in.mp4", DURATIONS), tmp_path / "out.mp4"
    assert stretch(source, target, end=1000) == [0, 40, 80, 400, 440]
    assert length_of(target) == 1
