"""scripts/train_polish.py: samples and weights with one command."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from tests.conftest import load_script
from unsmear.evaluate.programs import run_program
from unsmear.models.checkpoint import load_polish_weights
from unsmear.models.polish import PolishConfig
from unsmear.train.config import Stage


@pytest.fixture
def script(monkeypatch):
    """Small clips and crops."""
    script = load_script("scripts/train_polish.py")
    monkeypatch.setattr(
        script, "SAMPLES",
        dataclasses.replace(
            script.SAMPLES, stages=(Stage(steps=1, clips=4, frames=7, crop=64),),
            synthesis=dataclasses.replace(script.SAMPLES.synthesis, coder_share=0),
        ),
    )  # fmt: skip
    small = (Stage(steps=4, clips=4, frames=1, crop=32),)
    for name in ("PLAN", "TOLD_PLAN"):
        plan = dataclasses.replace(getattr(script, name), stages=small)
        monkeypatch.setattr(script, name, plan)
    monkeypatch.setattr(script, "TOLD_SAMPLES", script.SAMPLES)
    return script


def run(script, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["train_polish.py", *map(str, arguments)])
    return run_program(script.main)


def test_samples_and_weights_are_made_and_the_next_run_uses_them(
    script, monkeypatch, tmp_path, photographs, one_level_file, capsys
):
    out = tmp_path / "run"
    given = ("--data", photographs, "--models", one_level_file, "--files", 1, "--device", "cpu")
    assert run(script, monkeypatch, *given, "--out", out, "--steps", 3, "--seed", 4) == 0
    assert "16 samples of" in capsys.readouterr().out
    weights = out / "weights.safetensors"
    origin = load_polish_weights(weights)[1]
    assert (origin.steps, origin.seed) == (3, 4)
    assert "16 samples of" in origin.data["summary"]
    (sample,) = (out / "samples").iterdir()
    stamp = sample.stat().st_mtime_ns
    again = ("--out", out, "--steps", 3, "--seed", 4)
    assert run(script, monkeypatch, *given, *again) == 0
    assert sample.stat().st_mtime_ns == stamp
    more = ("--out", tmp_path / "more", "--weights", weights, "--steps", 2)
    assert run(script, monkeypatch, *given, *more, "--learning-rate", 1e-3) == 0
    found = load_polish_weights(tmp_path / "more" / "weights.safetensors")[1]
    assert (found.total_steps, found.config["learning_rate"]) == (5, 1e-3)
    told = ("--told", "--out", tmp_path / "told", "--steps", 2, "--deep-blocks", 3)
    assert run(script, monkeypatch, *given, *told, "--weights", weights) == 0
    heeding = tmp_path / "told" / "weights.safetensors"
    network, found = load_polish_weights(heeding)
    twice = ("--told", "--passes", 2, "--steps", 1, "--out", tmp_path / "twice")
    assert run(script, monkeypatch, *given, *twice, "--weights", heeding) == 0
    assert "32 samples of" in capsys.readouterr().out
    again = load_polish_weights(tmp_path / "twice" / "weights.safetensors")[0]
    assert again.config == dataclasses.replace(network.config, passes=2)
    assert network.config == PolishConfig(told=True, deep_blocks=3)
    assert (found.total_steps, found.config["loss"]) == (5, "psnr")
    capsys.readouterr()
    lone = ("--out", tmp_path / "lone", "--weights", heeding)
    assert run(script, monkeypatch, *given, *lone) == 2
    assert "must be told what reblurring finds: add --told" in capsys.readouterr().err
    fewer = (*lone, "--told", "--deep-blocks", 2)
    assert run(script, monkeypatch, *given, *fewer) == 2
    told = "--blocks 4 --deep-blocks 2: must be at least 4 and 3, as in"
    assert told in capsys.readouterr().err
    assert not (tmp_path / "lone").exists()


def test_weights_that_the_run_would_overwrite_are_refused(
    script, monkeypatch, tmp_path, photographs, one_level_file, capsys
):
    out = tmp_path / "run"
    given = ("--data", photographs, "--models", one_level_file, "--files", 1, "--device", "cpu",
             "--out", out)  # fmt: skip
    assert run(script, monkeypatch, *given, "--steps", 1) == 0
    weights = out / "weights.safetensors"
    before = weights.read_bytes()
    again = (*given, "--steps", 2, "--weights", weights)
    assert run(script, monkeypatch, *again) == 2  # the state is another run's
    assert f"did not start from the weights '{weights}'" in capsys.readouterr().err
    (out / "state.safetensors").unlink()
    assert run(script, monkeypatch, *again) == 2
    assert f"the run would overwrite '{weights}' of --weights" in capsys.readouterr().err
    assert weights.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("--steps", "0"), "steps is 0: must be at least 1"),
        (("--files", "0"), "files is 0: must be at least 1"),
        (("--blocks", "0"), "blocks=0, deep_blocks=2, kernel=5, told=False, passes=1): numbers"),
        (("--passes", "2"), "--passes 2 needs --weights"),
        (("--learning-rate", "0"), "learning_rate is 0.0: must be above 0"),
        (("--models", "none"), "unknown model 'none'"),
        (("--weights", "none.safetensors"), "cannot read weights 'none.safetensors'"),
        (("--val", "none"), "'none'"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(
    script, monkeypatch, tmp_path, photographs, capsys, change, told
):
    monkeypatch.chdir(tmp_path)
    given = ("--data", photographs, "--models", "lite", "--device", "cpu")
    assert run(script, monkeypatch, *given, *change) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_weights_of_another_kind_are_refused(
    script, monkeypatch, tmp_path, photographs, one_level_file, capsys
):
    given = ("--data", photographs, "--models", "lite", "--out", tmp_path / "run")
    assert run(script, monkeypatch, *given, "--weights", one_level_file) == 2
    told = capsys.readouterr().err
    assert "contains weights of a network that restores, not weights of a network that pol" in told


def test_a_run_that_is_interrupted_goes_on(
    script, monkeypatch, tmp_path, photographs, one_level_file, capsys
):
    out = tmp_path / "run"
    given = ("--data", photographs, "--models", one_level_file, "--files", 1, "--device", "cpu",
             "--out", out)  # fmt: skip
    draw, drawn = script.Samples.draw, []

    def interrupted(samples, step, shards=None):
        drawn.append(step)
        if drawn == [0, 1, 2]:
            raise KeyboardInterrupt
        return draw(samples, step, shards)

    monkeypatch.setattr(script.Samples, "draw", interrupted)
    assert run(script, monkeypatch, *given) == 130
    told = capsys.readouterr()
    assert "the same command goes on" in told.out
    assert "Traceback" not in told.err
    assert run(script, monkeypatch, *given) == 0
    assert drawn == [0, 1, 2, 2, 3]
    assert load_polish_weights(out / "weights.safetensors")[1].steps == 4
