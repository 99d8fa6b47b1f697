"""Model cards list the commands that led to the weights, the earliest first."""

from __future__ import annotations

import dataclasses
import json
import re
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import load_script
from unsmear.errors import OutputError
from unsmear.evaluate.cards import commands_of, training_runs
from unsmear.evaluate.validation import SequenceScore
from unsmear.models.checkpoint import Provenance
from unsmear.models.zoo import ZOO, released_provenance
from unsmear.restoration.quality import NETWORK_ALONE, QualityOptions

ROOT = Path(__file__).parents[2]
FIRST = Provenance(model="a", steps=1000, seed=0, hours=1, device="cpu", version="1")
SECOND = Provenance(
    model="b", steps=20, seed=1, hours=2, device="cpu", version="1", parent=FIRST.__dict__
)


@pytest.fixture(scope="module")
def model_card():
    return load_script("scripts/model_card.py")


@pytest.mark.parametrize("name", [name for name, row in ZOO.items() if row.weights.is_file()])
def test_released_cards_have_a_command_for_each_run(model_card, name):
    origin = released_provenance(ZOO[name])
    assert origin is not None
    commands = commands_of((ROOT / "model_cards" / f"{name}.md").read_text(encoding="utf-8"))
    training_runs(origin, commands)  # as many as there were runs
    assert all("unsmear train --preset" in command for command in commands)


@pytest.mark.parametrize("name", [name for name, row in ZOO.items() if row.weights.is_file()])
def test_released_cards_tell_how_the_row_is_trained_anew(model_card, name):
    card = (ROOT / "model_cards" / f"{name}.md").read_text(encoding="utf-8")
    assert "\n".join(model_card.retraining(name, commands_of(card))) in card


def score(name, gain, worst):
    return SequenceScore(
        name=name, frames=12, psnr_before=30.0, psnr_after=30.0 + gain, ssim_before=0.9,
        ssim_after=0.95, worst_gain=worst,
    )  # fmt: skip


def test_the_table_has_the_frame_that_gains_least(model_card):
    scores = [score("dog", 1.0, -0.26), dataclasses.replace(score("walk", 3.0, 1.7), frames=36)]
    alone = [score("dog", 0.5, -0.3), score("walk", 2.5, 1.5)]
    heading, _, dog, _, whole = model_card.score_table(scores, alone)
    assert heading.split(" | ")[5:7] == ["gain", "worst frame"]
    assert dog == "| dog | 12 | 30.00 | 30.50 | 31.00 | +1.00 | -0.26 | 0.9000 | 0.9500 |"
    # Means over frames, not over sequences.
    assert whole.startswith("| **all frames** | 48 | 30.00 | 32.00 | 32.50 | +2.50 | -0.26 |")


@pytest.fixture
def asked(model_card, tmp_path, monkeypatch):
    """What `card` is asked for, with a network that is neither loaded nor run; and the settings
    that it is measured with.
    """
    measured = []

    def measure(network, sequences, window, *, with_ssim, quality=NETWORK_ALONE):
        measured.append((with_ssim, quality))
        return [score("dog", float(len(measured)), 0.0)]

    network = SimpleNamespace(to=lambda memory_format: network)
    loaded = SimpleNamespace(network=network, provenance=SECOND, window=5)
    monkeypatch.setattr(model_card, "load_model", lambda _: loaded)
    monkeypatch.setattr(model_card, "count_parameters", lambda _: 2_000_000)
    monkeypatch.setattr(model_card, "count_macs", lambda _: 3e9)
    monkeypatch.setattr(model_card, "some_pairs", lambda _: [])
    monkeypatch.setattr(model_card, "measure", measure)
    table, first = tmp_path / "stills.tsv", tmp_path / "first.md"
    table.write_text("licence\tcredit\tsource_repo\nCC-BY-4.0\tCredit: Ann\tr/a\nCC0\tBob\tr/b\n")
    first.write_text("\n".join(training_runs(FIRST, ["unsmear train --preset a"])))
    arguments = Namespace(
        model="core", val=tmp_path / "val", photographs=table, notes=None, out=None, after=first,
        command=["unsmear train --preset b"],
    )  # fmt: skip
    return arguments, measured


def test_a_card_has_the_network_alone_the_defaults_and_what_takes_longer(
    model_card, asked, monkeypatch
):
    arguments, measured = asked
    quantized = SimpleNamespace(
        calibrated_on={"c.mp4": 3}, versions={"nncf": "3"}, scores={"dog": (36.0, 35.95)}
    )
    monkeypatch.setattr(model_card, "eight_bit_path", lambda _: arguments.photographs)  # exists
    monkeypatch.setattr(model_card, "load_eight_bit", lambda _: ({}, quantized))
    text = model_card.card(arguments)
    slower = [QualityOptions(refine=1), QualityOptions(refine=2)]
    slower += [QualityOptions(ensemble=views) for views in (2, 4, 8)]
    assert measured == [
        (False, NETWORK_ALONE), (True, QualityOptions()), *((False, one) for one in slower)
    ]  # fmt: skip
    assert "| dog | 12 | 30.00 | 31.00 | 32.00 | +2.00 |" in text
    for row in ("default | +2.00", "`--refine 2` | +4.00", "`--ensemble 8` | +7.00"):
        assert f"| {row} |" in text
    assert "| dog | 36.00 | 35.95 | -0.050 |" in text
    assert commands_of(text) == ["unsmear train --preset a", "unsmear train --preset b"]
    assert "- Ann: 1, CC-BY-4.0, from r/a" in text
    assert "Bob" not in text


def test_a_card_over_an_input_is_refused_before_anything_is_measured(model_card, asked):
    arguments, measured = asked
    arguments.out = arguments.photographs
    with pytest.raises(OutputError, match="is the input"):
        model_card.card(arguments)
    assert measured == []


@pytest.mark.parametrize("name", [name for name, row in ZOO.items() if row.weights.is_file()])
def test_released_cards_tell_the_worst_frames_that_records_have(model_card, name):
    card = (ROOT / "model_cards" / f"{name}.md").read_text(encoding="utf-8")
    evaluation = json.loads((ROOT / "benchmarks/results" / f"eval-{name}.json").read_text())
    assert "| gain | worst frame |" in card
    for row in evaluation["sequences"]:
        (told,) = re.findall(rf"^\| {row['name']} \| 12 .*", card, re.MULTILINE)
        least = min(frame["psnr"] - frame["psnr_before"] for frame in row["scores"])
        assert float(told.split(" | ")[6]) == pytest.approx(least, abs=0.02)


def test_a_card_is_printed_or_written_whole(model_card, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(model_card, "card", lambda arguments: "# lite")
    asked = ["model_card.py", "lite", "--val", "v", "--photographs", "p", "--command", "c"]
    monkeypatch.setattr("sys.argv", asked)
    model_card.main()
    assert capsys.readouterr().out == "# lite\n"
    monkeypatch.setattr("sys.argv", [*asked, "--out", str(tmp_path / "lite.md")])
    model_card.main()
    assert capsys.readouterr().out == ""
    assert (tmp_path / "lite.md").read_text(encoding="utf-8") == "# lite\n"
    assert len(list(tmp_path.iterdir())) == 1
