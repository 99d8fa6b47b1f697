"""The folder in which a result grows: its owner and its job, and what another job finds there."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from filelock import FileLock

from tests.conftest import (
    SMALL,
    disk_full,
    failing_after,
    mild,
    one_scene,
    stamps_of,
    write_frames,
    write_video,
)
from tests.restoration.conftest import ALONE, PowerCut, broken_off
from unsmear.engines.base import TorchEngine
from unsmear.errors import OutputError
from unsmear.outputs import NO_LOCKS
from unsmear.restoration import files, sinks
from unsmear.restoration.files import Outcome, restore_file
from unsmear.restoration.paths import compare_path, is_there
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.settings import Settings, Span
from unsmear.restoration.work import WorkFolder, work_path
from unsmear.video.encoding import ENCODERS, EncodeChoice

pytestmark = pytest.mark.usefixtures("short_parts")


@pytest.fixture
def network():
    return mild()


@pytest.mark.parametrize("code", sorted(NO_LOCKS))
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, code):
    def missing(*_):
        raise OSError(code, "no locks")

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", missing)
    with pytest.raises(OutputError, match=r"'.*out\.mkv': .* has no file locks.*choose an output"):
        WorkFolder(tmp_path / "out.mkv", {}).__enter__()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be removed there")
def test_a_lock_is_gone_before_it_is_free(tmp_path, monkeypatch):
    """Otherwise a waiting run would lock a file that the next run does not see."""
    there, original = [], FileLock.release

    def release(lock, force=False):
        there.append(Path(lock.lock_file).exists())
        original(lock, force)

    with WorkFolder(tmp_path / "out.mkv", {}):
        monkeypatch.setattr(FileLock, "release", release)
    assert there[0] is False


def test_two_runs_do_not_write_one_file(tmp_path, network):
    source, target = write_video(tmp_path / "in.mp4", frames=3), tmp_path / "out.mp4"
    with (
        WorkFolder(target, {}),
        pytest.raises(OutputError, match="another run is writing"),
    ):
        restore_file(source, target, network, 3)
    restore_file(source, target, network, 3)


class Elsewhere(TorchEngine):
    """Reports another device."""

    device = torch.device("cuda")


@pytest.mark.parametrize("window", [3, "all"])
def test_all_that_decides_a_result_is_part_of_the_job(tmp_path, network, monkeypatch, window):
    """Every change that affects the result makes another job; one that does not makes the same."""
    source, target, jobs = write_video(tmp_path / "in.mp4", frames=3), tmp_path / "out.mp4", []

    class Told(BaseException):
        """Stops the run when the job is known, before any work."""

    def told(_target, job):
        jobs.append(json.dumps(WorkFolder(target, job)._job))
        raise Told

    def ask(model=network, window=window, settings=Settings(), source=source):
        with monkeypatch.context() as patched, pytest.raises(Told):
            patched.setattr(files, "WorkFolder", told)
            restore_file(source, target, model, window, settings)

    ask()
    ask(settings=Settings(overwrite=True))
    assert jobs.pop() == jobs[0]
    for crf in (np.int64(30), 30):
        ask(settings=Settings(encode=EncodeChoice(crf=crf)))
    assert jobs.pop() == jobs[1]
    ask(window=5)
    for settings in (
        Settings(strength=0.5), Settings(compare="wipe"), Settings(span=Span(end=Fraction(1, 20))),
        Settings(quality=QualityOptions(burst=0)),
    ):  # fmt: skip
        ask(settings=settings)
    engine = TorchEngine(network)
    for name, value in (("name", "other"), ("threads", engine.threads + 1)):
        with monkeypatch.context() as patched:
            patched.setattr(engine, name, value)
            ask(model=engine)
    ask(model=Elsewhere(network))
    for module, name, value in (
        (files, "__version__", "0"), (av, "__version__", "0"), (torch, "__version__", "0"),
        (cv2, "__version__", "0"), (files, "_PART_FRAMES", (5, 5)),
    ):  # fmt: skip
        with monkeypatch.context() as patched:
            patched.setattr(module, name, value)
            ask()
    for changed in ({"crf": 40}, {"options": {"preset": "slow"}}):
        with monkeypatch.context() as patched:
            row = dataclasses.replace(ENCODERS["h264"], **changed)
            patched.setitem(ENCODERS, "h264", row)
            ask()
    network.head.bias.add_(0.001)
    ask()
    network.head.bias.sub_(0.001)
    moment = source.stat().st_mtime_ns + 1_000_000_000  # as of another file of the same size
    os.utime(source, ns=(moment, moment))
    ask()
    with source.open("ab") as file:  # as of another file of the same time
        file.write(b"more")
    os.utime(source, ns=(moment, moment))
    ask()
    (tmp_path / "elsewhere").mkdir()
    ask(source=Path(shutil.copy2(source, tmp_path / "elsewhere" / source.name)))
    assert len(set(jobs)) == len(jobs)


@pytest.mark.parametrize("change", ["image", "end", "end in a folder"])
def test_what_changes_every_part_starts_over(tmp_path, network, change):
    """Another image or an end, if the window is the whole scene; an end, if images are written."""
    settings, window, frames = ALONE, 1 if change == "end in a folder" else "all", 6
    if change == "image":
        source, target = write_frames(tmp_path / "in", one_scene(9, 16, 24)), tmp_path / "out"
    else:
        source = write_video(tmp_path / "in.mkv", frames=9)
        target = tmp_path / ("out.mkv" if window == "all" else "out")
    broken_off(source, target, network, window, settings, 7 + (10 if window == "all" else 0))
    if change == "image":
        shutil.copy(source / "08.png", source / "09.png")
        frames = 10
    else:
        settings = dataclasses.replace(ALONE, span=Span(end=Fraction(1, 5)))  # after six frames
    assert restore_file(source, target, network, window, settings) == Outcome(frames)
    assert target.is_file() or len(list(target.iterdir())) == frames


@pytest.mark.parametrize("window", [1, 3])
def test_broken_off_while_the_work_folder_is_removed(tmp_path, network, monkeypatch, window):
    """At the start of another job, or at the end of this one: marks of parts may outlast their
    images.
    """
    source, target = write_frames(tmp_path / "frames", one_scene(6, 16, 24)), tmp_path / "out"
    broken_off(source, target, network, 1, ALONE, 5)
    original = shutil.rmtree

    def breaks(path, **_):
        original(path / "sharp-pictures", ignore_errors=True)
        raise PowerCut

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", breaks)
        with pytest.raises(PowerCut):
            restore_file(source, target, network, window, ALONE)
    assert work_path(target).exists()
    if window == 1:  # all was done
        assert is_there([target])
        with pytest.raises(OutputError, match="already exists"):
            restore_file(source, target, network, 1, ALONE)
    else:
        assert restore_file(source, target, network, 1, ALONE) == Outcome(6)
    assert len(list(target.iterdir())) == 6


@pytest.mark.parametrize("what", ["network", "source"])
def test_another_job_starts_over(tmp_path, network, what):
    source, target = write_video(tmp_path / "in.mp4", frames=9), tmp_path / "out.mp4"
    broken_off(source, target, network, 3, Settings(), 6)
    if what == "network":
        network = mild(SMALL)
        network.head.bias.add_(0.001)
    else:
        write_video(source, frames=10)
    told = []
    outcome = restore_file(source, target, network, 3, on_note=told.append)
    assert outcome == Outcome(10 if what == "source" else 9)
    assert ["starts again" in note for note in told] == [True]


@pytest.mark.parametrize("begun", [False, True])
def test_a_disk_too_full_to_begin_leaves_what_there_was(tmp_path, network, monkeypatch, begun):
    source, target = write_video(tmp_path / "in.mp4", frames=9), tmp_path / "out.mp4"
    if begun:
        broken_off(source, target, network, 3, Settings(), 6)
    before = sorted(tmp_path.rglob("*"))

    def full(path, *arguments, **named):
        path.touch()
        disk_full()

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OutputError, match=r"out\.mp4': No space left"):
            restore_file(source, target, network, 3)
    after = sorted(tmp_path.rglob("*"))
    assert [path for path in before if ".untouched" not in path.name] == [
        path for path in after if ".untouched" not in path.name
    ]
    assert restore_file(source, target, network, 3) == Outcome(9, resumed=4 if begun else 0)


def test_an_end_that_comes_later_replaces_a_file_that_was_put_together(
    tmp_path, network, monkeypatch
):
    """At the interruption, one of two files had been assembled."""
    source, target = write_video(tmp_path / "in.mkv", frames=9), tmp_path / "out.mkv"
    settings = Settings(compare="side")
    with monkeypatch.context() as patched:
        # It assembles the comparison, the second file.
        patched.setattr(sinks, "assemble", failing_after(0, PowerCut(), None))
        with pytest.raises(PowerCut):
            restore_file(source, target, network, 3, settings)
    assert list(work_path(target).glob("whole-sharp.*"))
    ended = Settings(compare="side", span=Span(end=Fraction(1, 5)))  # after six frames
    assert restore_file(source, target, network, 3, ended) == Outcome(6, resumed=4)
    assert len(stamps_of(target)) == len(stamps_of(compare_path(target))) == 6
