"""Previews: what they show, their position in a clip, and their messages."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
import torch

from tests import conftest
from tests.conftest import awake, mild, write_video
from tests.restoration.conftest import ALONE
from tests.restoration.test_stretch import MS, SPARSE
from tests.video.conftest import lasting, remuxed
from unsmear.errors import ConfigError
from unsmear.restoration import frames, preview, stream
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
    assert _moments(source, Settings(span=Span(end=Fraction(99)))) == _moments(source, Settings())
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
    settings = Settings(span=Span(start=1000 * MS, end=4000 * MS), overwrite=True)
    target = tmp_path / "look.png"
    for strength, network, outcome in (
        (1, mild(), Outcome(1)), (0, mild(), Outcome(1)), (1, awake(), Outcome(1, untouched=1)),
    ):  # fmt: skip
        chosen = dataclasses.replace(settings, strength=strength)
        assert write_preview(source, target, network, "all", chosen) == outcome
        enlarged = read_image(target)[:, 48:]
        changed = not torch.equal(enlarged[..., :64], enlarged[..., 70:])
        assert changed == (strength == 1 and not outcome.untouched)


def test_a_preview_of_what_begins_late_is_spread_over_it(tmp_path):
    """FFmpeg's Matroska states when the clip ends, not how long it is."""
    plain = write_video(tmp_path / "plain.mp4", frames=30)
    source = remuxed(plain, tmp_path / "in.mkv", later=100)
    assert write_preview(source, tmp_path / "p.png", mild(), 1, ALONE) == Outcome(3)


def test_a_preview_of_an_interlaced_clip_is_deinterlaced(tmp_path):
    options = {"x264-params": "interlaced=1:tff=1"}
    source = write_video(tmp_path / "tape.mkv", frames=4, options=options)
    settings = dataclasses.replace(ALONE, deinterlace=True)
    assert write_preview(source, tmp_path / "p.png", mild(), 1, settings) == Outcome(3)


def test_a_window_larger_than_memory_is_refused_for_a_preview_too(tmp_path, monkeypatch):
    source = write_video(tmp_path / "in.mkv", frames=5)
    monkeypatch.setattr(stream, "physical_memory", lambda: 4 * 64 * 48 * 12)
    with pytest.raises(ConfigError, match="window is 9: buffering frames of 64x48"):
        write_preview(source, tmp_path / "p.png", mild(), 9, ALONE)
    assert not (tmp_path / "p.png").exists()


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
