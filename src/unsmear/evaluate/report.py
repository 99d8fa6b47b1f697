"""Reports of benchmark results: Markdown, plots and JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from unsmear.errors import OutputError
from unsmear.evaluate.origin import Origin
from unsmear.evaluate.plot import PLOT_SUFFIXES, check_matplotlib, plotted_panels, set_title
from unsmear.evaluate.records import record_as_json
from unsmear.evaluate.scores import BenchmarkResult, FrameScore, mean_of, mean_of_sequences
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


def table_rows(*results: BenchmarkResult) -> tuple[list[str], list[list[str]]]:
    """Headings and rows. Columns without any values are left out.

    Of one result: one row per sequence, then all frames, then, for several sequences, their mean.
    Of several results, by several protocols or of several models on the same sequences: the mean
    over frames of each, then, for several sequences, that over sequences.
    """
    columns = [
        column
        for column in _COLUMNS
        if any(mean_of(result.frames, column[1]) is not None for result in results)
    ]

    def cells(frames: int, mean: Callable[[str], float | None]) -> list[str]:
        values = [(mean(measure), form) for _, measure, form in columns]
        return [str(frames), *("-" if one is None else form.format(one) for one, form in values)]

    def of_frames(frames: Sequence[FrameScore]) -> list[str]:
        return cells(len(frames), partial(mean_of, frames))

    def of_sequences(result: BenchmarkResult) -> list[str]:
        return cells(len(result.frames), partial(mean_of_sequences, result.sequences))

    first = results[0]
    if len(results) == 1:
        rows = [[one.name, *of_frames(one.frames)] for one in first.sequences]
        rows += [["all frames", *of_frames(first.frames)]]
        rows += [["mean of sequences", *of_sequences(first)]] if len(first.sequences) > 1 else []
        named = ["sequence"]
    else:
        told = {
            "model": [result.title for result in results],
            "protocol": [result.protocol.name for result in results],
        }
        told = {heading: names for heading, names in told.items() if len(set(names)) > 1}
        keys = [list(names) for names in zip(*told.values(), strict=True)]
        both = list(zip(keys, results, strict=True))
        rows = [[*key, "frames", *of_frames(result.frames)] for key, result in both]
        if len(first.sequences) > 1:
            rows += [[*key, "sequences", *of_sequences(result)] for key, result in both]
        named = [*told, "mean over"]
    return [*named, "frames", *(heading for heading, _, _ in columns)], rows


def introduction(*results: BenchmarkResult) -> list[str]:
    """What was measured and how, above the table: a line, or one for each model and protocol."""
    protocols = dict.fromkeys(result.protocol for result in results)
    told = [f"protocol {protocol.name}: {protocol.summary}" for protocol in protocols]
    titles = dict.fromkeys(result.title for result in results)
    if len(results) == 1:
        return [f"{'; '.join([*titles, *told])}; {len(results[0].frames)} frames"]
    return [*titles, *told]


def remarks(*results: BenchmarkResult) -> list[str]:
    """Remarks that a reader needs to interpret the measures."""
    notes = dict.fromkeys(note for result in results for note in result.notes)
    counts = [sum(frame.niqe is not None for frame in result.frames) for result in results]
    some = dict.fromkeys(
        f"{result.title}: NIQE is of {count} of {len(result.frames)} frames; the others have too "
        "little texture"
        for result, count in zip(results, counts, strict=True)
        if 0 < count < len(result.frames)
    )
    equal = {
        result.title: sum(frame.psnr == math.inf for frame in result.frames) for result in results
    }
    same = [
        f"{title}: {count} restored frame{'s equal' if count > 1 else ' equals'} the ground truth "
        "(PSNR is infinite): check that this is not the ground truth itself"
        for title, count in equal.items()
        if count
    ]
    return [*notes, *([NIQE_REMARK] if any(counts) else []), *some, *same]


def as_markdown(*results: BenchmarkResult, table_1: bool = False) -> str:
    """Results of the same sequences as Markdown, with their protocols spelt out. `table_1` appends
    Table 1 of the paper with the measured rows.
    """
    explained = (
        "PSNR in dB; flicker is the mean error of the change from frame to frame, on a scale of 0 "
        "to 255."
    )
    if len(results) == 1:
        (result,) = results
        protocol = result.protocol
        lines = [
            f"{result.title}; protocol `{protocol.name}` ({protocol.summary}); "
            f"{len(result.frames)} frames. {explained}"
        ]
    else:
        lines = [*(f"- {line}" for line in introduction(*results)), "", explained]
    headings, rows = table_rows(*results)
    lines += ["", *markdown_table(headings, rows)]
    for remark in remarks(*results):
        lines += ["", remark]
    if table_1:
        lines += ["", *table_1_lines(*results)]
    return "\n".join(lines) + "\n"


def table_1_lines(*results: BenchmarkResult) -> list[str]:
    """Table 1 of the paper with a row for each result, which must have PSNR and SSIM. All were
    restored with the same options. A remark follows unless the rows are of a network alone, as the
    others are.
    """
    rows = []
    for result in results:
        psnr, ssim = (mean_of(result.frames, measure) for measure in ("psnr", "ssim"))
        assert psnr is not None
        assert ssim is not None
        name, frames = result.protocol.name, len(result.frames)
        rows.append(measured_row(result.title, psnr, ssim, name, frames))
    lines, model = table_1(rows), results[0].model
    if model is None:
        return lines
    used = QualityOptions(
        ensemble=model.ensemble,
        refine=model.refine,
        burst=model.burst,
        polish=model.polish is not None,
        reblur=model.reblur,
    )
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
    """Lines of a Markdown table. Names of files may contain `|`, which would end a cell."""
    lines = [headings, ["---"] * len(headings), *rows]
    return ["| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |" for cells in lines]


def as_json(*results: BenchmarkResult, origin: Origin | None = None) -> str:
    """All scores, including those of each frame, and their origin: the record of a result, or a
    list of the records of several. Missing scores are null.
    """
    records = [_record(result, origin) for result in results]
    return record_as_json(records[0] if len(records) == 1 else records)


def _record(result: BenchmarkResult, origin: Origin | None) -> dict[str, Any]:
    measures = [field.name for field in dataclasses.fields(FrameScore) if field.name != "index"]

    def means(frames: Sequence[FrameScore]) -> dict[str, Any]:
        return {"frames": len(frames)} | {name: mean_of(frames, name) for name in measures}

    sequences = result.sequences
    mean = {name: mean_of_sequences(sequences, name) for name in measures}
    return {
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
    *results: BenchmarkResult,
    markdown: Path | None,
    json_file: Path | None,
    plot: Path | None,
    table_1: bool,
    origin: Origin | None = None,
) -> None:
    """Write the reports whose paths are given. Each file appears only when it is complete.

    Args:
        results: what is reported.
        markdown: file for the tables.
        json_file: file for all scores.
        plot: image file, for one result.
        table_1: whether Table 1 of the paper follows the tables.
        origin: origin of the result, for the JSON.

    Raises:
        OutputError: a file cannot be written.
        MissingExtraError: matplotlib is needed but not installed.
    """
    if markdown is not None:
        write_text(markdown, as_markdown(*results, table_1=table_1))
    if json_file is not None:
        write_text(json_file, as_json(*results, origin=origin))
    if plot is not None:
        (result,) = results
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
            set_title(panel, sequence.name)
            panel.set_ylabel("PSNR, dB")
            panel.legend(loc="best", fontsize=8)
        panels[-1].set_xlabel("frame")
