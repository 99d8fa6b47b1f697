"""The Pareto front of the released networks: gain against time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unsmear.evaluate.report import markdown_table


@dataclass(frozen=True, kw_only=True)
class FrontRow:
    """Measurements of a released network, from records.

    Attributes:
        name: its row in the zoo.
        macs: multiply-accumulates for one frame of 256x256.
        parameters: number of parameters.
        seconds: time for one frame of 1280x720; None if not measured.
        walks: mean gain over the sequences with camera motion, dB.
        still: gain on the nearly sharp sequence, dB.
    """

    name: str
    macs: int
    parameters: int
    seconds: float | None
    walks: float
    still: float


def on_front(row: FrontRow, rows: Iterable[FrontRow]) -> bool:
    """Whether a row is on the Pareto front: no other one gains at least as much on the walks in
    less time (with fewer multiply-accumulates, if one of both was not timed).
    """
    return not any(other.walks >= row.walks and _is_cheaper(other, row) for other in rows)


def _is_cheaper(one: FrontRow, other: FrontRow) -> bool:
    if one.seconds is None or other.seconds is None:
        return one.macs < other.macs
    return one.seconds < other.seconds


def front_lines(rows: Sequence[FrontRow]) -> list[str]:
    """The rows as a Markdown table, by multiply-accumulates."""
    cells = [
        [
            f"`{row.name}`",
            f"{row.macs / 1e9:.2f}",
            f"{row.parameters / 1e6:.2f}",
            "not timed" if row.seconds is None else f"{1 / row.seconds:.2f}",
            f"{row.walks:+.2f}",
            f"{row.still:+.2f}",
            "yes" if on_front(row, rows) else "no",
        ]
        for row in sorted(rows, key=lambda row: row.macs)
    ]
    headings = [
        "network",
        "GMAC at 256x256",
        "million parameters",
        "frames per second at 1280x720",
        "gain on the walks, dB",
        "gain on `dog`, dB",
        "on the front",
    ]
    return markdown_table(headings, cells)
