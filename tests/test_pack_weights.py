"""scripts/pack_weights.py: the same weights in half the space, without loss of metadata."""

from __future__ import annotations

import sys

import pytest

from tests.conftest import load_script
from unsmear.evaluate.programs import run_program
from unsmear.models.checkpoint import load_weights, read_provenance


@pytest.fixture(scope="module")
def script():
    return load_script("scripts/pack_weights.py")


def run(script, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pack_weights.py", *map(str, arguments)])
    return run_program(script.main)


def test_origin_stays_and_weights_change_little(script, monkeypatch, weights_file, capsys):
    target = weights_file.with_name("packed.safetensors")
    assert run(script, monkeypatch, weights_file, target) == 0
    assert "MB ->" in capsys.readouterr().out
    assert target.stat().st_size < weights_file.stat().st_size
    assert read_provenance(target) == read_provenance(weights_file)
    before, after = (load_weights(path)[0].state_dict() for path in (weights_file, target))
    for key, value in before.items():
        assert (after[key] - value).abs().max() <= value.abs().max() / 253


def test_nothing_is_replaced(script, monkeypatch, weights_file, capsys):
    before = weights_file.read_bytes()
    assert run(script, monkeypatch, weights_file, weights_file) == 2
    assert "exists" in capsys.readouterr().err
    assert weights_file.read_bytes() == before


def test_other_files_are_refused_in_one_line(script, monkeypatch, tmp_path, capsys):
    none = tmp_path / "none.safetensors"
    assert run(script, monkeypatch, none, tmp_path / "out.safetensors") == 2
    assert "none.safetensors" in capsys.readouterr().err
    assert run(script, monkeypatch, none, tmp_path / "out") == 2  # no command would load it
    assert "suffix must be one of .safetensors" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
