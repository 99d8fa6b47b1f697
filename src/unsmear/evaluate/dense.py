"""Cost of the factorised attention against a dense non-local block on the same features: the record
of `benchmarks/attention.py`, and its table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import linear_regression

from unsmear.evaluate.origin import Origin
from unsmear.evaluate.report import markdown_table

TARGET = (5, 180, 320)  # T, H, W: a window of five frames of 720p at a quarter of the resolution
_FRAMES, _PLACE = 5, (45, 45)  # fixed T for growth with pixels, fixed size for growth with frames
_MIB, _GIB = 1 << 20, 1 << 30
_PAGE = 4096  # bytes: resolution of the memory measurement


@dataclass(frozen=True)
class Cost:
    """Cost of one inference for one current frame.

    Attributes:
        seconds: median time.
        bytes: peak memory, beyond features and weights.
    """

    seconds: float
    bytes: int


@dataclass(frozen=True)
class DenseRow:
    """Costs of both on features of one size.

    Attributes:
        frames: T of the window.
        height, width: of the features.
        factorised: cost of the paper's attention, with the descriptors of all frames.
        dense: cost of the dense non-local block; None: out of memory.
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
        rows: one per size; at least one with T = 5 has a dense cost.
        target: cost of the factorised attention at `TARGET`.
        origin: machine, versions, command and date.
    """

    channels: int
    maps: tuple[int, int]
    rows: tuple[DenseRow, ...]
    target: Cost
    origin: Origin


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
        f"- dense: {growth(record.rows, lambda row: row.dense)}",
        f"- factorised: {growth(record.rows, lambda row: row.factorised)}",
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


def growth(rows: Sequence[DenseRow], of: Callable[[DenseRow], Cost | None]) -> str:
    """Growth of time and memory with pixels and with frames, in words.

    Args:
        rows: of a record.
        of: which of the two costs of a row.
    """
    costs = {(row.frames, row.height, row.width): cost for row in rows if (cost := of(row))}
    pixels = [(h * w, cost) for (t, h, w), cost in costs.items() if t == _FRAMES]
    frames = [(t, cost) for (t, h, w), cost in costs.items() if (h, w) == _PLACE]
    return f"with pixels {_exponents(pixels)}; with frames {_exponents(frames)}"


def _exponents(costs: Sequence[tuple[int, Cost]]) -> str:
    """Growth exponents, fitted to the three largest sizes, where fixed costs are small."""
    largest = sorted(costs, key=lambda pair: pair[0])[-3:]
    if len(largest) < 2:
        return "too few sizes fit into memory"
    xs = [x for x, _ in largest]
    told = f"time ~ x^{slope(xs, [cost.seconds for _, cost in largest]):.2f}"
    if min(cost.bytes for _, cost in largest) > 4 * _MIB:  # below, pages and caches dominate
        told += f", memory ~ x^{slope(xs, [cost.bytes for _, cost in largest]):.2f}"
    return told


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Exponent p of y = a * x**p, by least squares on the logarithms."""
    return linear_regression([*map(math.log, xs)], [*map(math.log, ys)]).slope


def _extrapolated(record: DenseRecord) -> str:
    """Costs at `TARGET`, in words; the dense block does not fit there, so its cost is estimated."""
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
