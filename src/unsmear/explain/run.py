"""Explains a frame of a clip: a folder with a page and its images, written when all are done."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from unsmear.engines.choice import OpenedModel
from unsmear.errors import ConfigError, writing
from unsmear.explain.charts import (
    LEAST_SHOWN,
    change_limit,
    draw_change,
    draw_field,
    draw_spatial,
    draw_taken,
    draw_temporal,
    frame_runs,
)
from unsmear.explain.maps import FrameMaps, LevelMaps, explain_frame
from unsmear.explain.page import (
    About,
    Section,
    change_section,
    field_section,
    render_page,
    spatial_section,
    taken_section,
    temporal_section,
)
from unsmear.explain.window import LARGEST_WINDOW, read_window
from unsmear.outputs import telling_of
from unsmear.restoration.paths import check_output
from unsmear.video.folder import growing_folder
from unsmear.video.images import integer_from_unit, write_image

PAGE = "index.html"


def parse_pixel(text: str) -> tuple[int, int]:
    """Parse `X,Y` as users type it.

    Raises:
        ConfigError: it has another form.
    """
    match = re.fullmatch(r"(\d{1,9}),(\d{1,9})", text, re.ASCII)
    if match is None:
        raise ConfigError(f"pixel is '{text}': must be X,Y in pixels from the top left corner")
    return int(match[1]), int(match[2])


def parse_odd_window(text: str) -> int:
    """Parse an odd number of frames as users type it.

    Raises:
        ConfigError: it is anything else, `all` and numbers above LARGEST_WINDOW included.
    """
    digits = text.lstrip("0") if text.isascii() and text.isdigit() else ""
    number = int(digits) if 0 < len(digits) <= len(str(LARGEST_WINDOW)) else 0
    if number % 2 == 0:
        raise ConfigError(
            f"window is '{text}': must be an odd number of frames, such as 1, 3 or 5, at most "
            f"{LARGEST_WINDOW} (not all, since every frame of it is shown)"
        )
    return number


def explain_clip(
    source: Path,
    target: Path,
    model: OpenedModel,
    number: int,
    *,
    window: int | None = None,
    level: int | None = None,
    pixel: tuple[int, int] | None = None,
    overwrite: bool = False,
) -> FrameMaps:
    """Explain one frame of a clip on a page, `index.html` in a folder.

    Args:
        source: video file, or folder of images in the order of their names.
        target: the folder.
        model: network and window.
        number: of the frame, from 0.
        window: number of frames that contribute through the attention, odd; default: the model's.
        level: show the attention of this level only.
        pixel: x and y; default: see `explain_frame`.
        overwrite: replace files of an existing folder.

    Returns:
        The measurements.

    Raises:
        InputError: the source cannot be used, or has no such frame.
        OutputError: the target cannot be written. A new folder is not created; for an existing one
            see `publish_images`.
        ConfigError: the window, level, pixel or number is invalid.
    """
    check_output(source, target, folder=True, overwrite=overwrite)
    frames = read_window(
        source,
        number,
        model.window if window is None else window,
        model.network.config.neighbours,
    )
    maps = explain_frame(model.network, frames, level=level, pixel=pixel)
    device = next(model.network.parameters()).device
    path = source.resolve()
    clip = f"{path.parent.name}/{path.name}" if path.is_dir() else path.name
    write_explanation(target, maps, About(clip, model.name, str(device)))
    return maps


def write_explanation(target: Path, maps: FrameMaps, about: About) -> None:
    """Draw all images and write the page into a hidden folder, then rename it. In an existing
    folder the page is replaced last.

    Raises:
        OutputError: a file cannot be written.
    """
    with (
        growing_folder(target, last=PAGE) as folder,
        writing(target),
        telling_of(target, folder),
    ):
        for name, picture in (("before", maps.before), ("after", maps.after)):
            write_image(folder / f"{name}.png", integer_from_unit(picture))
        page = render_page(maps, about, _draw_all(folder, maps))
        # File names need not be valid text.
        (folder / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")


def _draw_all(folder: Path, maps: FrameMaps) -> list[Section]:
    draw_change(folder / "change.png", maps)
    sections = [change_section(["change.png"], change_limit(maps))]
    for level in maps.levels:
        sections += _draw_level(folder, maps, level)
    files = _draw_runs(
        folder,
        "influence",
        len(maps.window.pictures),
        lambda path, run: draw_field(path, maps, run),
    )
    return [*sections, field_section(files, maps, LEAST_SHOWN)]


def _draw_level(folder: Path, maps: FrameMaps, level: LevelMaps) -> list[Section]:
    name, named = f"level{level.level}", len(maps.levels) > 1
    spatial = _draw_runs(
        folder,
        f"{name}-spatial",
        len(maps.window.attended),
        lambda path, run: draw_spatial(path, maps, level, run),
    )
    temporal, taken = f"{name}-temporal.png", f"{name}-taken.png"
    draw_temporal(folder / temporal, maps, level)
    draw_taken(folder / taken, maps, level)
    return [
        spatial_section(spatial, level, named=named),
        temporal_section([temporal], level, named=named),
        taken_section([taken], level, named=named),
    ]


def _draw_runs(
    folder: Path, name: str, frames: int, draw: Callable[[Path, range], None]
) -> list[str]:
    """Draw as many images as needed to show all frames, and return their names."""
    runs = frame_runs(frames)
    files = [
        f"{name}.png" if len(runs) == 1 else f"{name}-{n}.png" for n in range(1, len(runs) + 1)
    ]
    for file, run in zip(files, runs, strict=True):
        draw(folder / file, run)
    return files
