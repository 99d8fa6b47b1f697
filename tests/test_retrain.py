"""scripts/retrain.py: a recipe for every row, whose commands `unsmear train` takes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.conftest import SMALL, picture
from unsmear.cli import main
from unsmear.models import zoo
from unsmear.models.checkpoint import read_provenance
from unsmear.models.zoo import ZOO, Entry
from unsmear.train.config import PRESETS, Stage, TrainConfig
from unsmear.video.images import write_image

SCRIPT = Path(__file__).parent.parent / "scripts" / "retrain.py"


@pytest.fixture(scope="module")
def retrain():
    spec = importlib.util.spec_from_file_location("retrain_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_row_has_a_recipe(retrain):
    assert set(retrain.RECIPES) == set(ZOO)
    for row in ZOO:
        for line in retrain.commands(row, [Path("a"), Path("b")], Path("out"), processes=8):
            assert "--nproc-per-node=8" in line
            assert line[line.index("--data") + 1 :][:2] == ["a", "b"]


def test_the_runs_of_a_row_follow_each_other(retrain, tmp_path, monkeypatch):
    """Each command in this process, with a network and stages small enough for a test."""
    monkeypatch.setitem(ZOO, "lite", Entry(name="lite", summary="", config=SMALL, window=3))
    stages = (Stage(steps=2, clips=1, frames=2, crop=16),)
    monkeypatch.setitem(PRESETS, "lite", TrainConfig(model="lite", stages=stages))
    (tmp_path / "stills").mkdir()
    image = torch.from_numpy(picture(48, 64).transpose(2, 0, 1).copy())
    write_image(tmp_path / "stills" / "0.png", image)
    ran = []

    def run(line, check):
        ran.append(line)
        short = ["2" if before == "--steps" else part for before, part in pairwise(line)]
        main(short[2:])  # without the interpreter's -m unsmear
        return subprocess.CompletedProcess(line, 0)

    monkeypatch.setattr(retrain.subprocess, "run", run)
    out = tmp_path / "runs"
    command = ["lite", "--data", str(tmp_path / "stills"), "--out", str(out), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["retrain.py", *command])
    retrain.main()
    assert len(ran) == len(retrain.RECIPES["lite"])
    origin = read_provenance(out / f"run{len(ran)}" / "weights.safetensors")
    assert origin.total_steps == 2 * len(ran)
    losses = []
    while origin.parent:
        losses.append(origin.config["loss"])
        origin = type(origin)(**origin.parent)
    assert [*losses, origin.config["loss"]][::-1] == [
        "psnr", "charbonnier", "charbonnier", "charbonnier",
    ]  # fmt: skip  # the last is the test preset's
    monkeypatch.setattr(sys, "argv", ["retrain.py", *command, "--print"])
    retrain.main()
    assert len(ran) == len(retrain.RECIPES["lite"])
    assert zoo.WEIGHTS_FOLDER not in out.parents


def test_a_run_that_fails_ends_the_script(retrain, monkeypatch):
    monkeypatch.setattr(
        retrain.subprocess, "run", lambda line, check: subprocess.CompletedProcess(line, 2)
    )
    monkeypatch.setattr(sys, "argv", ["retrain.py", "lite", "--data", "nowhere"])
    with pytest.raises(SystemExit) as stopped:
        retrain.main()
    assert stopped.value.code == 2
