"""Restoring whole files: nothing is lost or left incomplete, and memory is bounded.

For runs that are broken off see `test_resume.py`.
"""

from __future__ import annotations

import importlib.metadata

import pytest
import torch

from tests.conftest import (
    audio_packets,
    awake,
    failing_after,
    mild,
    one_scene,
    stamps_of,
    write_frames,
    write_video,
)
from unsmear.errors import ConfigError, InputError, OutputError
from unsmear.restoration import files, frames, store, stream
from unsmear.restoration.files import Outcome, restore_file
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.settings import Settings
from unsmear.restoration.tiles import Tiler, TileSize
from unsmear.restoration.work import fingerprints
from unsmear.video.images import read_image
from unsmear.video.reader import VideoReader


@pytest.fixture
def network():
    return mild()


VARIABLE = [0, 1001, 1500, 4000, 4001, 9000, 9999, 20000]


def test_video_keeps_frames_stamps_and_sound(tmp_path, network):
    source = write_video(tmp_path / "in.mp4", pts=VARIABLE, audio=True)
    seen = []
    outcome = restore_file(
        source, tmp_path / "out.mp4", network, 3, on_progress=lambda p: seen.append(p.done)
    )
    assert outcome == Outcome(8)
    assert seen == list(range(9))
    assert stamps_of(tmp_path / "out.mp4") == stamps_of(source)
    assert audio_packets(tmp_path / "out.mp4") == audio_packets(source)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_package_that_was_never_installed_restores_too(tmp_path, network, monkeypatch):
    """For example from a folder on PYTHONPATH, where no version is known."""

    def unknown(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", unknown)
    source = write_video(tmp_path / "in.mp4", frames=2)
    assert restore_file(source, tmp_path / "out.mp4", network, 1) == Outcome(2)


def test_window_all_reads_twice_and_reports_both_passes(tmp_path, network):
    source = write_video(tmp_path / "in.mp4", pts=VARIABLE, audio=True)
    seen = []
    outcome = restore_file(source, tmp_path / "out.mp4", network, "all", on_progress=seen.append)
    assert outcome == Outcome(8)
    assert [(p.doing, p.done) for p in seen] == [
        (doing, done) for doing in ("watching", "restoring") for done in range(9)
    ]
    assert stamps_of(tmp_path / "out.mp4") == stamps_of(source)
    assert audio_packets(tmp_path / "out.mp4") == audio_packets(source)


def test_features_of_the_first_pass_serve_the_second(tmp_path, network, monkeypatch):
    """The result equals that of a run without kept features, byte for byte, and no file is left
    behind.
    """
    source = write_video(tmp_path / "in.mp4", frames=6)
    encoded = []
    encode = Tiler.encode
    monkeypatch.setattr(
        Tiler, "encode", lambda self, frame: encoded.append(1) or encode(self, frame)
    )
    restore_file(source, tmp_path / "kept.mp4", network, "all")
    assert len(encoded) == 6
    monkeypatch.setattr(store, "MOST_KEPT", 0)
    restore_file(source, tmp_path / "anew.mp4", network, "all")
    assert len(encoded) == 6 + 12
    assert (tmp_path / "kept.mp4").read_bytes() == (tmp_path / "anew.mp4").read_bytes()
    assert {entry.name for entry in tmp_path.iterdir()} == {"in.mp4", "kept.mp4", "anew.mp4"}


@pytest.mark.parametrize("window", [5, "all"])
def test_tiles_change_nothing_in_a_folder(tmp_path, network, window):
    source = write_frames(tmp_path / "frames", one_scene(4, 70, 90), torch.uint16)
    for name, tiling in (("whole", "off"), ("tiled", TileSize(24, 32))):
        restore_file(source, tmp_path / name, network, window, Settings(tiling=tiling))
    for number in range(4):
        whole, tiled = (
            read_image(tmp_path / name / f"{number:02}.png").int() for name in ("whole", "tiled")
        )
        assert (whole - tiled).abs().max() <= 1  # of 65535


def test_folder_to_video_is_refused_with_a_remedy(tmp_path, network):
    source = write_frames(tmp_path / "frames", [torch.rand(3, 8, 8)])
    with pytest.raises(OutputError, match=r"no frame rate.*'.*out'"):
        restore_file(source, tmp_path / "out.mp4", network, 1)


def test_a_window_larger_than_memory_is_told_before_the_work(tmp_path, network, monkeypatch):
    monkeypatch.setattr(stream, "physical_memory", lambda: 4 * 64 * 48 * 12)
    source = write_video(tmp_path / "in.mp4", frames=5)
    with pytest.raises(ConfigError, match="window is 9: buffering frames of 64x48"):
        restore_file(source, tmp_path / "out.mp4", network, 9)
    two_views = Settings(quality=QualityOptions(ensemble=2))
    with pytest.raises(ConfigError, match="window is 5: buffering frames of 64x48"):
        restore_file(source, tmp_path / "out.mp4", network, 5, two_views)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_file_that_appears_after_the_first_checks_is_not_replaced(tmp_path, network, monkeypatch):
    source, target = write_video(tmp_path / "in.mp4", frames=2), tmp_path / "out.mp4"

    def appears(path):
        target.write_text("mine")
        return fingerprints(path)

    monkeypatch.setattr(files, "fingerprints", appears)
    with pytest.raises(OutputError, match="already exists"):
        restore_file(source, target, network, 1)
    assert target.read_text() == "mine"


def test_output_inside_the_input_folder_is_refused(tmp_path, network):
    source = write_frames(tmp_path / "frames", [torch.rand(3, 8, 8)])
    (source / "out").mkdir()
    for target in (source, source / "out", source / "new"):
        with pytest.raises(OutputError, match="choose another output"):
            restore_file(source, target, network, 1, Settings(overwrite=True))


def test_an_error_midway_leaves_nothing(tmp_path, network, monkeypatch):
    source = write_video(tmp_path / "in.mp4")
    breaks = failing_after(4, KeyboardInterrupt(), frames.add_change)
    monkeypatch.setattr(frames, "add_change", breaks)
    with pytest.raises(KeyboardInterrupt):
        restore_file(source, tmp_path / "out.mp4", network, 3, Settings(compare="side"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.mp4"]


def test_a_clip_that_breaks_off_leaves_nothing(tmp_path, network):
    source = write_video(tmp_path / "in.mkv", frames=40, size=(128, 96))
    contents = bytearray(source.read_bytes())
    (tmp_path / "cut.mkv").write_bytes(contents[:600])
    with pytest.raises(InputError, match=r"cut\.mkv"):
        restore_file(tmp_path / "cut.mkv", tmp_path / "out.mkv", network, 3)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cut.mkv", "in.mkv"]


def test_frames_that_cannot_be_right_are_given_as_they_came(tmp_path):
    source, notes = write_video(tmp_path / "in.mkv", codec="ffv1", frames=4), []
    wild = awake()  # changes too much to be plausible
    outcome = restore_file(source, tmp_path / "out.mkv", wild, 3, on_note=notes.append)
    assert outcome == Outcome(4, untouched=4)
    assert any("4 frames are left unchanged" in note for note in notes)
    with VideoReader(source) as one, VideoReader(tmp_path / "out.mkv") as two:
        for before, after in zip(one, two, strict=True):
            assert torch.equal(before.planes.y, after.planes.y)
            assert torch.equal(before.planes.u, after.planes.u)
