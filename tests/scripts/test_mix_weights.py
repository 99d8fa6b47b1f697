"""scripts/mix_weights.py: weights between a start and the result of a run from it."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import torch

from tests.conftest import SMALL, TWO_LEVELS, awake, load_script
from unsmear.evaluate.programs import run_program
from unsmear.models.checkpoint import Provenance, load_weights, read_provenance, save_weights

ORIGIN = Provenance(model="small", steps=3, seed=0, hours=0.0, device="cpu", version="0")


@pytest.fixture
def files(tmp_path):
    start, tuned = tmp_path / "start.safetensors", tmp_path / "tuned.safetensors"
    after = dataclasses.replace(ORIGIN, steps=4, parent=dataclasses.asdict(ORIGIN))
    save_weights(start, SMALL, awake().state_dict(), ORIGIN, dtype=torch.float32)
    save_weights(tuned, SMALL, awake().state_dict(), after, dtype=torch.float32)
    return start, tuned, tmp_path / "mixed.safetensors"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["mix_weights.py", *map(str, arguments)])
    return run_program(load_script("scripts/mix_weights.py").main)


def test_a_quarter_of_the_way(files, monkeypatch):
    assert run(monkeypatch, *files, "--share", 0.25) == 0
    first, second, mixed = (load_weights(path)[0].state_dict() for path in files)
    for key, value in mixed.items():
        wanted = 0.75 * first[key] + 0.25 * second[key]
        torch.testing.assert_close(value, wanted, rtol=1e-3, atol=1e-6)  # float16
    found = read_provenance(files[2])
    assert found == dataclasses.replace(read_provenance(files[1]), mixed=0.25)
    assert found.total_steps == 7


@pytest.mark.parametrize(("share", "word"), [(0, "share is 0.0"), (1, "share"), (-1, "share")])
def test_a_share_that_is_no_mixture_is_refused(files, monkeypatch, capsys, share, word):
    assert run(monkeypatch, *files, "--share", share) == 2
    assert word in capsys.readouterr().err
    assert not files[2].exists()


def test_a_start_that_was_measured_since_is_still_the_start(files, monkeypatch):
    measured = dataclasses.replace(ORIGIN, scores={"walk": {"psnr_after": 30.0}})
    save_weights(files[0], SMALL, awake().state_dict(), measured, dtype=torch.float32)
    assert run(monkeypatch, *files, "--share", 0.25) == 0


def test_weights_that_do_not_follow_each_other_are_refused(files, monkeypatch, capsys):
    assert run(monkeypatch, files[1], files[0], files[2], "--share", 0.5) == 2
    assert "was not trained from" in capsys.readouterr().err
    after = read_provenance(files[1])  # of a smaller network that began with parts of the start
    save_weights(files[1], TWO_LEVELS, awake(TWO_LEVELS).state_dict(), after, dtype=torch.float32)
    assert run(monkeypatch, *files, "--share", 0.5) == 2
    assert "was not trained from" in capsys.readouterr().err
    assert not files[2].exists()


def test_nothing_is_replaced_unasked(files, monkeypatch, capsys):
    files[2].write_text("precious")
    assert run(monkeypatch, *files, "--share", 0.5) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert files[2].read_text() == "precious"
    assert run(monkeypatch, *files, "--share", 0.5, "--overwrite") == 0
    assert read_provenance(files[2]).mixed == 0.5


def test_inputs_are_never_replaced(files, monkeypatch, capsys):
    for path in files[:2]:
        before = path.read_bytes()
        assert run(monkeypatch, *files[:2], path, "--share", 0.5, "--overwrite") == 2
        assert "is the input" in capsys.readouterr().err
        assert path.read_bytes() == before
