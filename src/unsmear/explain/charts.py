"""Draws the measurements of `maps.py`, one PNG file per function. Colours are distinguishable by
colour-blind people: viridis, cividis, PuOr and the palette of Okabe and Ito.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unsmear.explain.drawing import (
    MARK,
    OKABE_ITO,
    Part,
    Sheet,
    colors_of,
    luma,
    over,
    part_around,
    percent,
    rgb,
    ring,
    shrunk,
    tops,
)
from unsmear.explain.maps import FrameMaps, LevelMaps, half_weight_share

# isort: split
# After drawing.py, which raises MissingExtraError if matplotlib is missing.
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_rgb
from matplotlib.patches import Patch

ZOOM = 40  # pixels shown on each side of the chosen one
LEAST_SHOWN = 1e-7  # of the receptive field, relative to its maximum
_MOST_COLUMNS = 7  # frames side by side in one image
_WIDTH = 12.0  # inches
_MARGIN, _GAP, _TITLE = 0.15, 0.12, 0.32
_HIGHEST_ROW = 2.4  # inches, for portrait frames
_MOST_TIMES = 1000.0  # upper end of the scale of a spatial map, relative to uniform weights
_POINTED = 0.01  # fraction of the frame; a map with half its weight on less focuses on a spot
_OTHERS = "#8c8c8c"


def frame_runs(frames: int) -> list[range]:
    """How the frames of a window are divided among images: runs of similar length."""
    runs = -(-frames // _MOST_COLUMNS)
    return [range(n * frames // runs, (n + 1) * frames // runs) for n in range(runs)]


def draw_change(path: Path, maps: FrameMaps) -> None:
    """Before, after and the change of luma, whole and around the chosen pixel."""
    height, width = maps.before.shape[-2:]
    part = part_around(*maps.field.pixel, ZOOM, height, width)
    limit = change_limit(maps)
    norm, colors = Normalize(-limit, limit), colors_of("PuOr")
    change = colors(norm(255 * (luma(maps.after) - luma(maps.before))))[..., :3]
    column = (_WIDTH - 2 * _MARGIN - 2 * _GAP - 0.9) / 3
    heights = [column * height / width, column * _shape(part)]
    rows = tops(heights, _MARGIN + _TITLE, _TITLE)
    sheet = Sheet(_WIDTH, rows[1] + heights[1] + _MARGIN)
    pictures = (rgb(maps.before), rgb(maps.after), change)
    x, y = maps.field.pixel
    names = ("before", "after", f"change, magnified {127.5 / limit:.0f} times")
    for number, (name, picture) in enumerate(zip(names, pictures, strict=True)):
        left = _MARGIN + number * (column + _GAP)
        whole = sheet.picture(left, rows[0], column, heights[0])
        whole.imshow(picture, extent=(0, width, height, 0), aspect="auto")
        whole.set_title(name, fontsize=13)
        whole.add_patch(part.outline())
        near = sheet.picture(left, rows[1], column, heights[1])
        near.imshow(part.of(picture), extent=part.extent, aspect="auto", interpolation="nearest")
        near.set_title(f"around pixel {x},{y}", fontsize=11)
    bar = sheet.panel(_WIDTH - _MARGIN - 0.8, rows[0], 0.2, rows[1] + heights[1] - rows[0])
    sheet.scale(bar, colors, norm, "brightness, of 255")
    sheet.save(path)


def change_limit(maps: FrameMaps) -> float:
    """Change of luma drawn in full colour, in code values (of 255): its 99.9th percentile."""
    change = 255 * np.abs(luma(maps.after) - luma(maps.before))
    return max(float(np.ceil(np.quantile(change, 0.999))), 1.0)


def draw_spatial(path: Path, maps: FrameMaps, level: LevelMaps, frames: Sequence[int]) -> None:
    """Eq. 1: a row for each of M maps, a column for each of some frames of the window."""
    height, width = maps.before.shape[-2:]
    count, places = level.spatial.shape[1], level.spatial[0, 0].numel()
    label, words = 0.45, 0.24
    column = (_WIDTH - 2 * _MARGIN - label) / max(len(frames), 3) - _GAP
    column = max(min(column, _HIGHEST_ROW * width / height), 1.3)
    row = column * height / width
    rows = tops([row] * count, _MARGIN + _TITLE, words)
    wide = label + 2 * _MARGIN + len(frames) * (column + _GAP)
    sheet = Sheet(wide, rows[-1] + row + 1.1)
    norm, colors = LogNorm(1, _MOST_TIMES), colors_of("viridis", 0.35)
    for number, frame in enumerate(frames):
        index = maps.window.attended[frame]
        # Dim, so that the map stands out.
        behind = 0.05 + 0.35 * shrunk(luma(maps.window.pictures[index]))
        left = _MARGIN + label + number * (column + _GAP)
        for m in range(count):
            times = level.spatial[frame, m].numpy() * places
            shades = colors(norm(np.maximum(times, 1)))
            shades[..., 3] = np.where(times > 1, 0.85, 0)
            panel = sheet.picture(left, rows[m], column, row)
            panel.imshow(
                over(behind, shades, level.stride, width),
                extent=(0, width, height, 0),
                aspect="auto",
            )
            share = half_weight_share(level.spatial[frame, m])
            panel.set_xlabel(f"half on {percent(share)}", labelpad=2, fontsize=9)
            if share < _POINTED:
                at = np.unravel_index(int(times.argmax()), times.shape)
                y, x = ((int(place) + 0.5) * level.stride for place in at)
                ring(panel, min(x, width), min(y, height))
            if m == 0:
                _frame_heading(panel, maps, index)
            if number == 0:
                panel.set_ylabel(f"S{m + 1}", rotation=0, labelpad=16, va="center", fontsize=14)
    long = min(wide - label - 2 * _MARGIN - 0.7, 6.0)
    bar = sheet.panel(label + 2 * _MARGIN, rows[-1] + row + 0.4, long, 0.16)
    sheet.scale(bar, colors, norm, "weight, relative to uniform (grey: less)")
    bar.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000 or more"])
    sheet.save(path)


def draw_temporal(path: Path, maps: FrameMaps, level: LevelMaps) -> None:
    """Eq. 3: a row for each of N maps, a column for each frame of the window; below, the weight of
    each frame in what all pixels took.
    """
    count, frames = level.temporal.shape
    taken = level.frame_shares.mean(dim=(-2, -1)).numpy()
    row, label = 0.42, 1.25
    sheet = Sheet(_WIDTH, _MARGIN + _TITLE + (count + 1) * row + 0.15 + 0.4)
    most = max(min(2 / frames, 1.0), float(level.temporal.max()))
    norm = Normalize(0, 100 * most)
    colors = colors_of("cividis")
    left, width = _MARGIN + label, _WIDTH - 2 * _MARGIN - label - 1.1
    top = _MARGIN + _TITLE
    names = [f"T{n + 1}" for n in range(count)]
    for values, at, labels in (
        (100 * level.temporal.numpy(), top, names),
        (100 * taken[None], top + count * row + 0.15, ["as taken by\nall pixels"]),
    ):
        panel = sheet.picture(left, at, width, len(labels) * row)
        panel.imshow(values, cmap=colors, norm=norm, aspect="auto", interpolation="nearest")
        panel.set_yticks(range(len(labels)), labels, fontsize=12 if len(labels) > 1 else 10)
        panel.tick_params(length=0)
        for border in np.arange(0.5, frames - 1):
            panel.axvline(border, color="white", linewidth=2)
        for border in np.arange(0.5, len(labels) - 1):
            panel.axhline(border, color="white", linewidth=2)
        if frames <= 3 * _MOST_COLUMNS:
            for (n, frame), value in np.ndenumerate(values):
                text = f"{value:.1f} %" if frames <= _MOST_COLUMNS else f"{value:.0f}"
                ink = "black" if norm(value) > 0.55 else "white"
                panel.text(frame, n, text, ha="center", va="center", color=ink)
        if at == top:
            step = -(-frames // _MOST_COLUMNS)
            current = maps.window.attended.index(maps.window.current)
            shown = [frame for frame in range(frames) if (frame - current) % step == 0]
            titles = [_frame_name(maps, maps.window.attended[frame]) for frame in shown]
            panel.xaxis.tick_top()
            panel.set_xticks(shown, titles, fontsize=11)
    bar = sheet.panel(_WIDTH - _MARGIN - 0.9, top, 0.2, (count + 1) * row + 0.15)
    sheet.scale(bar, colors, norm, f"weight, %  (even: {100 / frames:.3g})")
    sheet.save(path)


def draw_taken(path: Path, maps: FrameMaps, level: LevelMaps) -> None:
    """Eq. 5: the element with the largest weight at each pixel, and how many are mixed."""
    height, width = maps.before.shape[-2:]
    spatial, temporal = level.pixelwise.shape[:2]
    column = (_WIDTH - 2 * _MARGIN - _GAP) / 2
    row = column * height / width
    sheet = Sheet(_WIDTH, _MARGIN + _TITLE + row + 0.95)
    whole = Part(0, 0, width, height)
    left = sheet.picture(_MARGIN, _MARGIN + _TITLE, column, row)
    right = sheet.picture(_MARGIN + column + _GAP, _MARGIN + _TITLE, column, row)
    winners, numbers = strongest_elements(level, len(OKABE_ITO)), level.strongest.numpy()
    shades = np.full((*numbers.shape, 4), (*to_rgb(_OTHERS), 0.7))
    keys = []
    for color, (element, share) in zip(OKABE_ITO, winners, strict=False):
        shades[numbers == element] = (*to_rgb(color), 0.7)
        name = f"S{element // temporal + 1}\N{MIDDLE DOT}T{element % temporal + 1}"
        keys.append(Patch(color=color, alpha=0.7, label=f"{name}   {percent(share)}"))
    if (rest := 1 - sum(share for _, share in winners)) > 1e-9:  # not a rounding error
        keys.append(Patch(color=_OTHERS, alpha=0.7, label=f"others   {percent(rest)}"))
    behind = 0.35 + 0.65 * shrunk(luma(maps.before), 960)  # pale, so that colours stay true
    picture = over(behind, shades, level.stride, width)
    left.imshow(picture, extent=whole.extent, aspect="auto")
    left.set_title("the element each position took most of", fontsize=13)
    left.legend(
        handles=keys, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=4, frameon=False,
        fontsize=10, handlelength=1.4, columnspacing=1.4,
    )  # fmt: skip
    norm, colors = Normalize(1, spatial * temporal), colors_of("cividis_r")
    sharing = colors(norm(level.effective.numpy()))
    picture = over(behind, sharing, level.stride, width)
    right.imshow(picture, extent=whole.extent, aspect="auto")
    right.set_title("number of elements mixed", fontsize=13)
    bar = sheet.panel(
        _MARGIN + column + _GAP + 0.4, _MARGIN + _TITLE + row + 0.14, column - 0.8, 0.16
    )
    sheet.scale(
        bar, colors, norm, f"elements (1: a single one; {spatial * temporal}: all the same)"
    )
    sheet.save(path)


def strongest_elements(level: LevelMaps, most: int) -> list[tuple[int, float]]:
    """The elements m * N + n that are strongest at most positions, with their share of these."""
    elements, counts = level.strongest.unique(return_counts=True)
    order = counts.argsort(descending=True, stable=True)[:most]
    total = level.strongest.numel()
    return [(int(elements[i]), int(counts[i]) / total) for i in order]


def draw_field(path: Path, maps: FrameMaps, frames: Sequence[int]) -> None:
    """Receptive field of one pixel: a column for each of some frames, with the whole frame, the
    area around the pixel, the image there, and the share of the frame.
    """
    height, width = maps.before.shape[-2:]
    x, y = maps.field.pixel
    part = part_around(x, y, ZOOM, height, width)
    total = maps.field.total
    influence = (total / total.max().clamp_min(1e-30)).clamp_min(LEAST_SHOWN).numpy()
    norm, colors = LogNorm(LEAST_SHOWN, 1), colors_of("viridis")
    label, scale, chart = 0.75, 1.0, 1.9
    column = (_WIDTH - 2 * _MARGIN - label - scale) / max(len(frames), 3) - _GAP
    heights = [column * height / width, column * _shape(part), column * _shape(part), chart]
    rows = tops(heights, _MARGIN + _TITLE, _GAP)
    wide = label + 2 * _MARGIN + len(frames) * (column + _GAP) + scale
    sheet = Sheet(wide, rows[3] + chart + 0.45)
    names = ("whole frame", f"around {x},{y}", "image there")
    for number, index in enumerate(frames):
        left = _MARGIN + label + number * (column + _GAP)
        panels = [sheet.picture(left, rows[n], column, heights[n]) for n in range(3)]
        heat = colors(norm(influence[index]))[..., :3]
        whole = shrunk(heat)
        panels[0].imshow(whole, extent=(0, width, height, 0), aspect="auto")
        panels[0].add_patch(part.outline())
        _frame_heading(panels[0], maps, index)
        near = part.of(heat), part.of(rgb(maps.window.pictures[index]))
        for panel, picture in zip(panels[1:], near, strict=True):
            panel.imshow(picture, extent=part.extent, aspect="auto", interpolation="nearest")
        panels[2].plot(x + 0.5, y + 0.5, marker="+", markersize=13, color="white", mew=3.5)
        panels[2].plot(x + 0.5, y + 0.5, marker="+", markersize=12, color="black", mew=1.5)
        if number == 0:
            for panel, name in zip(panels, names, strict=True):
                panel.set_ylabel(name, fontsize=11)
    bar = sheet.panel(wide - scale, rows[0], 0.2, rows[1] + heights[1] - rows[0])
    sheet.scale(bar, colors, norm, "influence, relative to the largest")
    bars = sheet.panel(
        _MARGIN + label, rows[3] + _GAP, len(frames) * (column + _GAP) - _GAP, chart - _GAP
    )
    _draw_shares(bars, maps, frames)
    sheet.save(path)


def _draw_shares(panel: Axes, maps: FrameMaps, frames: Sequence[int]) -> None:
    shares = 100 * maps.field.shares.numpy()
    at = list(range(len(frames)))
    local, attention = (shares[list(frames), part] for part in (0, 1))
    panel.bar(at, local, color=OKABE_ITO[4], width=0.5, label="through convolutions")
    panel.bar(
        at, attention, bottom=local, color=MARK, width=0.5, hatch="//", edgecolor="white",
        label="through the attention",
    )  # fmt: skip
    for place, whole, of_it in zip(at, local + attention, attention, strict=True):
        text = f"{percent(whole / 100)}\nattention {percent(of_it / 100)}"
        panel.text(place, whole + 1, text, ha="center", va="bottom", fontsize=9)
    panel.set_xticks(at, [_frame_name(maps, index) for index in frames])
    panel.set_xlim(-0.5, len(frames) - 0.5)
    panel.set_ylim(0, max(float(shares.sum(axis=1).max()), 1.0) * 1.5)
    panel.set_ylabel("share of all\ninfluence, %")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(loc="upper right", frameon=False)


def _shape(part: Part) -> float:
    """Height relative to the width."""
    return (part.bottom - part.top) / (part.right - part.left)


def _frame_name(maps: FrameMaps, index: int) -> str:
    name = f"frame {maps.window.first + index}"
    return f"{name} (this one)" if index == maps.window.current else name


def _frame_heading(panel: Axes, maps: FrameMaps, index: int) -> None:
    current = index == maps.window.current
    panel.set_title(
        _frame_name(maps, index), fontsize=11, fontweight="bold" if current else "normal"
    )
