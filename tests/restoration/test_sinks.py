"""Videos and folders as results: what is written, and which parts of an earlier run count."""

from __future__ import annotations

import dataclasses
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from tests.conftest import (
    disk_full,
    failing_after,
    mild,
    one_scene,
    stamps_of,
    write_frames,
    write_video,
)
from tests.restoration.conftest import ALONE, PowerCut, broken_off, contents
from unsmear.clip import Frame
from unsmear.errors import EncodeError, OutputError
from unsmear.restoration import sinks
from unsmear.restoration.files import Outcome, restore_file
from unsmear.restoration.frames import Restored
from unsmear.restoration.paths import compare_path
from unsmear.restoration.preview import write_preview
from unsmear.restoration.settings import Settings, Span
from unsmear.video.encoding import ENCODERS, EncodeChoice
from unsmear.video.folder import FolderReader
from unsmear.video.images import integer_from_unit, read_image, write_image
from unsmear.video.orientation import UPRIGHT

MS = Fraction(1, 1000)

pytestmark = pytest.mark.usefixtures("short_parts")


@pytest.fixture
def network():
    return mild()


def test_folder_keeps_names_and_sizes(tmp_path, network):
    source = tmp_path / "frames"
    source.mkdir()
    for name in ("0001", "0002", "0007"):
        write_image(source / f"{name}.png", integer_from_unit(torch.rand(3, 13, 21)))
    restore_file(source, tmp_path / "out", network, 3, Settings(compare="side"))
    assert [f.name for f in FolderReader(tmp_path / "out")] == ["0001", "0002", "0007"]
    assert read_image(tmp_path / "out" / "0001.png").shape == (3, 13, 21)
    assert read_image(tmp_path / "out_compare" / "0001.png").shape == (3, 13, 42)


def test_folder_of_16_bit_pictures_stays_16_bit(tmp_path, network):
    source = write_frames(tmp_path / "frames", [torch.rand(3, 8, 8)], torch.uint16)
    restore_file(source, tmp_path / "out", network, 1)
    assert read_image(tmp_path / "out" / "00.png").dtype == torch.uint16


def test_a_video_becomes_numbered_images_in_a_folder(tmp_path, network):
    source = write_video(tmp_path / "in.mp4", frames=3)
    restore_file(source, tmp_path / "out", network, 1)
    names = sorted(entry.name for entry in (tmp_path / "out").iterdir())
    assert names == ["000000.png", "000001.png", "000002.png"]
    assert read_image(tmp_path / "out" / "000000.png").dtype == torch.uint8


def test_pictures_of_a_deep_video_are_deep_and_what_they_lack_is_told(tmp_path, network):
    source, notes = tmp_path / "in.mkv", []
    options = {"pixel_format": "yuv420p10le", "tags": (1, 9, 16, 9), "audio": True}
    write_video(source, frames=2, codec="ffv1", **options)
    restore_file(source, tmp_path / "out", network, 1, on_note=notes.append)
    picture = read_image(tmp_path / "out" / "000001.png")
    assert picture.dtype == torch.uint16
    assert (picture.int() % 257).any()  # more than 8 bits, expanded to 16
    (sound, hdr) = notes
    assert (
        f"which has no sound: for a video, give a file name, such as '{tmp_path / 'out'}.mp4'"
        in sound
    )
    assert "HDR (PQ)" in hdr


@pytest.mark.parametrize("compare", [None, "side", "wipe"])
def test_pictures_of_a_turned_video_are_upright(tmp_path, compare):
    source, notes = write_video(tmp_path / "in.mp4", rotation=90, frames=2), []
    settings = Settings(compare=compare)
    restore_file(source, tmp_path / "out", mild(), 1, settings, on_note=notes.append)
    assert (
        notes[0] == "images are rotated by 90 degrees anticlockwise, as players display the video"
    )
    assert read_image(tmp_path / "out" / "000000.png").shape == (3, 64, 48)
    if compare:
        shape = read_image(tmp_path / "out_compare" / "000000.png").shape
        assert shape == (3, 64, 96 if compare == "side" else 48)
    write_preview(source, tmp_path / "p.png", mild(), 1, Settings())
    height, width = read_image(tmp_path / "p.png").shape[-2:]
    assert height > width


@pytest.mark.parametrize("step", ["assemble", "publish"])
def test_broken_off_while_the_file_is_put_together(tmp_path, network, monkeypatch, step):
    source = write_video(tmp_path / "in.mp4", frames=9)
    settings = Settings(compare="side")
    whole, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    restore_file(source, whole, network, 3, settings)
    breaks = failing_after(0 if step == "assemble" else 1, PowerCut(), getattr(sinks, step))
    with monkeypatch.context() as patched:
        patched.setattr(sinks, step, breaks)
        with pytest.raises(PowerCut):
            restore_file(source, target, network, 3, settings)
    assert target.exists() == (step == "publish")
    assert restore_file(source, target, network, 3, settings) == Outcome(9, resumed=9)
    assert contents(target) == contents(whole)
    assert contents(compare_path(target)) == contents(compare_path(whole))


def test_a_part_counts_once_every_file_has_it(tmp_path, network, monkeypatch):
    source, target = write_video(tmp_path / "in.mkv", frames=6), tmp_path / "out.mkv"
    settings = dataclasses.replace(ALONE, compare="side")
    with monkeypatch.context() as patched:  # the comparison lacks the first part
        breaks = failing_after(1, PowerCut(), sinks.SpoolWriter.finish)
        patched.setattr(sinks.SpoolWriter, "finish", breaks)
        with pytest.raises(PowerCut):
            restore_file(source, target, network, 1, settings)
    assert restore_file(source, target, network, 1, settings) == Outcome(6)
    assert len(stamps_of(target)) == len(stamps_of(compare_path(target))) == 6


def test_pictures_may_come_and_go_between_two_runs(tmp_path, network):
    source, target = tmp_path / "frames", tmp_path / "out"
    write_frames(source, one_scene(13, 24, 32))
    for number in range(8, 13):
        (source / f"{number:02}.png").rename(tmp_path / f"{number:02}.png")
    broken_off(source, target, network, 1, ALONE, 8)  # frame 7 was the last one then
    for number in range(8, 13):
        (tmp_path / f"{number:02}.png").rename(source / f"{number:02}.png")
    broken_off(source, target, network, 1, ALONE, 7)  # the first part is kept
    (source / "09.png").unlink()  # restored already, in an incomplete part
    assert restore_file(source, target, network, 1, ALONE) == Outcome(12, resumed=8)
    restore_file(source, tmp_path / "whole", network, 1, ALONE)
    assert contents(target) == contents(tmp_path / "whole")


def test_results_whose_names_the_disk_spells_in_its_own_way_are_kept(tmp_path, monkeypatch):
    """As disks of macOS do, with an é of two characters."""
    monkeypatch.setattr(sys, "platform", "darwin")
    sink = sinks.FolderSink(
        tmp_path / "out", tmp_path, torch.uint8, 16, compare=None, turn=None,
        sources=[("\u00e9.jpg", 1, 1)], after=0,
    )  # fmt: skip
    (tmp_path / "sharp-pictures").mkdir()
    for name in ("e\u0301.png", "gone.png"):
        (tmp_path / "sharp-pictures" / name).touch()
    sink.finish(1)
    assert [file.name for file in (tmp_path / "sharp-pictures").iterdir()] == ["e\u0301.png"]


def test_what_a_container_refuses_is_told_before_the_work(tmp_path, network, monkeypatch):
    """The table of encoders has a wrong row here."""
    row = ENCODERS["vp9"]
    wrong = dataclasses.replace(row, containers=row.containers | {".mov"})
    monkeypatch.setitem(ENCODERS, "vp9", wrong)
    source, target = write_video(tmp_path / "in.mp4", frames=2), tmp_path / "out.mov"
    done, choice = [], EncodeChoice(codec="vp9")
    with pytest.raises(EncodeError, match=r"out\.mov'.*cannot hold vp9.*--codec"):
        restore_file(source, target, network, 3, Settings(encode=choice), on_progress=done.append)
    assert done == []
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.usefixtures("files_stay_in_use")
def test_an_end_that_comes_later_leaves_out_what_is_done_beyond_it(tmp_path, network):
    source, target = write_video(tmp_path / "in.mkv", frames=14), tmp_path / "out.mkv"
    broken_off(source, target, network, 3, Settings(), 13)
    ended = Settings(span=Span(end=Fraction(1, 5)))  # after six frames
    assert restore_file(source, target, network, 3, ended) == Outcome(6, resumed=4)
    restore_file(source, tmp_path / "whole.mkv", network, 3, ended)
    assert contents(target) == contents(tmp_path / "whole.mkv")


@pytest.mark.parametrize(("end", "resumed"), [(7, 4), (8, 8)])
def test_an_end_is_a_moment_at_which_nothing_is_shown_any_more(tmp_path, network, end, resumed):
    """Parts have four frames. A frame that begins exactly at the end is outside, and so is its
    part.
    """
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_video(source, pts=[*range(10)], time_base=Fraction(1, 25))
    broken_off(source, target, network, 1, ALONE, 9)
    ended = dataclasses.replace(ALONE, span=Span(end=Fraction(end, 25)))
    assert restore_file(source, target, network, 1, ended) == Outcome(end, resumed=resumed)


@pytest.mark.parametrize(
    ("durations", "later"),
    [([40] * 7 + [500, 40], True), ([8] * 4 + [40] * 7 + [500, 40], False)],
)
def test_a_long_frame_is_shortened_to_the_end_wherever_work_went_on(
    tmp_path, network, durations, later
):
    """It may be the last of a part that was done when there was no end, or much longer than frames
    that an earlier run has seen.
    """
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    stamps = [sum(durations[:number]) for number in range(len(durations) + 1)]
    write_video(source, pts=stamps, time_base=MS)
    end = (stamps[durations.index(500)] + 20) * MS
    ended = dataclasses.replace(ALONE, span=Span(end=end))
    restore_file(source, tmp_path / "whole.mkv", network, 1, ended)
    broken_off(source, target, network, 1, ALONE if later else ended, 9)
    assert restore_file(source, target, network, 1, ended).resumed >= 4
    assert contents(target) == contents(tmp_path / "whole.mkv")


def test_a_full_disk_is_told_of_the_picture_that_users_know(tmp_path, monkeypatch):
    (tmp_path / "hidden").mkdir()
    sink = sinks.FolderSink(
        tmp_path / "out", tmp_path / "hidden", torch.uint8, 4, compare=None, turn=UPRIGHT,
        sources=(), after=0,
    )  # fmt: skip
    rgb = torch.zeros(3, 8, 8)
    monkeypatch.setattr(Path, "write_bytes", disk_full)
    sink.begin(0)
    with pytest.raises(OutputError, match=r"/out/a\.png': No space left"):
        sink.put(Restored(Frame(rgb, Fraction(0), name="a"), rgb, None))
