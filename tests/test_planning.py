"""Which clip becomes which result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unsmear.errors import ConfigError, InputError
from unsmear.planning import plan_jobs, told_skipped
from unsmear.video.images import write_image


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.avi"):
        Path(name).touch()
    for name in ("pictures", "empty", "kept", "frames"):
        Path(name).mkdir()
    Path("pictures/1.png").touch()
    Path("kept/notes.txt").touch()
    Path("frames/000000.png").touch()


def planned(*clips, **options):
    plan = plan_jobs([Path(clip) for clip in clips], **options)
    return [str(target) for _, target in plan.jobs]


@pytest.mark.parametrize(
    ("output", "inside", "preview", "wanted"),
    [
        ("new", False, False, "new"),  # a folder of images
        ("new", True, False, "new/b.mkv"),
        ("empty", False, False, "empty/b.mkv"),
        ("kept", False, False, "kept/b.mkv"),
        ("frames", False, False, "frames"),  # images from a video, made before
        ("frames", True, False, "frames/b.mkv"),
        ("o.mp4", False, False, "o.mp4"),
        ("kept", False, True, "kept/b.preview.png"),
        ("new", True, True, "new/b.preview.png"),
        ("p.png", False, True, "p.png"),
    ],
)
def test_one_clip_goes_into_a_folder_as_several_do(output, inside, preview, wanted):
    options = {"output": Path(output), "inside": inside, "preview": preview}
    assert planned("b.avi", **options) == [wanted]


def test_a_folder_of_pictures_becomes_the_folder_that_is_named():
    for output in ("new", "empty", "kept"):
        assert planned("pictures", output=Path(output), inside=True) == [output]
    assert planned("pictures", "a.mp4", output=Path("new")) == ["new/pictures", "new/a.mp4"]
    Path("c.avi").mkdir()  # a name that would stand for a file
    assert planned("pictures", "c.avi", output=Path("new")) == ["new/pictures", "new/c.avi_sharp"]
    Path("made/c.avi").mkdir(parents=True)
    assert planned("pictures", "c.avi", output=Path("made")) == ["made/pictures", "made/c.avi"]
    with pytest.raises(ConfigError, match=r"must end in \.png"):
        planned("a.mp4", output=Path("new"), preview=True)


def test_what_a_folder_of_clips_holds_beside_them_is_named():
    folder = Path("clips")
    folder.mkdir()
    with pytest.raises(InputError, match="no files with the suffix of a video"):
        plan_jobs([Path("kept")], None)
    for name in ("a.mp4", "b.3g2", "c.VOB", "d.mxf", "e.gif", "a.preview.png", "f.srt", ".g.txt"):
        (folder / name).touch()
    plan = plan_jobs([folder], Path("o"))
    assert [target.name for _, target in plan.jobs] == [
        "a.mp4", "b.mkv", "c.mkv", "d.mkv", "e.mkv",
    ]  # fmt: skip
    assert plan.unknown == {folder: [folder / "f.srt"]}
    Path("pictures/moving.gif").touch()
    plan = plan_jobs([Path("pictures")], None)
    assert plan.jobs == [(Path("pictures"), Path("pictures_sharp"))]
    assert plan.unknown == {Path("pictures"): [Path("pictures/moving.gif")]}


def test_results_among_clips_are_passed_over_unless_nothing_is_made_of_their_names():
    Path("a.sharp.mp4").touch()
    clips = "a.mp4", "a.sharp.mp4"
    assert planned(*clips, output=None) == ["a.sharp.mp4"]
    assert planned(*clips, output=None, overwrite=True) == ["a.sharp.mp4", "a.sharp.sharp.mp4"]
    assert planned(*clips, output=None, preview=True) == ["a.preview.png", "a.sharp.preview.png"]


def test_of_many_files_that_are_passed_over_five_are_named():
    told = told_skipped([Path(f"clips/{name}.txt") for name in "abcdefg"])
    assert told.startswith("skipped: 'a.txt', 'b.txt', 'c.txt', 'd.txt', 'e.txt', 2 more; if")


def test_results_lie_where_the_clip_was_named(monkeypatch):
    """Beside a link and under its name. The folder `.` has a name too."""
    here = Path.cwd()
    Path("here").mkdir()
    Path("here/c.mp4").symlink_to("../a.mp4")
    Path("here/mine").symlink_to("../pictures")
    assert planned("here/c.mp4", output=None) == ["here/c.sharp.mp4"]
    assert planned("here/c.mp4", output=None, preview=True) == ["here/c.preview.png"]
    assert planned("here/mine", output=None) == ["here/mine_sharp"]
    for name in (".", "../pictures", "here/../pictures/../pictures/."):
        monkeypatch.chdir(here / "pictures" if name.startswith(".") else here)
        (target,) = planned(name, output=None)
        assert Path(target).resolve() == here / "pictures_sharp"


def test_a_picture_is_no_clip():
    write_image(Path("p.png"), torch.zeros(3, 8, 8, dtype=torch.uint8))
    for output in (None, Path("new")):
        with pytest.raises(InputError, match=r"'p\.png' is an image: put images into a folder"):
            planned("p.png", "a.mp4", output=output)
    assert planned("p.png", output=Path("new")) == ["new"]
    assert planned("p.png", output=None, preview=True) == ["p.preview.png"]
