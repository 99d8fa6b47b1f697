"""Where results may be written: never over an input, and never over each other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from unsmear.errors import OutputError
from unsmear.restoration.paths import (
    check_apart,
    check_paths,
    compare_path,
    holds_frames,
    is_folder,
    is_there,
    results_among,
)
from unsmear.restoration.settings import Settings
from unsmear.restoration.work import work_path


def test_only_suffixes_of_videos_and_pictures_make_a_file(tmp_path):
    for name in ("sharp", "v1.0_sharp", "out.d"):
        assert is_folder(tmp_path / name)
        assert compare_path(tmp_path / name).name == f"{name}_compare"
    for name in ("a.mp4", "A.MKV", "a.avi", "a.gif", "a.png"):
        assert not is_folder(tmp_path / name)
    (tmp_path / "odd.mp4").mkdir()
    assert is_folder(tmp_path / "odd.mp4")


def test_a_slip_in_a_videos_suffix_makes_no_folder(tmp_path):
    source = tmp_path / "in.mp4"
    source.touch()
    with pytest.raises(OutputError, match="suffix must be one of"):
        check_paths(source, tmp_path / "out.mp5", Settings())
    (tmp_path / "out.d").mkdir()
    check_paths(source, tmp_path / "out.d", Settings())
    pictures = tmp_path / "v1.0"
    pictures.mkdir()
    check_paths(pictures, tmp_path / "v1.0_sharp", Settings())


def test_results_are_told_by_their_names_where_what_they_are_of_is_there(tmp_path):
    clips = [
        Path(name)
        for name in ("a.mp4", "a.mov", "a.sharp.mp4", "a.sharp.mkv", "a.sharp.compare.mp4",
                     "a.sharp.sharp.mp4", "x/a.sharp.mp4", "b.sharp.mp4", "a_sharp.mp4", "a.b.mp4",
                     "c", "c_sharp", "c_sharp_compare", "d_sharp", "c.sharp.mp4")
    ]  # fmt: skip
    assert {str(result): str(of) for result, of in results_among(clips).items()} == {
        "a.sharp.mp4": "a.mov",
        "a.sharp.mkv": "a.mov",
        "a.sharp.compare.mp4": "a.mov",
        "a.sharp.sharp.mp4": "a.sharp.mkv",
        "c_sharp": "c",
        "c_sharp_compare": "c",
    }


def test_a_result_is_there_when_all_of_it_has_its_name(tmp_path):
    target, compared = tmp_path / "a.mp4", tmp_path / "a.compare.mp4"
    assert not is_there([target])
    target.touch()
    assert is_there([target])
    assert not is_there([target, compared])
    compared.touch()
    assert is_there([target, compared])
    work_path(target).mkdir()
    assert is_there([target, compared])
    (work_path(target) / "publishing").touch()
    assert not is_there([target, compared])
    (tmp_path / "pictures").mkdir()
    assert not is_there([tmp_path / "pictures"])
    (tmp_path / "pictures" / "0.png").touch()
    assert is_there([tmp_path / "pictures"])


def test_a_folder_of_frames_is_told_by_its_first_one_or_by_a_run_that_is_not_finished(tmp_path):
    folders = tmp_path / "made", tmp_path / "begun", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
        (folder / "notes.txt").touch()
    (folders[0] / "000000.png").touch()
    work_path(folders[1]).mkdir()
    (work_path(folders[1]) / "publishing").touch()
    assert [holds_frames(folder) for folder in folders] == [True, True, False]


@pytest.mark.parametrize("target", [Path(), Path(".."), Path("x/.."), Path("/")])
def test_a_folder_without_a_name_of_its_own_is_refused(tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    Path("in.mp4").touch()
    Path("x").mkdir()
    with pytest.raises(OutputError, match="add the name"):
        check_paths(Path("in.mp4"), target, Settings(compare="side", overwrite=True))


def test_results_stay_apart_from_inputs_and_each_other(tmp_path, monkeypatch):
    a, b, frames = (tmp_path / name for name in ("a.mp4", "b.mp4", "frames"))
    a.touch()
    b.touch()
    frames.mkdir()
    link, hard = tmp_path / "link.mp4", tmp_path / "hard.mp4"
    link.symlink_to(b)
    hard.hardlink_to(b)
    out = tmp_path / "o.mp4"
    check_apart([(a, [out]), (b, [tmp_path / "p.mp4", tmp_path / "p.compare.mp4"])])
    for over in (b, link, hard, tmp_path / "frames" / ".." / "b.mp4"):
        with pytest.raises(OutputError, match=r"result of '.*a\.mp4', would overwrite.*'.*b\.mp4'"):
            check_apart([(a, [over]), (b, [out])])
        with pytest.raises(OutputError, match="would overwrite"):
            check_apart([(a, [out, over]), (b, [tmp_path / "p.mp4"])])
    with pytest.raises(OutputError, match=r"lie in '.*frames'"):
        check_apart([(a, [frames / "a.preview.png"]), (frames, [tmp_path / "frames_sharp"])])
    check_apart([(a, [out]), (b, [tmp_path / "O.mp4"])])
    monkeypatch.setattr(sys, "platform", "darwin")  # capitals do not count
    for twice in (out, frames / ".." / "o.mp4", tmp_path / "O.mp4"):
        with pytest.raises(OutputError, match=r"a\.mp4' and '.*b\.mp4' would both become"):
            check_apart([(a, [out]), (b, [tmp_path / "p.mp4", twice])])
    with pytest.raises(OutputError, match="both become"):
        check_apart([(a, [out]), (a, [out])])
