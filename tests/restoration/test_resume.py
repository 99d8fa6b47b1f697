"""Work that is interrupted at any moment resumes, and the result is bit-exact.

It crosses `files.py`, `work.py`, `sinks.py` and `stretch.py`. What one of the first three alone
decides is tested in the file of its name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from safetensors import SafetensorError

from tests.conftest import (
    TWO_ALIGNED,
    TWO_LEVELS,
    awake,
    disk_full,
    failing_after,
    mild,
    one_scene,
    write_frames,
    write_video,
)
from tests.restoration.conftest import ALONE, PowerCut, broken_off, contents
from tests.restoration.test_cuts import FASTER, walk
from unsmear.errors import DeviceMemoryError, EncodeError, InputError, MidwayError, OutputError
from unsmear.restoration import files, sinks
from unsmear.restoration.files import Outcome, restore_file
from unsmear.restoration.paths import compare_path
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.settings import Settings, Span, parse_time
from unsmear.restoration.work import work_path
from unsmear.video import writer
from unsmear.video.reader import VideoReader

FRAMES = 14

pytestmark = pytest.mark.usefixtures("short_parts")


@pytest.fixture
def network():
    return mild(TWO_LEVELS)


@pytest.mark.parametrize(
    ("window", "container", "settings"),
    [(3, "mp4", Settings()), (9, "mkv", ALONE), ("all", "mp4", ALONE)],
    ids=["3-mp4", "9-mkv", "all-mp4"],
)
def test_a_video_goes_on(tmp_path, network, window, container, settings):
    source = write_video(tmp_path / f"in.{container}", frames=FRAMES, audio=True)
    whole = tmp_path / f"whole.{container}"
    assert restore_file(source, whole, network, window, settings) == Outcome(FRAMES)
    for after in (1, 4, 9, FRAMES):
        target = tmp_path / f"out-{after}.{container}"
        begun = after + (FRAMES + 1 if window == "all" else 0)
        broken_off(source, target, network, window, settings, begun)
        outcome = restore_file(source, target, network, window, settings)
        assert outcome == Outcome(FRAMES, resumed=after // 4 * 4)
        assert contents(target) == contents(whole)
        assert not work_path(target).exists()


@pytest.mark.parametrize(
    ("quality", "window"),
    [
        (QualityOptions(ensemble=2, burst=1), 3),
        (QualityOptions(refine=1, burst=0), "all"),
        (QualityOptions(polish=True, reblur=True), 3),
    ],
    ids=["views", "again", "corrected"],
)
def test_ensembles_and_refinement_go_on(tmp_path, window, quality):
    network = mild(TWO_ALIGNED)
    source = write_video(tmp_path / "in.mkv", frames=FRAMES, size=(48, 32))
    settings, whole = Settings(quality=quality), tmp_path / "whole.mkv"
    restore_file(source, whole, network, window, settings)
    target = tmp_path / "out.mkv"
    broken_off(source, target, network, window, settings, 9 + (FRAMES + 1) * (window == "all"))
    assert restore_file(source, target, network, window, settings) == Outcome(FRAMES, resumed=8)
    assert contents(target) == contents(whole)
    restore_file(source, tmp_path / "once.mkv", network, window)
    assert contents(tmp_path / "once.mkv") != contents(whole)


@pytest.mark.parametrize("after", [6, 9, FRAMES])
def test_frames_given_as_they_came_are_counted_over_all_runs(tmp_path, after):
    source, notes = write_video(tmp_path / "in.mkv", frames=FRAMES), []
    wild, target = awake(), tmp_path / "out.mkv"  # changes too much to be plausible
    broken_off(source, target, wild, 3, ALONE, after)
    outcome = restore_file(source, target, wild, 3, ALONE, on_note=notes.append)
    assert outcome == Outcome(FRAMES, resumed=after // 4 * 4, untouched=FRAMES)
    assert any(f"{FRAMES} frames are left unchanged" in note for note in notes)


def test_broken_off_twice_and_with_a_comparison(tmp_path, network):
    source = write_video(tmp_path / "in.mp4", frames=FRAMES)
    settings = Settings(compare="wipe", quality=ALONE.quality)
    whole, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    restore_file(source, whole, network, 5, settings)
    for after in (6, 7):
        broken_off(source, target, network, 5, settings, after)
    assert restore_file(source, target, network, 5, settings).resumed == 8
    assert contents(target) == contents(whole)
    assert contents(compare_path(target)) == contents(compare_path(whole))


def test_a_stretch_goes_on(tmp_path, network):
    source = write_video(tmp_path / "in.mp4", frames=30, audio=True)
    span = Span(start=Fraction(1, 2), end=Fraction(5, 6))
    settings = Settings(span=span, quality=ALONE.quality)
    whole, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    restore_file(source, whole, network, 5, settings)
    broken_off(source, target, network, 5, settings, 9)
    assert restore_file(source, target, network, 5, settings).resumed == 8
    assert contents(target) == contents(whole)


def test_a_folder_goes_on(tmp_path, network):
    source = write_frames(tmp_path / "frames", one_scene(11, 24, 32))
    restore_file(source, tmp_path / "whole", network, 5, ALONE)
    broken_off(source, tmp_path / "out", network, 5, ALONE, 6)
    assert restore_file(source, tmp_path / "out", network, 5, ALONE) == Outcome(11, resumed=4)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def damaged(path):
    """Damage the pixels of an image, but not its header or its end."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("then", "frames", "resumed"), [("mended", 11, 8), ("out", 10, 8), ("earlier", 11, 4)]
)
def test_a_picture_that_cannot_be_decoded_costs_no_other(tmp_path, network, then, frames, resumed):
    """Parts have four frames; each depends on the next image too."""
    source, target, notes = tmp_path / "frames", tmp_path / "out", []
    write_frames(source, one_scene(11, 24, 32))
    whole = (source / "09.png").read_bytes()
    damaged(source / "09.png")
    with pytest.raises(
        MidwayError, match=r"09\.png' cannot be decoded: .*; repair it, or remove it"
    ):
        restore_file(source, target, network, 1, ALONE, on_note=notes.append)
    assert notes == ["what is done so far is kept: run the same command to resume"]
    assert not target.exists()
    if then == "out":
        (source / "09.png").unlink()
    else:
        (source / "09.png").write_bytes(whole)
    if then == "earlier":
        os.utime(source / "07.png", (1, 1))
    assert restore_file(source, target, network, 1, ALONE) == Outcome(frames, resumed=resumed)
    restore_file(source, tmp_path / "whole", network, 1, ALONE)
    assert contents(target) == contents(tmp_path / "whole")


def test_scenes_are_the_same_where_work_goes_on(tmp_path, network):
    """Even if a cut depends on frames long before the first one that is restored again."""
    source = write_frames(tmp_path / "frames", walk(FASTER))
    restore_file(source, tmp_path / "whole", network, 5, ALONE)
    for after in (4, 13):  # after the clear cut, and at the one that is hard to detect
        target = tmp_path / f"out-{after}"
        broken_off(source, target, network, 5, ALONE, after)
        outcome = restore_file(source, target, network, 5, ALONE)
        assert outcome == Outcome(len(FASTER) + 1, resumed=after // 4 * 4)
        assert contents(target) == contents(tmp_path / "whole")


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, network, monkeypatch):
    source, target = write_video(tmp_path / "in.mp4", frames=9), tmp_path / "out.mp4"
    error, notes = OutputError(f"cannot write '{target}': No space left on device"), []
    with monkeypatch.context() as patched:
        full = failing_after(7, error, sinks.SpoolWriter.write)
        patched.setattr(sinks.SpoolWriter, "write", full)
        with pytest.raises(OutputError, match="No space left"):
            restore_file(source, target, network, 3, ALONE, on_note=notes.append)
    assert any("to resume" in note for note in notes)
    assert restore_file(source, target, network, 3, ALONE) == Outcome(9, resumed=4)


@pytest.mark.usefixtures("files_stay_in_use")
def test_what_an_encoder_refuses_leaves_nothing(tmp_path, network, monkeypatch):
    source, target = write_video(tmp_path / "in.mp4", frames=9), tmp_path / "out.mp4"
    refuses = failing_after(7, EncodeError("encoding failed"), sinks.FrameEncoder.encode)
    monkeypatch.setattr(sinks.FrameEncoder, "encode", refuses)
    with pytest.raises(EncodeError):
        restore_file(source, target, network, "all")
    assert list(tmp_path.iterdir()) == [source]


def test_what_a_container_refuses_at_the_end_costs_no_frame(tmp_path, network, monkeypatch):
    source, target = write_video(tmp_path / "in.mp4", frames=12), tmp_path / "out.mp4"
    ended = Settings(span=Span(end=Fraction(3, 10)))  # while the ninth frame is on screen
    error = av.error.ArgumentError(22, "Invalid argument")
    with monkeypatch.context() as patched:
        patched.setattr(writer, "add_video_stream", failing_after(0, error, None))
        with pytest.raises(EncodeError) as told:
            restore_file(source, target, network, 3, ended)
    assert str(told.value).startswith(f"cannot write '{target}': Invalid argument; ")
    assert f"kept in '{work_path(target)}'" in str(told.value)
    assert restore_file(source, target, network, 3, ended) == Outcome(9, resumed=9)
    assert not work_path(target).exists()


def test_a_source_that_is_gone_at_the_end_costs_no_frame(tmp_path, network):
    source, target = write_video(tmp_path / "in.mp4", frames=9), tmp_path / "out.mp4"
    away = source.with_name("away.mp4")

    def unmount(progress):
        if progress.done == 9 and source.exists():
            source.rename(away)

    with pytest.raises(InputError) as told:
        restore_file(source, target, network, 3, on_progress=unmount)
    assert str(source) in str(told.value)
    assert f"kept in '{work_path(target)}'" in str(told.value)
    away.rename(source)
    assert restore_file(source, target, network, 3) == Outcome(9, resumed=9)
    assert not work_path(target).exists()


def test_a_folder_that_is_gone_midway_costs_no_complete_part(tmp_path, network):
    source, target = write_frames(tmp_path / "frames", one_scene(14, 16, 24)), tmp_path / "out"
    away = source.with_name("away")

    def unmount(progress):
        if progress.done == 5 and source.exists():
            source.rename(away)

    with pytest.raises(MidwayError, match="cannot read"):
        restore_file(source, target, network, 1, ALONE, on_progress=unmount)
    away.rename(source)
    assert restore_file(source, target, network, 1, ALONE).resumed >= 4


def test_another_process_goes_on(tmp_path, one_level_file, monkeypatch, run):
    """It shares no state with the first, not even its hash seed. The first is broken off here;
    tests/torture kills processes.
    """
    source = write_video(tmp_path / "in.mp4", frames=10)
    target, whole = tmp_path / "out.mp4", tmp_path / "whole.mp4"
    run(source, "-o", whole)
    note = files.WorkFolder.note_untouched

    def noted(work, part, frames):
        if part == 2:  # not whole yet
            raise PowerCut
        note(work, part, frames)

    monkeypatch.setattr(files.WorkFolder, "note_untouched", noted)
    with pytest.raises(PowerCut):
        run(source, "-o", target)
    assert not target.exists()
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS, source, one_level_file, target], check=False,
        env={**os.environ, "PYTHONHASHSEED": "2", "OMP_NUM_THREADS": f"{torch.get_num_threads()}"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    end = json.loads(done.stdout.splitlines()[-1])
    assert (end["frames"], end["resumed"]) == (10, 8)
    assert contents(target) == contents(whole)


_PROCESS = """
import sys
from unsmear.cli import main
from unsmear.restoration import files

files._PART_FRAMES = (4, 4)
source, weights, target = sys.argv[1:]
main([source, "-o", target, "-m", weights, "--device", "cpu", "--json"])
"""


@pytest.mark.parametrize("step", ["begin", "end", "scenes", "publishing"])
def test_a_disk_that_fills_up_at_any_step_is_one_error(tmp_path, network, monkeypatch, step):
    source = write_frames(tmp_path / "frames", one_scene(3, 24, 32))
    mark = {"begin": "sharp-pictures", "end": ".part", "scenes": "", "publishing": "publishing"}
    original = {name: getattr(Path, name) for name in ("mkdir", "write_text", "touch")}

    def fills(name):
        def write(path, *arguments, **named):
            if step != "scenes" and path.name.endswith(mark[step]) and "job" not in path.name:
                disk_full()
            return original[name](path, *arguments, **named)

        return write

    error = SafetensorError("I/O error: No space left on device (os error 28)")
    with monkeypatch.context() as patched:
        for name in original:
            patched.setattr(Path, name, fills(name))
        if step == "scenes":
            refuses = failing_after(0, error, None)
            patched.setattr("unsmear.restoration.stream.save_file", refuses)
        with pytest.raises(OutputError, match=r"out': .*No space left"):
            restore_file(source, tmp_path / "out", network, "all")
    assert restore_file(source, tmp_path / "out", network, "all").frames == 3


def test_what_comes_before_a_change_of_size_is_not_made_twice(tmp_path, network, monkeypatch):
    source, target, notes = write_video(tmp_path / "in.mkv", frames=14), tmp_path / "out.mkv", []
    original = VideoReader._concealed

    def changing(self):
        for index, frame in enumerate(original(self)):
            yield frame.reformat(width=32, height=32) if index >= 12 else frame

    monkeypatch.setattr(VideoReader, "_concealed", changing)
    message = r"changes size from 64x48 to 32x32 at 0\.400 s: .* with --end 0\.400"
    with pytest.raises(MidwayError, match=message) as error:
        restore_file(source, target, network, 3, on_note=notes.append)
    assert not target.exists()
    assert notes == ["what is done so far is kept: run the same command with that --end to resume"]
    ended = Settings(span=Span(end=parse_time(str(error.value).split()[-1])))
    outcome = restore_file(source, target, network, 3, ended)
    assert outcome == Outcome(12, resumed=8)
    restore_file(source, tmp_path / "whole.mkv", network, 3, ended)
    assert contents(target) == contents(tmp_path / "whole.mkv")


def test_what_is_done_outlasts_a_gpu_that_others_filled(tmp_path, network, monkeypatch):
    """Out of memory outside the levels, which would be retried in smaller tiles."""
    source, target, notes = tmp_path / "in", tmp_path / "out", []
    write_frames(source, one_scene(6, 16, 24))
    tight = failing_after(5, torch.OutOfMemoryError("CUDA out of memory"), network.squeeze)
    with monkeypatch.context() as patched:
        patched.setattr(network, "squeeze", tight)
        with pytest.raises(DeviceMemoryError, match=r"use --device cpu, --burst 0, .*out of mem"):
            restore_file(source, target, network, 1, ALONE, on_note=notes.append)
    assert notes == ["what is done so far is kept: run the same command to resume"]
    assert restore_file(source, target, network, 1, ALONE) == Outcome(6, resumed=4)
