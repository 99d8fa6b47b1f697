"""Where files may be written; they are complete or absent."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from tests.conftest import disk_full
from unsmear import outputs
from unsmear.errors import OutputError
from unsmear.outputs import (
    atomic_file,
    check_file,
    commit_text,
    hidden_folder,
    hidden_name,
    is_free,
    lies_in,
    spelling_key,
    write_text,
)


def test_a_file_is_whole_or_not_there(tmp_path):
    target = tmp_path / "r.json"
    write_text(target, "first")

    with pytest.raises(OutputError, match=r"cannot write '.*r\.json': No space left"):  # noqa: SIM117
        with atomic_file(target) as partial:
            partial.write_text("sec")
            assert target.read_text() == "first"
            disk_full()
    with pytest.raises(KeyboardInterrupt), atomic_file(target) as partial:
        partial.write_text("sec")
        raise KeyboardInterrupt
    with (
        pytest.raises(OutputError, match=r"^an encoder refuses '[^']*/r\.json'$"),
        atomic_file(target) as partial,
    ):
        raise OutputError(f"an encoder refuses '{partial}'")
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]
    write_text(target, "second")
    assert target.read_text() == "second"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_gets_its_name_once_the_disk_has_it(tmp_path, monkeypatch):
    """Otherwise a power cut could leave an empty file under the name."""
    target, done = tmp_path / "r.json", []
    fsync, replace = os.fsync, os.replace

    def synced(handle):
        done.append(("on disk", os.fstat(handle).st_size))
        fsync(handle)

    def renamed(source, target):
        done.append(("named", source.stat().st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_text(target, "whole")
    assert done == [("on disk", 5), ("named", 5)]
    done.clear()
    commit_text(target, "mark")
    assert done == [("on disk", 4), ("named", 4)]
    assert target.read_text() == "mark"
    assert list(tmp_path.iterdir()) == [target]


def test_windows_is_asked_again_while_a_file_is_in_use(tmp_path, monkeypatch):
    """By a virus scanner, for one. Elsewhere a refusal is for good."""
    usual, waited = os.replace, []

    def used(path, place):
        if len(waited) < 2:
            raise PermissionError(errno.EACCES, "in use")
        usual(path, place)

    monkeypatch.setattr(os, "replace", used)
    monkeypatch.setattr(outputs.time, "sleep", waited.append)
    with pytest.raises(OutputError, match="in use"):
        write_text(tmp_path / "a", "text")
    monkeypatch.setattr(sys, "platform", "win32")
    write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"
    assert len(waited) == 2


@pytest.mark.skipif(os.name == "nt", reason="no such files there")
def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)
    assert pipe.is_fifo()
    monkeypatch.setattr(os, "access", lambda *_: False)  # to the folder, as to /dev
    check_file(pipe)
    with pytest.raises(OutputError, match="no permission"):
        check_file(tmp_path / "file")
    monkeypatch.setattr("pathlib.Path.is_file", lambda _: True)  # as redirected to a file
    with pytest.raises(OutputError, match="'/dev/stdout' leads to a file"):
        check_file(Path("/dev/stdout"))


@pytest.mark.parametrize("name", ["a.mp4", "x" * 251 + ".mp4", "é" * 125 + ".mp4"])
def test_hidden_names_are_legal_and_each_its_own(tmp_path, name):
    hidden = hidden_name(name, ".unsmear")
    assert hidden.startswith("." + name[:4])
    assert hidden.endswith(".unsmear")
    (tmp_path / hidden).touch()
    assert hidden_name(name, ".unsmear") == hidden != hidden_name("y" + name[1:], ".unsmear")
    assert hidden_name(name[:-5] + "z.mp4", ".unsmear") != hidden
    write_text(tmp_path / name, "fits")
    (tmp_path / "usual").mkdir()
    assert hidden_folder(tmp_path / name).stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_names_that_differ_in_capitals_are_one_where_these_do_not_count(tmp_path, monkeypatch):
    """On macOS, whose real paths have the capitals that were given; a link stands for such a
    name.
    """
    (tmp_path / "Frames").mkdir()
    (tmp_path / "frames").symlink_to("Frames", target_is_directory=True)
    monkeypatch.setattr(outputs, "real_path", lambda path: path)
    assert lies_in(tmp_path / "frames" / "new.png", tmp_path / "Frames")
    assert not lies_in(tmp_path / "new.png", tmp_path / "Frames")
    assert spelling_key("É.png") != spelling_key("e\u0301.png")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert spelling_key("É.png") == spelling_key("e\u0301.png")


def test_files_without_inode_numbers_are_not_all_one(tmp_path, monkeypatch):
    (tmp_path / "in.mp4").touch()
    usual = os.stat

    def numberless(*arguments, **named):
        status = usual(*arguments, **named)
        return os.stat_result((status.st_mode, 0, *status[2:]))

    monkeypatch.setattr(os, "stat", numberless)
    assert not lies_in(tmp_path / "out.mp4", tmp_path / "in.mp4")
    assert lies_in(tmp_path / "in.mp4", tmp_path / "in.mp4")


def test_files_that_cannot_be_written_are_refused_beforehand(tmp_path):
    folder = tmp_path / "frames"
    (folder / "deep").mkdir(parents=True)
    clip = tmp_path / "clip.mp4"
    clip.write_text("precious")
    (tmp_path / "link.png").symlink_to(clip)
    (tmp_path / "twin.png").hardlink_to(clip)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    inputs = [folder, clip, None, tmp_path / "circle"]
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    for path, message in (
        (tmp_path / "no" / "p.png", "no folder"),
        (clip / "p.png", "no folder"),
        (tmp_path / "p.txt", "suffix must be one of .png"),
        (tmp_path / "p", "suffix must be one of .png"),
        (folder / "p.png", r"is the input"),
        (folder / "deep" / ".." / "p.png", r"is the input"),
        (tmp_path / "link.png", r"is the input"),
        (tmp_path / "twin.png", r"is the input"),
        (tmp_path / "nowhere.png", "broken link"),
        (tmp_path / ("x" * 300 + ".png"), "cannot write"),
    ):
        with pytest.raises(OutputError, match=message):
            check_file(path, inputs=inputs, suffixes=(".png",))
    for path, message in (
        (folder, "is a folder"),
        (tmp_path.relative_to(tmp_path), "is a folder"),
        (clip, "add --overwrite"),
    ):
        with pytest.raises(OutputError, match=message):
            check_file(path, overwrite=False)
    check_file(tmp_path / "p.PNG", inputs=inputs, suffixes=(".png",))
    check_file(clip, overwrite=True)


def test_what_is_free_is_not_there_or_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    places = (tmp_path / "gone", tmp_path / "empty", tmp_path / "file", tmp_path)
    assert [is_free(place) for place in places] == [True, True, False, False]
