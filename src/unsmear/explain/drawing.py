"""Drawing tools of all charts: panels placed in inches, colours, frames as backgrounds.

Importing this module raises MissingExtraError if matplotlib is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from torch import Tensor

from unsmear.errors import MissingExtraError

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
except ImportError:
    raise MissingExtraError("matplotlib", "explain", "explaining a frame") from None

# Okabe and Ito's palette, distinguishable by colour-blind people.
OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
MARK = OKABE_ITO[0]
DPI = 130
_LUMA = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709
_BEHIND = 480  # pixels, width of the frame behind a map


class Sheet:
    """A figure whose panels are placed in inches from its upper left corner.

    Args:
        width: inches.
        height: inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self._size = width, height
        self._figure = Figure(figsize=self._size, dpi=DPI)

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """An empty panel with axes."""
        whole_width, whole_height = self._size
        bottom = whole_height - top - height
        return self._figure.add_axes(
            (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
        )

    def picture(self, left: float, top: float, width: float, height: float) -> Axes:
        """An empty panel without ticks."""
        panel = self.panel(left, top, width, height)
        panel.set_xticks([])
        panel.set_yticks([])
        return panel

    def scale(self, panel: Axes, colors: ListedColormap, norm: Normalize, label: str) -> None:
        """Turn a panel into a colour bar, along its longer side."""
        box = panel.get_position()
        wide = box.width * self._size[0] > box.height * self._size[1]
        bar = self._figure.colorbar(
            ScalarMappable(norm, colors),
            cax=panel,
            orientation="horizontal" if wide else "vertical",
        )
        bar.set_label(label)

    def save(self, path: Path) -> None:
        """Save as PNG."""
        self._figure.savefig(path, dpi=DPI, facecolor="white", format="png")


class Part(NamedTuple):
    """A rectangle of a frame, in pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, image: np.ndarray) -> np.ndarray:
        """The part of an image (H, W, ...)."""
        return image[self.top : self.bottom, self.left : self.right]

    def outline(self) -> Rectangle:
        """An outline for a panel whose axes are in pixels."""
        return Rectangle(
            (self.left, self.top),
            self.right - self.left,
            self.bottom - self.top,
            fill=False,
            edgecolor=MARK,
            linewidth=1.5,
        )

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top, in matplotlib's order."""
        return (self.left, self.right, self.bottom, self.top)


def part_around(x: int, y: int, reach: int, height: int, width: int) -> Part:
    """The part of a frame up to `reach` pixels around a pixel, shifted to lie inside the frame."""
    columns, rows = min(2 * reach + 1, width), min(2 * reach + 1, height)
    left = min(max(x - reach, 0), width - columns)
    top = min(max(y - reach, 0), height - rows)
    return Part(left, top, left + columns, top + rows)


def colors_of(name: str, start: float = 0.0) -> ListedColormap:
    """A colour map of matplotlib, from position `start` (0..1) on."""
    return ListedColormap(matplotlib.colormaps[name](np.linspace(start, 1, 256)))


def over(behind: np.ndarray, colors: np.ndarray, stride: int, frame_width: int) -> np.ndarray:
    """Overlay a map on an image, without smoothing (nearest neighbour).

    Args:
        behind: grey background, (H', W') 0..1: a frame, possibly downscaled.
        colors: RGBA 0..1 of the map, (h, w, 4); it may reach beyond the frame.
        stride: pixels of the frame per element of the map.
        frame_width: W of the frame in pixels.

    Returns:
        (H', W', 3), 0..1.
    """
    step = frame_width / behind.shape[1] / stride  # map elements per background pixel
    rows, columns = (
        np.minimum(((np.arange(side) + 0.5) * step).astype(int), most - 1)
        for side, most in zip(behind.shape, colors.shape[:2], strict=True)
    )
    laid = colors[rows][:, columns]
    alpha = laid[..., 3:]
    out: np.ndarray = laid[..., :3] * alpha + behind[..., None] * (1 - alpha)
    return out


def ring(panel: Axes, x: float, y: float) -> None:
    """Draw a ring around a spot, visible on any background."""
    for color, size in (("black", 2.6), (MARK, 1.4)):
        panel.plot(
            x, y, marker="o", markersize=11, markerfacecolor="none", markeredgecolor=color,
            markeredgewidth=size,
        )  # fmt: skip


def rgb(frame: Tensor) -> np.ndarray:
    """(3, H, W), 0..1 -> (H, W, 3)."""
    return np.ascontiguousarray(frame.clamp(0, 1).permute(1, 2, 0).numpy())


def luma(frame: Tensor) -> np.ndarray:
    """(3, H, W), 0..1 -> (H, W)."""
    weighted: np.ndarray = rgb(frame) @ np.asarray(_LUMA, dtype=np.float32)
    return weighted


def shrunk(image: np.ndarray, width: int = _BEHIND) -> np.ndarray:
    """Downscale (H, W, ...) to a maximum width by averaging."""
    if image.shape[1] <= width:
        return image
    size = (width, max(round(image.shape[0] * width / image.shape[1]), 1))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def percent(share: float) -> str:
    """0.123 -> 12 %; values below 10 % get a decimal."""
    value = 100 * share
    if value == 0:
        return "0 %"
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.1f} %" if value >= 0.05 else "< 0.1 %"


def tops(heights: Sequence[float], first: float, gap: float) -> list[float]:
    """Top positions of rows of these heights, one below the other."""
    return [first + sum(heights[:n]) + gap * n for n in range(len(heights))]
