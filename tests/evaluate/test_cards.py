"""Parts of model cards: training runs, data and credits."""

from __future__ import annotations

import dataclasses

import pytest

from unsmear.errors import ConfigError, InputError
from unsmear.evaluate.cards import commands_of, photograph_credits, training_runs
from unsmear.models.checkpoint import Provenance

FIRST = Provenance(model="a", steps=1000, seed=0, hours=1, device="cpu", version="1")
SECOND = Provenance(
    model="b", steps=20, seed=1, hours=2, device="cpu", version="1", parent=FIRST.__dict__
)


def test_commands_come_back_from_the_card_that_was_written():
    commands = ["unsmear train --preset a", "unsmear train --preset b --weights a"]
    lines = training_runs(SECOND, commands)
    assert lines[0].startswith("Run 1: 1,000 steps")
    assert commands_of("# b\n\n```\nnone of these\n```\n\n" + "\n".join(lines)) == commands


@pytest.mark.parametrize(
    ("said", "change"),
    [
        ("25% of the way", {"mixed": 0.25}),
        (
            "taught by plus-0123 with a weight of 2",
            {"config": {"teacher": "plus-0123", "teacher_weight": 2.0}},
        ),
        (", on 3 photographs", {"data": {"summary": "3 photographs", "fingerprint": "f1"}}),
    ],
    ids=["mixed", "taught", "data"],
)
def test_a_run_says_what_is_special_about_it(said, change):
    commands = ["unsmear train --preset a", "unsmear train --preset b --weights a"]
    lines = training_runs(dataclasses.replace(SECOND, **change), commands)
    assert [said in line for line in lines if line.startswith("Run ")] == [False, True]
    assert commands_of("\n".join(lines)) == commands


def test_every_run_needs_its_command():
    with pytest.raises(ConfigError, match="2 runs led to these weights"):
        training_runs(SECOND, ["unsmear train --preset a"])


def test_a_table_of_credits_is_text_with_the_columns_that_are_needed(tmp_path):
    table = tmp_path / "stills.tsv"
    table.write_text('licence\tcredit\tsource_repo\nCC-BY-4.0\tCredit: "A\tB"\tc\n')
    assert photograph_credits(table)[0] == "1 photographs: 1 CC-BY-4.0"
    for contents, message in ((b"licence\nCC0\n", "has no 'credit'"), (b"\x89PNG", "not text")):
        table.write_bytes(contents)
        with pytest.raises(InputError, match=message):
            photograph_credits(table)
