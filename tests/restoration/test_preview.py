"""Previews: their position in a clip, and their messages."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests import conftest
from tests.conftest import mild, write_video
from tests.restoration.test_stretch import MS, SPARSE
from tests.video.conftest import lasting
from unsmear.restoration.files import Outcome
from unsmear.restoration.preview import _moments, write_preview
from unsmear.restoration.settings import Settings, Span
from unsmear.video.images import read_image


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_that_outlasts_the_pictures_does_not_count(tmp_path, monkeypatch, suffix):
    write_tone = conftest._write_tone
    monkeypatch.setattr(conftest, "_write_tone", lambda held, track, _: write_tone(held, track, 5))
    source = write_video(tmp_path / f"in{suffix}", frames=30, audio=True)  # 1 s
    moments = [float(moment) for moment in _moments(source, Settings())]
    assert moments == pytest.approx([1 / 6, 1 / 2, 5 / 6], abs=0.02)
    part = Settings(span=Span(start=Fraction(1, 2)))
    assert float(_moments(source, part)[1]) == pytest.approx(0.75, abs=0.02)


def test_notes_come_once_and_tiny_clips_are_shown(tmp_path):
    source, notes = tmp_path / "in.mkv", []
    write_video(source, size=(2, 2), frames=4, codec="ffv1", tags=(1, 2, 2, 2))
    write_preview(source, tmp_path / "p.png", mild(), 1, Settings(), on_note=notes.append)
    (note,) = notes
    assert "colour matrix" in note
    assert read_image(tmp_path / "p.png").shape[1] == 3 * 2 * 2 + 2 * 6


def test_a_preview_of_a_stretch_within_one_frame(tmp_path):
    source = lasting(tmp_path / "in.mp4", SPARSE)
    settings = Settings(span=Span(start=1000 * MS, end=4000 * MS))
    assert write_preview(source, tmp_path / "look.png", mild(), 3, settings) == Outcome(1)
