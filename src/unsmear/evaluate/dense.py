"""What the factorisation saves against a dense non-local block on the same features: the record of
`benchmarks/attention.py`, and its table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unsmear.evaluate.origin import Origin
from unsmear.evaluate.report import markdown_table

TARGET = (5, 180, 320)  # a window of five frames of 720p at a quarter of their size
_FRAMES, _PLACE = 5, (45, 45)  # at which pixels grow, and frames
_MIB, _GIB = 1 << 20, 1 << 30
_PAGE = 4096  # bytes; less cannot be told


@dataclass(frozen=True)
class Cost:
    """One application for one current frame, inference.

    Attributes:
        seconds: median.
        bytes: of memory at its peak, beyond features and weights.
    """

    seconds: float
    bytes: int


@dataclass(frozen=True)
class DenseRow:
    """Both on features of one size.

    Attributes:
        frames: T of the window.
        height, width: of the features.
        factorised: of the paper's attention, descriptors of all frames computed afresh.
        dense: of the other; None: it found no memory.
    """

    frames: int
    height: int
    width: int
    factorised: Cost
    dense: Cost | None


@dataclass(frozen=True)
class DenseRecord:
    """One run of `benchmarks/attention.py`.

    Attributes:
        channels: C of the features.
        maps: M and N of the attention.
        rows: sizes, with dense at one of T = 5 at least.
        target: the attention's at TARGET.
        origin: machine, versions, command, date.
    """

    channels: int
    maps: tuple[int, int]
    rows: tuple[DenseRow, ...]
    target: Cost
    origin: Origin

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> DenseRecord:
        """What `record_as_json` wrote."""
        rows = tuple(
            DenseRow(
                **{
                    **row,
                    "factorised": Cost(**row["factorised"]),
                    "dense": row["dense"] and Cost(**row["dense"]),
                }
            )
            for row in record["rows"]
        )
        spatial, temporal = record["maps"]
        target, origin = Cost(**record["target"]), Origin(**record["origin"])
        return cls(record["channels"], (spatial, temporal), rows, target, origin)


def dense_lines(record: DenseRecord) -> list[str]:
    """The record as Markdown."""
    spatial, temporal = record.maps
    headings = [
        "T", "H x W", "dense ms", "factorised ms", "times less",
        "dense MiB", "factorised MiB", "times less",
    ]  # fmt: skip
    return [
        f"The paper's attention (M = {spatial}, N = {temporal}) and a dense non-local block "
        f"on the same features of {record.channels} channels, for one current frame, in float32: "
        "time, and memory beyond features and weights.",
        "",
        *markdown_table(headings, [_cells(row) for row in record.rows]),
        "",
        *(f"- {name}: {growth(record.rows, of)}" for name, of in _KINDS.items()),
        f"- {_extrapolated(record)}",
    ]


def _cells(row: DenseRow) -> list[str]:
    ours, dense = row.factorised, row.dense
    cells = [str(row.frames), f"{row.height} x {row.width}"]
    if dense is None:
        cells += ["out of memory", f"{1e3 * ours.seconds:.2f}", "-"]
        return [*cells, "-", f"{ours.bytes / _MIB:.1f}", "-"]
    cells += [f"{1e3 * dense.seconds:.2f}", f"{1e3 * ours.seconds:.2f}"]
    cells += [f"{dense.seconds / ours.seconds:.0f}", f"{dense.bytes / _MIB:.1f}"]
    return [*cells, f"{ours.bytes / _MIB:.1f}", f"{dense.bytes / max(ours.bytes, _PAGE):.0f}"]


_KINDS: dict[str, Callable[[DenseRow], Cost | None]] = {
    "dense": lambda row: row.dense,
    "factorised": lambda row: row.factorised,
}


def growth(rows: Sequence[DenseRow], of: Callable[[DenseRow], Cost | None]) -> str:
    """How time and memory of one of the two grow with the pixels and with the frames, in words."""
    costs = {(row.frames, row.height, row.width): cost for row in rows if (cost := of(row))}
    pixels = [(h * w, cost) for (t, h, w), cost in costs.items() if t == _FRAMES]
    frames = [(t, cost) for (t, h, w), cost in costs.items() if (h, w) == _PLACE]
    return f"with pixels {_exponents(pixels)}; with frames {_exponents(frames)}"


def _exponents(costs: Sequence[tuple[int, Cost]]) -> str:
    """Fitted over the largest three, where fixed costs are small."""
    largest = sorted(costs, key=lambda pair: pair[0])[-3:]
    if len(largest) < 2:
        return "too few sizes fit into memory"
    xs = [float(x) for x, _ in largest]
    told = f"time ~ x^{slope(xs, [cost.seconds for _, cost in largest]):.2f}"
    if min(cost.bytes for _, cost in largest) > 4 * _MIB:  # below, pages and caches are the result
        told += f", memory ~ x^{slope(xs, [float(cost.bytes) for _, cost in largest]):.2f}"
    return told


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Exponent of y = a * x**p by least squares of the logarithms."""
    logs = [(math.log(x), math.log(y)) for x, y in zip(xs, ys, strict=True)]
    mean_x, mean_y = (sum(column) / len(logs) for column in zip(*logs, strict=True))
    above = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return above / sum((x - mean_x) ** 2 for x, _ in logs)


def _extrapolated(record: DenseRecord) -> str:
    """At TARGET, where dense does not fit."""
    frames, height, width = TARGET
    pixels, dense = max(
        (row.height * row.width, row.dense.seconds)
        for row in record.rows
        if row.dense is not None and row.frames == frames
    )
    seconds = dense * (height * width / pixels) ** 2
    weights = frames * (height * width) ** 2 * 4 / _GIB
    return (
        f"{frames} frames of {height} x {width}, 720p at a quarter: dense needs {weights:.1f} GiB "
        f"for its weights alone and, by extrapolation, {seconds:.0f} s; factorised measured "
        f"{1e3 * record.target.seconds:.0f} ms and {record.target.bytes / _MIB:.0f} MiB"
    )
