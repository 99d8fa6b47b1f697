"""`unsmear train` (`unsmear.training`) from its options to the folder of a run, and what it tells.

It crosses preflight, claim, batches, team, loop and display.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal

import pytest

from tests.conftest import write_video
from tests.train.conftest import PRESET as CONFIG
from tests.train.conftest import request, sequence
from tests.train.conftest import save_picture as save
from unsmear.cli import main
from unsmear.data.synthesis import Synthesizer
from unsmear.errors import CombinedError, ModelError
from unsmear.evaluate.validation import SequenceScore
from unsmear.models.checkpoint import load_weights
from unsmear.train import preflight, team, trainable
from unsmear.train.batches import Batches
from unsmear.train.claim import claimed
from unsmear.train.config import PRESETS
from unsmear.train.preflight import prepare
from unsmear.train.state import STATE_FILE, WEIGHTS_FILE, read_header
from unsmear.train.stepper import Stepper
from unsmear.train.team import Team

pytestmark = pytest.mark.usefixtures("tiny")


def train_by_command(data, out, *extra):
    folders = [str(folder) for folder in data]
    options = ["--preset", "tiny", "-o", str(out), "--device", "cpu", "--threads", "1", *extra]
    main(["train", "--data", *folders, *options])


def test_the_command_tells_all_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        train_by_command([tmp_path / "gone"], tmp_path / "run", "--val", str(tmp_path / "no"))
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "2 mistakes: (1) " in shown
    assert not (tmp_path / "run").exists()


def test_a_folder_that_another_run_writes_to_is_refused(stills, tmp_path, capsys):
    with claimed(tmp_path / "run"), pytest.raises(SystemExit) as stopped:
        train_by_command([stills], tmp_path / "run")
    assert stopped.value.code == 2
    assert "another run is using" in capsys.readouterr().err


def test_sigterm_saves_a_run_and_tells_how_it_goes_on(stills, tmp_path, capsys, monkeypatch):
    def terminated(*_):
        signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)  # a real one may reach pytest

    monkeypatch.setattr(Stepper, "step", terminated)
    with pytest.raises(SystemExit) as stopped:
        train_by_command([stills], tmp_path / "run")
    assert stopped.value.code == 130
    shown = " ".join(capsys.readouterr().out.split())
    assert "saved at step 0 in" in shown
    assert "the same command goes on from there" in shown
    assert read_header(tmp_path / "run" / STATE_FILE).step == 0


def test_a_run_does_not_go_on_with_other_data(stills, tmp_path, capsys):
    log, run = tmp_path / "log.txt", tmp_path / "run"
    log.write_text("".join(f"{at}, {at}, [1, 0, 0, 0, 1, 0, 0, 0, 1]\n" for at in (1, 2)))
    sequence(tmp_path / "val", "a", frames=1)
    sequence(tmp_path / "new", "b", frames=1)
    train_by_command([stills], run, "--val", str(tmp_path / "val"), "--stop-after", "1")
    shutil.copytree(stills, tmp_path / "moved")
    prepare(request(tmp_path / "moved", tmp_path))
    save(tmp_path / "moved" / "2.png", seed=2)
    was = r"was 2 photographs, 0 sharp shots, 0 shake logs, 0 paired sequences \(names and sizes: "
    now = r"\w+\), now 3 photographs, 0 clips.*the same --data and --shake, or another --out with"
    with pytest.raises(ModelError, match=f"{was}{now}"):
        prepare(request(tmp_path / "moved", tmp_path))
    with pytest.raises(CombinedError, match=r"\(seed was 0, now 5\).*\(2\).*from a run with other"):
        prepare(request(tmp_path / "moved", tmp_path, seed=5))
    with pytest.raises(CombinedError, match=r"steps is 0.*\(2\).*from a run with other data"):
        prepare(request(tmp_path / "moved", tmp_path, steps=0))
    with pytest.raises(ModelError, match="now 2 photographs, 0 clips, 1 shake logs"):
        prepare(request(stills, tmp_path, shake=[log]))
    assert "note:" not in capsys.readouterr().out
    train_by_command([stills], run)
    assert "without --val, this run is no longer" in " ".join(capsys.readouterr().out.split())
    train_by_command([stills], run, "--val", str(tmp_path / "new"))  # finished: only measured
    shown = " ".join(capsys.readouterr().out.split())
    assert "the validation set is another (it was 1 sequences of 1 frames (names" in shown
    assert load_weights(run / WEIGHTS_FILE)[1].scores.keys() == {"b"}
    with pytest.raises(SystemExit) as stopped:
        train_by_command([tmp_path / "moved"], run)  # finished, too
    assert stopped.value.code == 2


@pytest.mark.parametrize("differs", ["training", "validation"])
def test_machines_with_other_files_are_told_before_the_first_step(
    stills, tmp_path, capsys, monkeypatch, differs
):
    sequence(tmp_path / "val", "a")
    number = {"training": 0, "validation": 1}[differs]
    asked = []

    def gather(values, own):
        asked.append(own)
        values[:] = [own, "other files" if len(asked) > number else own]

    @contextlib.contextmanager
    def join_team(device):
        yield Team(0, 2), device

    monkeypatch.setattr(team, "join_team", join_team)
    monkeypatch.setattr(team.distributed, "all_gather_object", gather)
    with pytest.raises(SystemExit):
        train_by_command([stills], tmp_path / "run", "--val", str(tmp_path / "val"))
    told = f"the processes disagree on the {differs} data: "
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_the_best_weights_are_named_unless_they_are_the_last(stills, tmp_path, capsys, monkeypatch):
    sequence(tmp_path / "val", "a", frames=1)
    for name, gains in (("fell", [0.5, 0.25]), ("rose", [0.25, 0.5])):
        scores = iter(
            [SequenceScore("a", 1, 20.0, 20.0 + more, None, None, more)] for more in gains
        )
        monkeypatch.setattr(trainable, "measure", lambda *_, left=scores, **__: next(left))
        options = ("--steps", "2", "--validate-every", "1", "--val", str(tmp_path / "val"))
        train_by_command([stills], tmp_path / name, *options)
        shown = " ".join(capsys.readouterr().out.split())
        assert ("best in validation: " in shown) == (name == "fell")
        assert ("of step 1 (+0.50 dB)" in shown) == (name == "fell")


class Gone(BaseException):
    """The process has exited."""


@pytest.fixture
def launched(monkeypatch):
    """The environment of torchrun on the second of two machines with two processes each."""

    def gone(code):
        raise Gone(code)

    def launch(local):
        numbers = {"RANK": 2 + local, "LOCAL_RANK": local, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2}
        for name, value in numbers.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(os, "_exit", gone)

    return launch


def test_one_process_of_each_machine_tells_what_is_wrong_there(tmp_path, launched, capsys):
    for local, lines in ((0, 1), (1, 0)):
        launched(local)
        with pytest.raises(Gone) as gone:
            train_by_command([tmp_path / "gone"], tmp_path / "run")
        assert gone.value.args == (2,)
        shown = capsys.readouterr().err
        assert shown.count("\n") == lines
        assert ("is not a folder" in shown) is bool(lines)


def test_a_process_that_breaks_down_does_not_wait_for_the_others(
    tmp_path, stills, launched, capsys, monkeypatch
):
    def broken(*_):
        raise RuntimeError("out of memory")

    launched(0)
    monkeypatch.setattr(preflight, "find_training_files", broken)
    with pytest.raises(Gone) as gone:
        train_by_command([stills], tmp_path / "run")
    assert gone.value.args == (1,)
    assert "RuntimeError: out of memory" in capsys.readouterr().err


# Folders of one sequence in the layout of each set: blurry, sharp, and others beside them.
LAYOUTS = {
    "gopro": ("train/GOPR1/blur", "train/GOPR1/sharp", "train/GOPR1/blur_gamma"),
    "dvd": ("quantitative_datasets/720p/input", "quantitative_datasets/720p/GT", None),
    "bsd": ("BSD_3ms24ms/train/000/Blur/RGB", "BSD_3ms24ms/train/000/Sharp/RGB", None),
    "gopro-flat": ("test/input", "test/target", None),
    "reds": ("train/train_blur/000", "train/train_sharp/000", "train/train_blur_comp/000"),
}


def lay_out(root, name):
    for folder in filter(None, LAYOUTS[name]):
        for index in range(3):
            save(root / folder / f"{index:08d}.png", seed=index)
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_trains_from_the_command_line(layout, tmp_path, capsys):
    root = lay_out(tmp_path / layout, layout)
    train_by_command([root], tmp_path / "run", "--steps", "2")
    assert "0 photographs, 0 sharp shots, 0 shake logs, 1 paired" in capsys.readouterr().out
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_all_layouts_and_synthesis_mix(stills, tmp_path, capsys, monkeypatch):
    roots = [lay_out(tmp_path / layout, layout) for layout in LAYOUTS]
    val = str(lay_out(tmp_path / "val", "gopro"))
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "a.mp4", frames=10, size=(96, 64))
    drawn = []
    for owner, name in ((Batches, "_recorded"), (Synthesizer, "batch")):
        original = getattr(owner, name)

        def noting(self, *arguments, original=original, name=name):
            drawn.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(owner, name, noting)
    data = [*roots, stills, tmp_path / "clips"]
    train_by_command(data, tmp_path / "run", "--steps", "8", "--val", val, "--ahead")
    shown = capsys.readouterr().out
    assert "2 photographs, 1 sharp shots, 0 shake logs, 5 paired sequences" in shown
    assert "% learning" in shown
    assert "validation: train/GOPR1" in shown
    assert len(drawn) == 8 * CONFIG.shards
    assert set(drawn) == {"_recorded", "batch"}
    drawn.clear()
    train_by_command(data, tmp_path / "pairs", "--steps", "4", "--pair-share", "1")
    assert set(drawn) == {"_recorded"}


def test_clips_that_are_all_too_short_are_an_error_not_a_crash(tmp_path, capsys):
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "a.mp4", frames=4, size=(96, 64))
    with pytest.raises(SystemExit) as stopped:
        train_by_command([tmp_path / "clips"], tmp_path / "run")
    assert stopped.value.code == 2
    assert "no clip of --data has 5 consecutive frames" in capsys.readouterr().err
    # Beside recorded pairs, such clips are skipped.
    train_by_command([tmp_path / "clips", lay_out(tmp_path / "dvd", "dvd")], tmp_path / "run")


def test_command_line_trains_and_the_result_restores(data, pairs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, "lite", dataclasses.replace(CONFIG, stages=CONFIG.stages[:1]))
    out = tmp_path / "run"
    shutil.copytree(pairs / "seq", pairs / "val" / "seq")
    main(
        [
            "train",
            "--preset",
            "lite",
            "--data",
            str(data),
            str(pairs / "seq"),
            "--val",
            str(pairs / "val"),
            "-o",
            str(out),
            "--steps",
            "3",
            "--device",
            "cpu",
            "--threads",
            "1",
        ]
    )
    shown = capsys.readouterr().out
    assert "3 photographs, 0 sharp shots, 0 shake logs, 1 paired sequences" in shown
    assert "3 steps on cpu, from random weights" in " ".join(shown.split())
    assert "validation: seq" in shown
    assert "; mean " in shown
    frames = pairs / "seq" / "blur"
    main([str(frames), "-o", str(tmp_path / "restored"), "-m", str(out / "weights.safetensors")])
    assert len(list((tmp_path / "restored").iterdir())) == 4
