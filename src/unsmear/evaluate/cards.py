"""Parts that model cards share: training runs, data and credits."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path

from unsmear.errors import ConfigError, InputError
from unsmear.models.checkpoint import Provenance

# Sources of training data with real motion: name, source, licence.
_CLIPS = (
    ("androidx_* (test clips)", "androidx/media", "Apache-2.0"),
    ("mapillary_sample5s", "mapillary/mapillary_tools", "BSD-2-Clause"),
    ("sam2_* (demo clips)", "facebookresearch/sam2", "Apache-2.0"),
    ("sports2d_demo", "davidpagnon/Sports2D", "BSD-3-Clause"),
    ("two phone orientation logs", "astrophysician/VideoDeblurring", "Apache-2.0"),
)


def read_text(path: Path) -> str:
    """Text of a file in UTF-8.

    Raises:
        InputError: it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"'{path}' is not text in UTF-8: give another file") from None


def photograph_credits(table: Path) -> list[str]:
    """Counts of licences, and the credits that CC-BY requires.

    Raises:
        InputError: the table lacks a column, or is not text.
    """
    rows = list(csv.DictReader(io.StringIO(read_text(table)), delimiter="\t"))
    for column in ("licence", "credit", "source_repo"):
        if any(row.get(column) is None for row in rows):
            raise InputError(f"'{table}' has no '{column}' in each row: a TSV with a head")
    licences = Counter(row["licence"] for row in rows)
    lines = [
        f"{len(rows)} photographs: " + ", ".join(f"{n} {k}" for k, n in licences.most_common())
    ]
    credits = Counter(
        (row["licence"], row["credit"].removeprefix("Credit: ") or "-", row["source_repo"])
        for row in rows
        if row["licence"].startswith("CC-BY")
    )
    lines.append("")
    lines += [
        f"- {credit}: {count}, {licence}, from {repo}"
        for (licence, credit, repo), count in sorted(credits.items())
    ]
    return lines


def credit_lines(table: Path) -> list[str]:
    """The section on training data: photographs, sharp videos and orientation logs; see
    `photograph_credits`.
    """
    return [
        "## Data and credits",
        "",
        *photograph_credits(table),
        "",
        "Sharp videos and orientation logs:",
        "",
        *(f"- {name}: {source}, {licence}" for name, source, licence in _CLIPS),
    ]


def training_runs(origin: Provenance, commands: list[str]) -> list[str]:
    """Description and command of each training run, in order.

    Raises:
        ConfigError: the number of commands is not that of the runs.
    """
    runs = [origin]
    while runs[0].parent:
        runs.insert(0, Provenance.from_record(runs[0].parent))
    if len(runs) != len(commands):
        raise ConfigError(f"{len(runs)} runs led to these weights: give as many commands")
    lines = []
    for number, (run, command) in enumerate(zip(runs, commands, strict=True), start=1):
        loss, rate = run.config.get("loss"), run.config.get("learning_rate")
        lines += [
            f"Run {number}: {run.steps:,} steps, seed {run.seed}, {run.hours:.2f} hours on "
            f"{run.device}, loss {loss}, learning rate {rate}, Unsmear {run.version}"
            + _data(run)
            + _taught(run)
            + _mixture(run)
            + ":",
            "",
            "```",
            command,
            "```",
            "",
        ]
    return lines


def _data(run: Provenance) -> str:
    """The data of a run, if it was recorded."""
    return "" if run.data is None else f", on {run.data['summary']}"


def _taught(run: Provenance) -> str:
    """The teacher of a run, if it had one."""
    if not run.config.get("teacher"):
        return ""
    return f", taught by {run.config['teacher']} with a weight of {run.config['teacher_weight']:g}"


def _mixture(run: Provenance) -> str:
    """Position of the weights between the start and the end of a run, if it is not the end."""
    if run.mixed == 1:
        return ""
    return (
        f"; the weights are {run.mixed:.0%} of the way from the start of this run to its end "
        f"(`scripts/mix_weights.py --share {run.mixed}`)"
    )


def commands_of(card: str) -> list[str]:
    """The training commands in a card, in order."""
    return re.findall(r"^Run \d+:[^\n]*\n\n```\n(.+?)\n```$", card, re.MULTILINE)
