"""Reports of benchmark results: Markdown, plots and JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from unsmear.errors import OutputError
from unsmear.evaluate.benchmark import BenchmarkResult, FrameScore, mean_of, mean_of_sequences
from unsmear.evaluate.origin import Origin
from unsmear.evaluate.plot import PLOT_SUFFIXES, check_matplotlib, plotted_panels
from unsmear.evaluate.records import record_as_json
from unsmear.outputs import check_file, real_path, write_text
from unsmear.restoration.quality import NETWORK_ALONE, QualityOptions

GOPRO_TEST_FRAMES = 1111
# Table 1 of arXiv 2201.00169: GOPRO test set, PSNR in dB and SSIM, as published there.
TABLE_1 = (
    ("Tao et al. 2018", 30.29, 0.9014),
    ("Su et al. 2017", 27.31, 0.8255),
    ("Wieschollek et al. 2017", 25.19, 0.7794),
    ("Hyun Kim et al. 2017", 26.82, 0.8245),
    ("Nah et al. 2019", 29.97, 0.8947),
    ("Wang et al. 2019 (EDVR)", 26.83, 0.8426),
    ("Zhou et al. 2019 (STFAN)", 28.59, 0.8608),
    ("the paper", 31.61, 0.91),
)

_COLUMNS = (
    ("PSNR blurry", "psnr_before", "{:.2f}"),
    ("PSNR", "psnr", "{:.2f}"),
    ("SSIM blurry", "ssim_before", "{:.4f}"),
    ("SSIM", "ssim", "{:.4f}"),
    ("flicker blurry", "flicker_before", "{:.2f}"),
    ("flicker", "flicker", "{:.2f}"),
    ("VMAF", "vmaf", "{:.2f}"),
    ("NIQE blurry", "niqe_before", "{:.2f}"),
    ("NIQE", "niqe", "{:.2f}"),
    ("NIQE sharp", "niqe_sharp", "{:.2f}"),
)
NIQE_REMARK = (
    "NIQE: lower is more natural. Its model is fitted on our own photographs: compare values only "
    "between frames of one size, and not with published ones."
)
TABLE_1_REMARK = (
    "The measured row is of the network with what ran around it ({steps}): "
    "`--burst 0`, without --ensemble and --refine, measures the network alone."
)


def table_rows(result: BenchmarkResult) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: one per sequence, then all frames, then, for several sequences, their
    mean. Columns without any values are left out.
    """
    columns = [column for column in _COLUMNS if mean_of(result.frames, column[1]) is not None]
    headings = ["sequence", "frames", *(heading for heading, _, _ in columns)]

    def row(name: str, frames: int, mean: Callable[[str], float | None]) -> list[str]:
        values = [(mean(measure), form) for _, measure, form in columns]
        cells = ("-" if value is None else form.format(value) for value, form in values)
        return [name, str(frames), *cells]

    sequences, frames = result.sequences, result.frames
    rows = [row(one.name, len(one.frames), partial(mean_of, one.frames)) for one in sequences]
    rows.append(row("all frames", len(frames), partial(mean_of, frames)))
    if len(sequences) > 1:
        mean = partial(mean_of_sequences, sequences)
        rows.append(row("mean of sequences", len(frames), mean))
    return headings, rows


def remarks(result: BenchmarkResult) -> list[str]:
    """Remarks that a reader needs to interpret the measures."""
    niqe = [NIQE_REMARK] if mean_of(result.frames, "niqe") is not None else []
    return [*result.notes, *niqe]


def as_markdown(result: BenchmarkResult, *, table_1: bool = False) -> str:
    """The result as Markdown, with its protocol spelt out. `table_1` appends Table 1 of the paper
    with the measured row.
    """
    protocol = result.protocol
    headings, rows = table_rows(result)
    lines = [
        f"{result.title}; protocol `{protocol.name}` ({protocol.summary}); "
        f"{len(result.frames)} frames. PSNR in dB; flicker is the mean error of the change from "
        "frame to frame, on a scale of 0 to 255.",
        "",
        *markdown_table(headings, rows),
    ]
    for remark in remarks(result):
        lines += ["", remark]
    if table_1:
        lines += ["", *table_1_lines(result)]
    return "\n".join(lines) + "\n"


def table_1_lines(result: BenchmarkResult) -> list[str]:
    """Table 1 of the paper with a row for the result, which must have PSNR and SSIM. A remark
    follows unless the row is of a network alone, as the others are.
    """
    psnr, ssim = (mean_of(result.frames, measure) for measure in ("psnr", "ssim"))
    assert psnr is not None
    assert ssim is not None
    row = measured_row(result.title, psnr, ssim, result.protocol.name, len(result.frames))
    lines, model = table_1([row]), result.model
    if model is None:
        return lines
    used = QualityOptions(ensemble=model.ensemble, refine=model.refine, burst=model.burst)
    if used == NETWORK_ALONE:
        return lines
    return [*lines, "", TABLE_1_REMARK.format(steps=used.in_words())]


def table_1(measured: Sequence[Sequence[str]]) -> list[str]:
    """Table 1 of the paper, with further rows made by `measured_row`."""
    source = "arXiv 2201.00169, Table 1"
    rows = [[name, f"{psnr:.2f}", f"{ssim:.4f}", source] for name, psnr, ssim in TABLE_1]
    return markdown_table(["method", "PSNR", "SSIM", "source"], [*rows, *measured])


def measured_row(title: str, psnr: float, ssim: float, protocol: str, frames: int) -> list[str]:
    """A row for Table 1, with its protocol and number of frames as the source."""
    whole = "" if frames == GOPRO_TEST_FRAMES else f", not GOPRO's {GOPRO_TEST_FRAMES}"
    source = f"measured here, `{protocol}`, {frames} frames{whole}"
    return [title, f"{psnr:.2f}", f"{ssim:.4f}", source]


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def as_json(result: BenchmarkResult, origin: Origin | None = None) -> str:
    """All scores, including those of each frame, and their origin. Missing scores are null."""
    measures = [field.name for field in dataclasses.fields(FrameScore) if field.name != "index"]

    def means(frames: Sequence[FrameScore]) -> dict[str, Any]:
        return {"frames": len(frames)} | {name: mean_of(frames, name) for name in measures}

    sequences = result.sequences
    mean = {name: mean_of_sequences(sequences, name) for name in measures}

    return record_as_json(
        {
            "title": result.title,
            "origin": origin,
            "model": result.model,
            "protocol": result.protocol,
            "remarks": remarks(result),
            "all": means(result.frames),
            "mean_of_sequences": {"sequences": len(sequences)} | mean,
            "sequences": [
                {"name": sequence.name, "layout": sequence.layout}
                | means(sequence.frames)
                | {"scores": sequence.frames}
                for sequence in sequences
            ],
        }
    )


def check_reports(
    markdown: Path | None, json_file: Path | None, plot: Path | None, inputs: Sequence[Path | None]
) -> None:
    """Check before the work that `save_reports` can write its files. Existing reports may be
    overwritten.

    Args:
        markdown: file for the tables.
        json_file: file for all scores.
        plot: image file.
        inputs: measured files and folders; no report may be written over or into them.

    Raises:
        OutputError: a file cannot be written, or two are the same.
        MissingExtraError: matplotlib is needed but not installed.
    """
    paths = [path for path in (markdown, json_file, plot) if path is not None]
    for path in paths:
        check_file(path, inputs=inputs, suffixes=PLOT_SUFFIXES if path is plot else ())
    for path, other in combinations(paths, 2):
        if real_path(path) == real_path(other):
            also = "" if path == other else f" (as '{other}' too)"
            raise OutputError(f"'{path}' is given for two reports{also}: give each its own file")
    if plot is not None:
        check_matplotlib()


def save_reports(
    result: BenchmarkResult,
    *,
    markdown: Path | None,
    json_file: Path | None,
    plot: Path | None,
    table_1: bool,
    origin: Origin | None = None,
) -> None:
    """Write the reports whose paths are given. Each file appears only when it is complete.

    Args:
        result: what is reported.
        markdown: file for the tables.
        json_file: file for all scores.
        plot: image file.
        table_1: whether Table 1 of the paper follows the tables.
        origin: origin of the result, for the JSON.

    Raises:
        OutputError: a file cannot be written.
        MissingExtraError: matplotlib is needed but not installed.
    """
    if markdown is not None:
        write_text(markdown, as_markdown(result, table_1=table_1))
    if json_file is not None:
        write_text(json_file, as_json(result, origin))
    if plot is not None:
        write_plot(plot, result)


def write_plot(path: Path, result: BenchmarkResult) -> None:
    """Plot the PSNR of every frame, blurry and restored, with one panel per sequence. The suffix
    decides the format.

    Raises:
        OutputError: the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    with plotted_panels(path, len(result.sequences)) as panels:
        for panel, sequence in zip(panels, result.sequences, strict=True):
            index = [frame.index for frame in sequence.frames]
            if sequence.frames[0].psnr_before is not None:
                before = [frame.psnr_before for frame in sequence.frames]
                panel.plot(index, before, color="#999999", marker=".", label="blurry")
            after = [frame.psnr for frame in sequence.frames]
            panel.plot(index, after, color="#0072b2", marker=".", label="restored")
            panel.set_title(sequence.name, fontsize=10)
            panel.set_ylabel("PSNR, dB")
            panel.legend(loc="best", fontsize=8)
        panels[-1].set_xlabel("frame")
