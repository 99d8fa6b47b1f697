"""Previews: what they show, their position in a clip, and their messages."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from tests import conftest
from tests.conftest import mild, write_video
from tests.restoration.test_stretch import MS, SPARSE
from tests.video.conftest import lasting
from unsmear.restoration import frames, preview
from unsmear.restoration.files import Outcome
from unsmear.restoration.preview import _moments, write_preview
from unsmear.restoration.settings import Settings, Span
from unsmear.video.images import read_image, write_image


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


def test_preview_is_a_picture_before_and_after(tmp_path, run):
    source = write_video(tmp_path / "in.mp4", frames=90, size=(96, 64))
    run(source, "--preview")
    assert sorted(entry.suffix for entry in tmp_path.iterdir()) == [".mp4", ".png", ".safetensors"]
    image = read_image(tmp_path / "in.preview.png")
    assert image.shape[2] == 2 * 96 + 6
    assert image.shape[1] == 3 * 2 * 64 + 2 * 6
    rows = [image[:, row : row + 64, :96].float() for row in (0, 134, 268)]
    assert (rows[0] - rows[2]).abs().mean() > 2  # from different frames of the clip
    right = image[:, 40:64, 102:].float()
    assert 0 < (right - image[:, 40:64, :96].float()).abs().mean() < 20


def test_preview_of_a_stream_that_says_nothing_of_its_length(tmp_path, run):
    source = write_video(tmp_path / "in.h264", frames=30)
    run(source, "--preview")
    shown = read_image(tmp_path / "in.preview.png")
    assert shown.shape[1] == 3 * 2 * 48 + 2 * 6


def test_a_preview_of_a_folder_is_spread_over_its_images(tmp_path, run, monkeypatch):
    folder = tmp_path / "frames"
    folder.mkdir()
    leads = []

    def restore(*args, lead, **options):
        leads.append(lead)
        return frames.restore_frames(*args, lead=lead, **options)

    monkeypatch.setattr(preview, "restore_frames", restore)
    for number in range(12):
        image = torch.full((3, 32, 48), 20 * number, dtype=torch.uint8)
        write_image(folder / f"{number:02d}.png", image)
    run(folder, "--preview", "-o", tmp_path / "p.png")
    shown = read_image(tmp_path / "p.png")
    assert [int(shown[0, row, 0]) for row in (0, 70, 140)] == [40, 120, 200]  # 2, 6 and 10
    assert leads == [2, 4, 4]  # all there are, then the reach of window and burst


def test_a_preview_shows_the_last_frame_before_the_end(tmp_path, run):
    source = write_video(tmp_path / "in.mp4", pts=[0, 30_000, 60_000])
    run(source, "--preview", "--end", "0.9")
    assert read_image(tmp_path / "in.preview.png").shape[1] == 2 * 48


def test_a_preview_shows_a_frame_once(tmp_path, run, capsys):
    source = write_video(tmp_path / "in.mp4", frames=1)
    run(source, "--preview")
    assert "1 frame restored" in capsys.readouterr().out
    assert read_image(tmp_path / "in.preview.png").shape[1] == 2 * 48
