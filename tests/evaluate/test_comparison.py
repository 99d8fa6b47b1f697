from __future__ import annotations

import dataclasses

from unsmear.evaluate.comparison import (
    ComparisonRecord,
    Row,
    Run,
    Score,
    comparison_lines,
    verdict_lines,
)
from unsmear.evaluate.origin import Origin
from unsmear.evaluate.records import record_as_json, record_from_json


def score(psnr, fresh):
    return Score(
        psnr=psnr, ssim=psnr / 40, fresh=fresh, neighbours=2 * fresh, sequences={"a": psnr}
    )


def row(label, fresh, limit="steps"):
    runs = tuple(
        Run(seed=seed, limit=limit, step=10, seconds=2.0, score=score(30 + value, value))
        for seed, value in reversed(list(enumerate(fresh)))
    )
    return Row(label=label, parameters=1_500_000, macs=2_000_000_000, own_macs=1_000_000, blocks=2,
               step_seconds=0.25, peak_bytes=3 << 20, runs=runs)  # fmt: skip


def record(*rows):
    origin = Origin(machine="m", versions="v", command="c", date="2026-01-01")
    return ComparisonRecord(
        title="t", note="n", origin=origin, settings={"crop": 96}, blurry=score(29, 0.0), rows=rows
    )


RECORD = record(
    row("none", [0.10, 0.20]),
    row("factorised", [0.12, 0.21]),
    row("flow", [0.11, 0.25]),
    row("concat", [0.20, 0.30]),
)


def test_seeds_that_are_not_finite_are_written_and_decide_nothing():
    """Validation frames may equal the truth, and a network may overflow."""
    inf, nan = float("inf"), float("nan")
    equal = record(row("none", [0.1, inf]), row("factorised", [0.2, inf]), row("flow", [inf, 0.1]))
    text = record_as_json(equal)
    assert "Infinity" not in text
    assert record_from_json(ComparisonRecord, text) == equal
    lines = "\n".join(comparison_lines(equal))
    assert "| factorised | inf" in lines
    assert "undecided against `none`, `flow`" in lines  # inf against inf is 0
    for spoilt in ([0.3, nan], [nan, 0.3]):
        lost = record(row("none", [0.1, 0.1]), row("factorised", spoilt))
        read = record_from_json(ComparisonRecord, record_as_json(lost))
        assert [str(value) for value in read.rows[1].values("steps", "fresh")] == [
            str(value) for value in spoilt
        ]
        assert "undecided against `none`" in verdict_lines(lost, "steps")[0]
        assert comparison_lines(lost)


def test_verdicts_hold_for_every_seed_or_are_undecided():
    (line,) = verdict_lines(RECORD, "steps")
    for sentence in line.split(". ")[:2]:
        assert "ahead of `none` for every seed" in sentence
        assert "behind `concat`" in sentence
        assert "undecided against `flow`" in sentence
    assert "By chance alone, 2 seeds agree in one case of 2." in line
    assert verdict_lines(record(row("none", [0.1])), "steps") == []
    alone = record(row("none", [0.1]), row("factorised", [0.2]))
    assert "nothing is decided" in verdict_lines(alone, "steps")[0]


def test_tables_show_spread_best_first_and_where_they_come_from():
    lines = comparison_lines(RECORD)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    assert [row[0] for row in cells[2:]] == [
        "(blurry)", "concat", "flow", "factorised", "none",
    ]  # fmt: skip
    assert cells[5][3] == "+0.165 (+0.120 to +0.210)"
    assert cells[5][4] == "+0.015 (+0.010 to +0.020)"  # differences per seed, not of the means
    assert cells[5][5] == "+0.330 (+0.240 to +0.420)"
    assert cells[5][8:] == ["1.500", "2.000", "0.001", "250", "3"]
    assert cells[6][4] == "-"
    assert not [line for line in lines if "Equal time" in line]
    assert lines[-1] == "Measured by `c`, 2026-01-01, m, v."


def test_each_limit_has_its_own_table():
    steps, minutes = row("none", [0.1]), row("none", [0.3], limit="minutes")
    later = tuple(dataclasses.replace(run, step=30) for run in minutes.runs)
    both = record(dataclasses.replace(steps, runs=steps.runs + later))
    text = "\n".join(comparison_lines(both))
    first, second = text.split("**Equal time**")
    assert "| none | 30.100 | 0.7525 | +0.100 | - | +0.200 | 10 |" in first
    assert "| none | 30.300 | 0.7575 | +0.300 | - | +0.600 | 30 |" in second
