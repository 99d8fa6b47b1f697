"""scripts/polish_card.py: the card of the network that polishes, from records of evaluations."""

from __future__ import annotations

import json
import sys

import pytest

from tests.conftest import load_script
from unsmear.evaluate.programs import run_program
from unsmear.models.checkpoint import digest_of, load_polish_weights
from unsmear.models.polish import PolishConfig
from unsmear.models.zoo import load_polish

DIGEST = "d1"


@pytest.fixture(scope="module")
def script():
    return load_script("scripts/polish_card.py")


def write(records, name, gains, *, polish=None, network="n1"):
    """An evaluation of sequences of two frames each, whose gains are given."""
    sequences = [
        {
            "name": sequence,
            "psnr": 30 + sum(each) / 2,
            "psnr_before": 30,
            "scores": [{"psnr": 30 + one} for one in each],
        }
        for sequence, each in gains.items()
    ]
    record = {"model": {"digest": network, "polish": polish}, "sequences": sequences}
    (records / f"eval-{name}.json").write_text(json.dumps(record))


@pytest.fixture
def records(tmp_path):
    write(tmp_path, "pro", {"dog": (2, 4), "walk": (1, 1)})
    write(tmp_path, "pro-polished", {"dog": (3, 4), "walk": (0.5, 2)}, polish=DIGEST)
    write(tmp_path, "lite", {"dog": (1, 1), "walk": (1, 1)})
    write(tmp_path, "lite-polished", {"dog": (2, 2), "walk": (2, 2.5)}, polish=DIGEST)
    write(tmp_path, "lite-refined", {"dog": (2, 2), "walk": (2, 2.5)})
    return tmp_path


def test_the_table_has_gains_before_and_after_and_the_worst_frame(script, records):
    heading, _, *rows = script.gain_table(records, DIGEST, "-polished")
    assert heading == "| model | dog | walk | worst frame |"
    assert rows == [
        "| `lite` | +1.00 -> +2.00 | +1.00 -> +2.25 | +1.00 |",
        "| `pro` | +3.00 -> +3.50 | +1.00 -> +1.25 | -0.50 |",
    ]


@pytest.mark.parametrize("change", [{"polish": "d0"}, {"polish": DIGEST, "network": "n2"}])
def test_evaluations_of_other_weights_are_refused(script, records, monkeypatch, capsys, change):
    write(records, "pro-polished", {"dog": (3, 4), "walk": (1, 2)}, **change)
    assert run_program(lambda: script.gain_table(records, DIGEST, "-polished")) == 2
    assert "eval-pro-polished.json is of other weights" in capsys.readouterr().err


def test_a_card_tells_how_such_weights_are_trained(script):
    plain, deeper = PolishConfig(), PolishConfig(told=True, deep_blocks=4, passes=2)
    command = "`python scripts/train_polish.py --data DATA/train --shake LOG ... --val DATA/val`"
    assert script.training_of(plain) == f"{command} trains such weights from random ones."
    told = script.training_of(deeper)
    assert told.startswith("`python scripts/train_polish.py --told --deep-blocks 4 --data DATA")
    assert "the same with `--passes 2 --weights OUT/weights.safetensors` and another" in told


@pytest.mark.parametrize("told", [False, True])
def test_the_released_card_is_that_of_the_released_weights(script, tmp_path, monkeypatch, told):
    subject = script.TOLD if told else script.PLAIN
    file = script.RECORDS.parents[1] / "model_cards" / f"{subject.weights.stem}.md"
    card = file.read_text(encoding="utf-8")
    for line in script.gain_table(
        script.RECORDS, digest_of(load_polish(told=told)), subject.ending
    ):
        assert line in card
    commands = script.commands_of(card)
    for line in script.training_runs(load_polish_weights(subject.weights)[1], commands):
        assert line in card
    table = tmp_path / "stills.tsv"
    table.write_text("licence\tcredit\tsource_repo\nCC0\tBob\tr/b\n")
    target = tmp_path / "polish.md"
    given = ["polish_card.py", "--photographs", str(table), "--out", str(target)]
    given += ["--told"] if told else []
    monkeypatch.setattr(sys, "argv", [*given, "--command", *commands])
    assert run_program(script.main) == 0
    written = target.read_text(encoding="utf-8")
    assert written.split("## Results")[0] == card.split("## Results")[0]
    assert "1 photographs: 1 CC0" in written
