"""Cards tell which commands led to the weights, those of earlier weights first."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.conftest import load_script
from unsmear.models.checkpoint import Provenance
from unsmear.models.zoo import ZOO, released_provenance

ROOT = Path(__file__).parent.parent
FIRST = Provenance(model="a", steps=1000, seed=0, hours=1, device="cpu", version="1")
SECOND = Provenance(
    model="b", steps=20, seed=1, hours=2, device="cpu", version="1", parent=FIRST.__dict__
)


@pytest.fixture(scope="module")
def model_card():
    return load_script("scripts/model_card.py")


def test_commands_come_back_from_the_card_that_was_written(model_card):
    commands = ["unsmear train --preset a", "unsmear train --preset b --weights a"]
    lines = model_card.training_runs(SECOND, commands)
    assert lines[0].startswith("Run 1: 1,000 steps")
    assert (
        model_card.commands_of("# b\n\n```\nnone of these\n```\n\n" + "\n".join(lines)) == commands
    )


def test_weights_between_two_runs_say_so(model_card):
    mixed = dataclasses.replace(SECOND, mixed=0.25)
    commands = ["unsmear train --preset a", "unsmear train --preset b --weights a"]
    lines = model_card.training_runs(mixed, commands)
    (told,) = [line for line in lines if "25% of the way" in line]
    assert told.startswith("Run 2:")
    assert model_card.commands_of("\n".join(lines)) == commands


def test_every_run_needs_its_command(model_card):
    with pytest.raises(SystemExit, match="2 runs led to these weights"):
        model_card.training_runs(SECOND, ["unsmear train --preset a"])


@pytest.mark.parametrize("name", [name for name, row in ZOO.items() if row.weights.is_file()])
def test_released_cards_have_a_command_for_each_run(model_card, name):
    origin = released_provenance(ZOO[name])
    assert origin is not None
    commands = model_card.commands_of((ROOT / "model_cards" / f"{name}.md").read_text())
    model_card.training_runs(origin, commands)  # as many as there were runs
    assert all("unsmear train --preset" in command for command in commands)
