"""scripts/pack_weights.py: the same weights in half the space, without loss of metadata."""

from __future__ import annotations

import sys
import zlib

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
    coarse = weights_file.with_name("coarse.safetensors")
    assert run(script, monkeypatch, weights_file, coarse, "--bits", "6") == 0
    assert coarse.stat().st_size == target.stat().st_size
    assert len(zlib.compress(coarse.read_bytes())) < len(zlib.compress(target.read_bytes()))
    told = capsys.readouterr().out
    kept = load_weights(coarse)[0].state_dict()
    errors = [
        float((kept[key] - value).abs().max() / value.abs().max()) for key, value in before.items()
    ]
    assert 1 / 127 < max(errors) <= 1 / 61
    assert f"weights change by up to {max(errors):.2%}" in told


def test_nothing_is_replaced(script, monkeypatch, weights_file, capsys):
    before = weights_file.read_bytes()
    assert run(script, monkeypatch, weights_file, weights_file) == 2
    assert "exists" in capsys.readouterr().err
    assert weights_file.read_bytes() == before


def test_mistakes_are_refused_in_one_line(
    script, monkeypatch, weights_file, tmp_path_factory, capsys
):
    tmp_path = tmp_path_factory.mktemp("empty")
    none = tmp_path / "none.safetensors"
    assert run(script, monkeypatch, none, tmp_path / "out.safetensors") == 2
    assert "none.safetensors" in capsys.readouterr().err
    assert run(script, monkeypatch, none, tmp_path / "out") == 2  # no command would load it
    assert "suffix must be one of .safetensors" in capsys.readouterr().err
    assert run(script, monkeypatch, weights_file, tmp_path / "a.safetensors", "--bits", "9") == 2
    assert "bits is 9: must be from 2 to 8" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
