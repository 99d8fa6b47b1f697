"""Plots of several panels, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unsmear.errors import MissingExtraError
from unsmear.outputs import atomic_file

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

PLOT_SUFFIXES = (".png", ".svg", ".pdf")
_ROWS = 40  # maximum number of panels in a column: some viewers cannot open taller images


def check_matplotlib() -> None:
    """Raise MissingExtraError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError("matplotlib", "eval", "the plot") from None


@contextmanager
def plotted_panels(path: Path, count: int) -> Iterator[np.ndarray]:
    """Yield empty panels (`Axes`, one below the other, in several columns if they are many), then
    write the figure. The suffix decides its format. The file appears only when it is complete.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    columns = -(-count // _ROWS)
    rows = -(-count // columns)
    figure = Figure(figsize=(8 * columns, 0.6 + 2.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten("F")
    for unused in panels[count:]:
        unused.remove()
    yield panels[:count]
    with atomic_file(path) as partial:
        figure.savefig(partial)


def set_title(panel: Axes, title: str) -> None:
    """Set the title of a panel. Names of files may contain dollar signs, which would be mathtext,
    and bytes that are no valid text.
    """
    readable = title.encode(errors="backslashreplace").decode()
    panel.set_title(readable, fontsize=10, parse_math=False)
