"""scripts/retrain.py: a recipe for every row, with commands that `unsmear train` accepts."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import SMALL, image, load_script, write_frames
from unsmear.cli import main
from unsmear.evaluate.programs import run_program
from unsmear.models import zoo
from unsmear.models.checkpoint import read_provenance
from unsmear.models.zoo import ANCESTORS, ZOO, Entry
from unsmear.train.config import PRESETS, Stage, TrainConfig
from unsmear.train.loop import check_shards


@pytest.fixture(scope="module")
def retrain():
    return load_script("scripts/retrain.py")


def test_every_row_has_a_recipe(retrain):
    assert set(retrain.RECIPES) == set(ZOO)
    for row in ZOO:
        lines = retrain.commands(
            row, [Path("a"), Path("b")], Path("out"), val=Path("v"), shake=[Path("s"), Path("t")],
            processes=8, options=("--device", "cpu"),
        )  # fmt: skip
        mixing = [line for line in lines if "--data" not in line]
        assert [line[line.index("--share") + 1] for line in mixing] == [
            str(share) for share in retrain.SHARES.get(row, {}).values()
        ]
        assert all(Path(line[1]).is_file() for line in mixing)
        for line in lines:
            if line not in mixing:
                assert line[line.index("--data") + 1 :][:2] == ["a", "b"]
                assert line[line.index("--val") + 1] == "v"
                assert line[line.index("--shake") + 1 :][:2] == ["s", "t"]
                assert line[-2:] == ["--device", "cpu"]


def test_a_run_starts_from_the_mixture_of_the_two_before(retrain):
    lines = retrain.commands("core", [Path("a")], Path("out"))
    mixing = [line[2:5] for line in lines if line[1].endswith("mix_weights.py")]
    ends = [f"out/run{number}/weights.safetensors" for number in (1, 2)]
    assert mixing == [[*ends, "out/mixed2.safetensors"]]
    starts = [line[line.index("--weights") + 1] for line in lines if "--weights" in line]
    assert starts == ["plus", ends[0], "out/mixed2.safetensors"]
    assert retrain.commands("lite", [Path("a")], Path("out"))[-1][4] == "out/weights.safetensors"


@pytest.mark.parametrize("processes", [1, 2, 4, 5, 8])
def test_as_many_processes_share_a_run_as_can(retrain, processes):
    for row in ZOO:
        for line in retrain.commands(row, [Path("a")], Path("out"), processes=processes):
            if "--preset" not in line:  # this line mixes the weights of two runs
                continue
            config = PRESETS[line[line.index("--preset") + 1]]
            (size,) = [part for part in line if "--nproc-per-node" in part] or ["=1"]
            used = int(size.split("=")[1])
            check_shards(config, used)
            assert not any(config.shards % more == 0 for more in range(used + 1, processes + 1))


def test_the_runs_of_a_row_follow_each_other(retrain, tmp_path, monkeypatch):
    """All commands run in this process, with small networks and stages."""
    stages = (Stage(steps=2, clips=1, frames=2, crop=16),)
    for table, names in ((ANCESTORS, ("plain", "trail", "align")), (ZOO, ("pro",))):
        for name in names:
            monkeypatch.setitem(table, name, Entry(name=name, summary="", config=SMALL, window=3))
            monkeypatch.setitem(PRESETS, name, TrainConfig(model=name, stages=stages))
    write_frames(tmp_path / "stills", [image(48, 64) / 255])
    ran = []

    def run(line):
        ran.append(line)
        counts = ("--steps", "--stop-after")
        short = ["2" if before in counts else part for before, part in pairwise(line)]
        main(short[2:])  # without the interpreter's -m unsmear
        return 0

    monkeypatch.setattr(retrain, "run", run)
    out = tmp_path / "runs"
    command = ["pro", "--data", str(tmp_path / "stills"), "--out", str(out), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["retrain.py", *command])
    retrain.main()
    assert len(ran) == len(retrain.RECIPES["pro"])
    origin = read_provenance(out / f"run{len(ran)}" / "weights.safetensors")
    assert origin.total_steps == 2 * len(ran)
    made = []
    while True:
        made.append((origin.model, origin.config["loss"]))
        if origin.parent is None:
            break
        origin = type(origin)(**origin.parent)
    assert made[::-1] == [
        ("plain", "psnr"),
        *[("plain", "charbonnier")] * 3,  # the last one by the test's preset, as below
        *[("trail", "charbonnier")] * 4,
        ("align", "charbonnier"),
        *[("pro", "charbonnier")] * 2,
    ]
    monkeypatch.setattr(sys, "argv", ["retrain.py", *command, "--print"])
    retrain.main()
    assert len(ran) == len(retrain.RECIPES["pro"])
    assert zoo.WEIGHTS_FOLDER not in out.parents


@pytest.mark.skipif(sys.platform == "win32", reason="no signals to threads")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_what_a_run_still_has_to_save(retrain, tmp_path, monkeypatch, number):
    """Saving takes longer than the quarter of a second that `subprocess` waits. A terminal tells
    the run of Ctrl-C, `kill` does not tell it of SIGTERM.
    """
    begun, told, saved = (tmp_path / name for name in ("begun", "told", "saved"))
    saving = (
        "import pathlib, signal, sys, time\n"
        "begun, told, saved = map(pathlib.Path, sys.argv[1:])\n"
        "signal.signal(signal.SIGTERM, lambda *_: told.touch())\n"
        "begun.touch()\n"
        "while not told.exists():\n"
        "    time.sleep(0.01)\n"
        "time.sleep(0.35)\n"
        "saved.touch()\n"
        "raise SystemExit(130)\n"
    )
    command = [sys.executable, "-S", "-c", saving, *map(str, (begun, told, saved))]

    def interrupt() -> None:
        while not begun.exists():
            time.sleep(0.01)
        # To the main thread: a signal to the process could be handled after the test.
        signal.pthread_kill(threading.main_thread().ident, number)
        if number == signal.SIGINT:
            told.touch()

    started = subprocess.Popen

    def late(line: list[str]) -> subprocess.Popen[bytes]:
        process = started(line)
        while not begun.exists():
            time.sleep(0.01)
        time.sleep(0.1)  # the signal comes before the script knows the process
        return process

    monkeypatch.setattr(subprocess, "Popen", late)
    monkeypatch.setattr(retrain, "commands", lambda *_, **__: [command, ["never"]])
    monkeypatch.setattr(sys, "argv", ["retrain.py", "lite", "--data", "photos"])
    usual = signal.getsignal(number)
    terminal = threading.Thread(target=interrupt, daemon=True)
    terminal.start()
    with pytest.raises(SystemExit) as stopped:
        retrain.main()
    terminal.join()
    assert stopped.value.code == 130
    assert saved.exists()
    assert signal.getsignal(number) is usual


def test_a_team_of_nobody_is_refused(retrain, monkeypatch, capsys):
    command = ["retrain.py", "lite", "--data", "a", "--print", "--processes", "0"]
    monkeypatch.setattr(sys, "argv", command)
    assert run_program(retrain.main) == 2
    assert "processes is 0: must be at least 1" in capsys.readouterr().err


def test_a_run_that_fails_ends_the_script(retrain, monkeypatch):
    monkeypatch.setattr(retrain, "run", lambda line: 2)
    monkeypatch.setattr(sys, "argv", ["retrain.py", "lite", "--data", "nowhere"])
    with pytest.raises(SystemExit) as stopped:
        retrain.main()
    assert stopped.value.code == 2
