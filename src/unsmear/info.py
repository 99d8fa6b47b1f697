"""`unsmear info`: streams of a clip, its blur, the time to restore it, and the likely gain.

Heavy modules are imported only when needed, as in cli.py.
"""

from __future__ import annotations

import dataclasses
import json as json_format
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape

from unsmear.arguments import Device, MaybeWhole, weights_named
from unsmear.display import err, say, show_error, show_note
from unsmear.engines import EngineName
from unsmear.errors import (
    USAGE_ERROR,
    ConfigError,
    InputError,
    Mistakes,
    UnsmearError,
)
from unsmear.evaluate.plot import PLOT_SUFFIXES, check_matplotlib, plotted_panels, set_title
from unsmear.models import DEFAULT_MODEL
from unsmear.outputs import check_file
from unsmear.planning import clips_in, told_skipped

if TYPE_CHECKING:
    from unsmear.engines.choice import OpenedModel
    from unsmear.restoration.sampling import FrameBlur
    from unsmear.restoration.timing import TimeEstimate
    from unsmear.video.describe import FileDescription

BLURRED = 4.0  # pixels
# Estimated lengths in pixels, from `scripts/calibrate_blur.py gain` with weights of `plain`. Below
# SHARP_BELOW the median gain is 0.3 dB; from 3 pixels on it is about 1 dB at any length. Above
# HEAVY_ABOVE the restored frame is still estimated at 12 pixels or more.
SHARP_BELOW = 2.0
HEAVY_ABOVE = 13.0
_BARS = " ▁▂▃▄▅▆▇█"
_BINS = (0.0, 2.0, 4.0, 8.0, 16.0, float("inf"))


@dataclass(frozen=True)
class Verdict:
    """How much a clip is likely to gain.

    Attributes:
        kind: `sharp`, `gain`, `heavy` or `unknown`.
        words: the verdict as text.
    """

    kind: str
    words: str


@dataclass(frozen=True)
class ClipReport:
    """All that `unsmear info` reports on a clip.

    Attributes:
        path: of the file or folder.
        file: container and streams; None for a folder of images.
        width: pixels.
        height: pixels.
        frames: number of frames, None if unknown.
        blur: of the sampled frames, in order.
        blurred_share: share of frames above BLURRED pixels, among those whose blur is known; None
            if none is.
        median_length: median blur length of these frames, pixels, likewise.
        time: time to restore the clip; None if it cannot be restored.
        time_half: the same with `--engine torch-half`; None if not measured.
        verdict: how much it is likely to gain.
        why_not: why it cannot be restored, None if it can.
    """

    path: Path
    file: FileDescription | None
    width: int
    height: int
    frames: int | None
    blur: tuple[FrameBlur, ...]
    blurred_share: float | None
    median_length: float | None
    time: TimeEstimate | None
    verdict: Verdict
    why_not: str | None = None
    time_half: TimeEstimate | None = None


def verdict(lengths: Sequence[float | None]) -> Verdict:
    """How much frames of these blur lengths (pixels, None if unknown) are likely to gain."""
    known = [length for length in lengths if length is not None]
    if len(known) < max(len(lengths) / 4, 1):
        return Verdict("unknown", "too dark, flat or noisy to estimate blur from single frames")
    share = sum(length >= SHARP_BELOW for length in known) / len(known)
    heavy = sum(length >= HEAVY_ABOVE for length in known) / len(known)
    if heavy > 0.5:
        return Verdict("heavy", "heavy blur: expect a modest gain; the result stays blurred")
    if share < 0.1:
        return Verdict("sharp", "already sharp: little to gain")
    if share < 0.5:
        return Verdict("gain", f"likely to gain in its blurred frames ({share:.0%})")
    return Verdict("gain", "likely to gain")


def inspect_clip(
    source: Path,
    model: OpenedModel,
    every: int | None = None,
    on_frame: Callable[[], None] = lambda: None,
    half: OpenedModel | None = None,
) -> ClipReport:
    """Inspect a clip.

    Args:
        source: video file, or folder of images.
        model: whose time to restore the clip is measured, see `expected_time`.
        every: which frames to sample, see `sample_blur`.
        on_frame: called after each sampled frame.
        half: the model in half precision; its time is measured too.

    Raises:
        InputError: the source cannot be read. A clip that can be read but not restored is
            described; see `ClipReport.why_not`.
    """
    from unsmear.engines.base import threads_for
    from unsmear.restoration.paths import check_source
    from unsmear.restoration.sampling import sample_blur
    from unsmear.restoration.timing import expected_time
    from unsmear.video.describe import describe_streams
    from unsmear.video.folder import FolderReader

    check_source(source)
    file = None if source.is_dir() else describe_streams(source)
    about = FolderReader(source).info if file is None else file
    blur = sample_blur(source, every, on_frame=on_frame)
    lengths = [frame.estimate.length for frame in blur]
    known = [length for length in lengths if length is not None]
    fields = file is not None and file.interlaced

    def timed(one: OpenedModel) -> TimeEstimate:
        with threads_for(one.engine):
            return expected_time(source, one, about.frames, deinterlace=fields)

    time = time_half = why_not = None
    try:
        time = timed(model)
        time_half = None if half is None else timed(half)
    except InputError as error:  # such as transparency: the clip can still be described
        why_not = str(error)
    return ClipReport(
        path=source,
        file=file,
        width=about.width,
        height=about.height,
        frames=about.frames,
        blur=(*blur,),
        blurred_share=sum(x > BLURRED for x in known) / len(known) if known else None,
        median_length=median(known) if known else None,
        time=time,
        time_half=time_half,
        verdict=verdict(lengths),
        why_not=why_not,
    )


def histogram(lengths: Sequence[float | None]) -> list[tuple[str, int]]:
    """Number of frames in each range of lengths: (label, count)."""
    rows = []
    for low, high in pairwise(_BINS):
        name = f"{low:g} px or more" if high == _BINS[-1] else f"{low:g} to {high:g} px"
        rows.append((name, sum(x is not None and low <= x < high for x in lengths)))
    return [*rows, ("unknown", sum(x is None for x in lengths))]


def sparkline(lengths: Sequence[float | None]) -> str:
    """One character per frame; full height is the maximum, at least 8 pixels; `?` is unknown."""
    top = max([8.0, *(x for x in lengths if x is not None)])
    return "".join("?" if x is None else _BARS[1 + min(int(x / top * 8), 7)] for x in lengths)


def report_lines(report: ClipReport) -> list[str]:
    """Format a report as text."""
    lines = [str(report.path)]
    frames = "unknown number of" if report.frames is None else f"{report.frames:,}"
    if report.file is None:
        lines.append(f"  folder of {frames} images, {report.width}x{report.height}")
    else:
        lines += _file_lines(report.file, frames)
    lengths = [frame.estimate.length for frame in report.blur]
    worst = [f.estimate.worst for f in report.blur if f.estimate.worst is not None]
    lines.append(f"  blur of {len(lengths)} frames, start to end: {sparkline(lengths)}")
    ranges = histogram(lengths)
    most = max(number for _, number in ranges)
    for name, number in ranges:
        if number:
            bar = "█" * max(round(24 * number / most), 1)
            lines.append(f"    {name:>15} {bar} {number}")
    if report.median_length is not None:
        lines.append(
            f"    median {report.median_length:.1f} px, {median(worst):.1f} px in the blurriest "
            f"tenth of the frame; {report.blurred_share:.0%} of frames above {BLURRED:g} px"
        )
    if report.time is not None:
        lines.append(f"  restoring takes {_time_words(report.time)}, without encoding")
        half = report.time_half
        if half is not None and half.per_frame[0] < report.time.per_frame[0]:
            lines.append(f"  faster on this CPU: --engine torch-half, {_time_words(half)}")
    if report.file is not None and report.file.interlaced:
        lines.append("  interlaced: restore it with --deinterlace")
    lines.append(f"  {report.verdict.words}")
    if report.why_not is not None:
        lines.append(f"  cannot be restored: {report.why_not}")
    return lines


def _time_words(expected: TimeEstimate) -> str:
    from unsmear.video.describe import clock

    def between(low: str, high: str) -> str:
        return f"about {low}" if low == high else f"{low} to {high}"

    each = between(*(f"{_rounded(seconds, 2)} s" for seconds in expected.per_frame)) + " a frame"
    if expected.total is None:
        return each
    return f"{between(*(clock(seconds) for seconds in expected.total))} ({each})"


def _rounded(value: float, digits: int) -> str:
    """A positive value with this many significant digits; all digits of a whole number where `g`
    would write a power of ten.
    """
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text else text


def _file_lines(file: FileDescription, frames: str) -> list[str]:
    from unsmear.video.describe import clock

    duration = "unknown length" if file.duration is None else clock(file.duration)
    rate = file.rate
    words = "unknown frame rate" if rate.mean is None else f"{rate.mean:.6g} frames/s"
    if rate.variable and rate.slowest and rate.fastest:
        words += (
            f" on average, variable ({_rounded(rate.slowest, 3)} to {_rounded(rate.fastest, 3)})"
        )
    lines = [f"  {file.container}, {file.bytes / 1e6:.1f} MB, {duration}, {frames} frames, {words}"]
    for stream in file.streams:
        parts = [stream.codec or "", stream.language or "", *stream.details]
        lines.append(f"  {stream.index}: {stream.kind:<10} {', '.join(p for p in parts if p)}")
    if file.chapters:
        lines.append(f"  {len(file.chapters)} chapters: {'; '.join(file.chapters)}")
    return lines


def as_json(reports: Sequence[ClipReport]) -> str:
    """All numbers as JSON, including those of each frame; unknown ones are null."""
    rows = [dataclasses.asdict(report) | {"path": str(report.path)} for report in reports]
    return json_format.dumps(rows, indent=2, allow_nan=False)


def write_plot(path: Path, reports: Sequence[ClipReport]) -> None:
    """Plot blur over time, one panel per clip. The file appears only when it is complete.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    with plotted_panels(path, len(reports)) as panels:
        for panel, report in zip(panels, reports, strict=True):
            known = [frame for frame in report.blur if frame.estimate.length is not None]
            times = [frame.time for frame in known]
            panel.fill_between(
                times,
                [frame.estimate.length for frame in known],
                [frame.estimate.worst for frame in known],
                color="#0072b2", alpha=0.2, linewidth=0, label="up to the blurriest tenth",
            )  # fmt: skip
            lengths = [frame.estimate.length for frame in known]
            panel.plot(times, lengths, color="#0072b2", marker=".", label="whole frame")
            unknown = [frame.time for frame in report.blur if frame.estimate.length is None]
            panel.plot(unknown, [0] * len(unknown), "x", color="#999999", label="unknown")
            panel.axhline(BLURRED, color="#999999", linewidth=0.8, linestyle="--")
            panel.set_ylim(bottom=0)
            set_title(panel, f"{report.path.name}: {report.verdict.words}")
            panel.set_ylabel("blur, pixels")
            panel.set_xlabel("image" if report.file is None else "seconds")
        panels[0].legend(loc="best", fontsize=8)


def info(
    clip: Path,
    /,
    *more: Path,
    plot: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    every: MaybeWhole = None,
    model: Annotated[str, Parameter(alias="-m")] = DEFAULT_MODEL,
    device: Device = "auto",
    engine: EngineName = "auto",
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Inspect a clip: its streams, its blur, the time to restore it, and the likely gain.

    Blur is estimated from single frames: its length in pixels along the blurriest direction.

    Args:
        clip: Video file, folder of images, or folder of videos.
        more: Further clips.
        plot: Write a plot of the blur over time (.png, .svg, .pdf).
        json: Print everything as JSON, including the estimate for each frame.
        every: Sample every Nth frame; 1 samples all. Default: about 60 frames across the clip.
        model: Model to time: a name (see `unsmear models`), or path of a .safetensors file.
        device: Where to run.
        engine: Inference engine. `auto` picks the fastest one installed that computes in float32.
        overwrite: Overwrite an existing plot.
    """
    from unsmear.engines.choice import half_of, open_model
    from unsmear.restoration.paths import check_source

    if plot is not None:
        inputs = (clip, *more, weights_named(model))
        check_file(plot, inputs=inputs, suffixes=PLOT_SUFFIXES, overwrite=overwrite)
        check_matplotlib()
    if every is not None and every < 1:
        raise ConfigError(f"every is {every}: must be 1 (all frames) or more")
    clips = []
    for path in (clip, *more):
        found, others = clips_in(path)
        clips += found
        if others:
            show_note(path.name or str(path), told_skipped(others))
    for path in clips:
        check_source(path)
    loaded = open_model(model, device, engine)
    half = half_of(loaded) if engine == "auto" else None
    reports, mistakes = [], Mistakes()
    for path in clips:
        report = mistakes.attempt(lambda: _inspect_with_status(path, loaded, every, half))  # noqa: B023
        if report is None:  # the error is reported at the end, after the other clips
            continue
        reports.append(report)
        if not json:
            say("\n".join(report_lines(report)))
    if json and reports:
        sys.stdout.write(as_json(reports) + "\n")
    if plot is not None and reports:
        write_plot(plot, reports)
        if not json:
            say(f"written: {plot}")
    try:
        mistakes.tell()
    except UnsmearError as error:
        if not (json and reports):
            raise
        show_error(str(error))  # standard output already has a complete JSON document
        sys.exit(USAGE_ERROR)


def _inspect_with_status(
    path: Path, model: OpenedModel, every: int | None, half: OpenedModel | None
) -> ClipReport:
    """Inspect a clip, and show the number of sampled frames meanwhile."""
    name, sampled = escape(path.name), count(1)
    with err.status(f"inspecting {name}") as status:
        return inspect_clip(
            path,
            model,
            every,
            lambda: status.update(f"inspecting {name}: {next(sampled)} frames"),
            half,
        )
