"""Commands for researchers: eval, explain. Heavy modules are imported lazily, as in cli.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, groupby, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape

from unsmear.arguments import Device, MaybeWhole, Whole, weights_named
from unsmear.device import usable_cores
from unsmear.display import err, listed, out, say
from unsmear.engines import EngineName
from unsmear.errors import ConfigError
from unsmear.evaluate import Pairing
from unsmear.models import DEFAULT_MODEL
from unsmear.restoration import DEFAULT_BURST

if TYPE_CHECKING:
    from rich.table import Table

    from unsmear.evaluate.finished import FinishedSequences

_FOLDED = ("model", "sequence")  # columns of tables whose cells may go over several lines


def evaluate(
    *,
    data: Path | None = None,
    restored: Path | None = None,
    sharp: Path | None = None,
    pair: Pairing = "name",
    layout: str | None = None,
    model: Annotated[
        list[str] | None, Parameter(alias="-m", consume_multiple=True, negative="")
    ] = None,
    window: str | None = None,
    ensemble: Whole = 1,
    refine: Whole = 0,
    burst: Whole = DEFAULT_BURST,
    polish: Annotated[bool, Parameter(negative="")] = False,
    reblur: Annotated[bool, Parameter(negative="")] = False,
    protocol: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    table1: Annotated[bool, Parameter(negative="")] = False,
    markdown: Path | None = None,
    json: Path | None = None,
    plot: Path | None = None,
    save: Path | None = None,
    device: Device | None = None,
    engine: EngineName | None = None,
    workers: MaybeWhole = None,
    vmaf: Annotated[bool, Parameter(negative="")] = False,
    niqe: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Evaluate models on a data set, or compare restored frames with sharp ones.

    Reports PSNR, SSIM and flicker, one row per sequence; with several models or protocols one for
    each of them. Give --data to evaluate a model, as `unsmear CLIP` runs it (--burst 0: the network
    alone). Give --restored to measure existing frames, with the --data that they restore, or with
    --sharp: folders of images, folders of such folders, or video files. Existing report files are
    overwritten. If a report is written, the same command resumes an interrupted evaluation after
    the last finished sequence.

    Args:
        data: Data set of blurry and sharp frames: GOPRO, DVD, BSD, REDS, or a folder of `NAME/blur`
            and `NAME/sharp`.
        restored: Restored frames. With --data: a folder that contains, for each sequence, a folder
            of images with the names of the blurry ones, or a video.
        sharp: Ground truth: images with the same names, or a video with as many frames.
        pair: How restored images find their counterparts: by name, or in sorted order of both
            folders. Videos are always compared in order.
        layout: Layout of the data set: gopro, gopro-gamma, gopro-flat (`input` and `target`), dvd,
            bsd, reds, vrt (`train_GT_blurred` and `train_GT`) or cdvd (`blur/NAME` and `gt/NAME`).
            Default: any but gopro-gamma.
        model: Name of a model (see `unsmear models`), or path of a .safetensors file; or several,
            which are measured one after the other. Default: core.
        window: Number of frames that contribute to each frame, as in `unsmear CLIP`. Default: the
            model's own.
        ensemble: Number of averaged views, as in `unsmear CLIP`.
        refine: Number of additional passes, as in `unsmear CLIP`.
        burst: Number of restored neighbours on each side that each restored frame is fused with, as
            in `unsmear CLIP`. 0 measures the network alone.
        polish: Correct each frame after that, as `unsmear CLIP --polish` does.
        reblur: Correct each frame at the end, as `unsmear CLIP --reblur` does.
        protocol: Evaluation protocol: basicsr2d, matlab3d, cdvd, estrnn, estrnn-gopro-ds or
            shiftnet. Published numbers follow different ones. Several measure the same restored
            frames; `all` is all but estrnn-gopro-ds, which measures at a size of its own. Default:
            basicsr2d.
        table1: Also print Table 1 of the paper with the measured results added.
        markdown: Write the tables to this Markdown file.
        json: Write all results, including those for each frame, to this JSON file: a record; with
            several models or protocols a list of records.
        plot: Write a plot of the PSNR of each frame (.png, .svg, .pdf), by one protocol.
        save: Write the frames that one model restores, as the protocol rounds them, to
            SEQUENCE/NAME.png in this new or empty folder, for the measures of other programs.
            After an interruption, all are restored again.
        device: Where to run. Default: auto.
        engine: Inference engine. The others differ in rounding or precision. Default: torch.
        workers: Number of threads that compute the metrics. Default: one per CPU.
        vmaf: Also measure VMAF. Needs `pip install "unsmear[vmaf]"`.
        niqe: Also measure NIQE, which needs no ground truth: --sharp may be left out. Our NIQE
            model is fitted on our own photographs, so values do not compare with published ones.
    """
    from unsmear.allocator import keep_freed_memory
    from unsmear.evaluate.benchmark import Benchmark
    from unsmear.evaluate.finished import FinishedSequences
    from unsmear.evaluate.niqe import load_model as load_pristine
    from unsmear.evaluate.origin import origin_of
    from unsmear.evaluate.protocol import DEFAULT_PROTOCOL, find_protocols
    from unsmear.evaluate.report import (
        check_reports,
        introduction,
        remarks,
        save_reports,
        table_1_lines,
        table_rows,
    )
    from unsmear.evaluate.run import check_several, find_work
    from unsmear.evaluate.saving import check_save
    from unsmear.evaluate.vmaf import find_vmaf
    from unsmear.restoration.quality import QualityOptions
    from unsmear.restoration.stream import parse_window

    keep_freed_memory()
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}: must be 1 or more")
    if [] in (model, protocol):
        raise ConfigError("--model and --protocol need a name: give one or more")
    inputs = (data, restored, sharp, *map(weights_named, model or []))
    check_reports(markdown, json, plot, inputs)
    if save is not None:
        check_save(save, inputs, (markdown, json, plot))
    no_reference = restored is not None and data is None and sharp is None and niqe
    if no_reference and (vmaf or table1 or plot is not None):
        raise ConfigError(
            "--vmaf, --table1 and --plot need a ground truth: give --sharp or --data too"
        )
    rules, ffmpeg = find_protocols(protocol or [DEFAULT_PROTOCOL]), find_vmaf() if vmaf else None
    check_several(model or [], rules, save=save, plot=plot)
    chosen = None if window is None else parse_window(window)
    quality = QualityOptions(
        ensemble=ensemble, refine=refine, burst=burst, polish=polish, reblur=reblur
    )
    works = find_work(
        data,
        restored,
        sharp,
        layout,
        model or [],
        chosen,
        device,
        engine,
        quality,
        no_reference=no_reference,
        save=save,
        pair=pair,
    )
    with _frame_bar(len(rules) * sum(work.frames for work in works)) as advance:
        finished = FinishedSequences(json or markdown or plot)
        benchmark = Benchmark(
            *rules,
            workers=workers or usable_cores(),
            on_frame=advance,
            ffmpeg=ffmpeg,
            pristine=load_pristine() if niqe else None,
            finished=finished,
        )
        with _goes_on_later(finished):
            results = [result for work in works for result in work.run(benchmark)]
    if finished.reused:
        say(f"measured before the interruption: {_sequences(finished.reused)}")
    for line in introduction(*results):
        say(line, wrap=True)
    for table in _tables(*table_rows(*results), out.width):
        out.print(table)
    for remark in remarks(*results):
        say(remark, wrap=True)
    if table1:
        say("\n".join(table_1_lines(*results)))
    save_reports(
        *results,
        markdown=markdown,
        json_file=json,
        plot=plot,
        table_1=table1,
        origin=origin_of(works[0].device),
    )
    finished.forget()
    for path in (save, markdown, json, plot):
        if path is not None:
            say(f"written: {path}")


def explain(
    clip: Path,
    /,
    *,
    frame: Whole,
    output: Annotated[Path, Parameter(alias="-o")],
    model: Annotated[str, Parameter(alias="-m")] = DEFAULT_MODEL,
    device: Device = "auto",
    window: str | None = None,
    level: MaybeWhole = None,
    pixel: str | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show what the attention did for one frame, as an HTML page.

    The page shows where the attention looked in each frame of the window, the weight of each
    frame, what each position of the frame took from them, what one pixel of the result depends on,
    and what changed.

    Args:
        clip: Video file, or folder of images.
        frame: Frame number, counted from 0.
        output: Folder for the page, index.html, and its images.
        model: Name of a model (see `unsmear models`), or path of a .safetensors file.
        device: Where to run.
        window: Number of frames in the window, odd. Default: the model's own.
        level: Show only the attention at this level of the network. Default: all levels with
            attention.
        pixel: X,Y of the pixel whose dependence on the frames is shown. Default: where the frame
            changed most.
        overwrite: Overwrite files in an existing folder.
    """
    from unsmear.allocator import return_freed_memory
    from unsmear.engines.choice import open_model
    from unsmear.explain.run import PAGE, explain_clip, parse_odd_window, parse_pixel

    return_freed_memory()
    frames = None if window is None else parse_odd_window(window)
    place = None if pixel is None else parse_pixel(pixel)
    loaded = open_model(model, device, "torch")
    with err.status(f"explaining frame {frame} of {escape(clip.name)}"):
        maps = explain_clip(
            clip,
            output,
            loaded,
            frame,
            window=frames,
            level=level,
            pixel=place,
            overwrite=overwrite,
        )
    x, y = maps.field.pixel
    say(f"frame {frame} explained, pixel {x},{y}: {output / PAGE}")


@contextmanager
def _goes_on_later(finished: FinishedSequences) -> Iterator[None]:
    """Tell a user who interrupts an evaluation that finished sequences are kept."""
    try:
        yield
    except KeyboardInterrupt:
        if count := finished.reused + finished.added:
            say(f"measured: {_sequences(count)}; the same command goes on from there", wrap=True)
        raise


def _sequences(count: int) -> str:
    return "1 sequence" if count == 1 else f"{count} sequences"


def _tables(headings: list[str], rows: list[list[str]], width: int) -> Iterator[Table]:
    """The table of an evaluation. Columns that do not fit into a terminal of this width follow in
    further tables, since Rich would cut them off. If none fit, there is a line for each value.
    """
    named = headings.index("frames") + 1  # the columns up to it are in each table
    shown = _by_model(rows) if headings[0] == "model" else rows
    least = [_least_width(*cells) for cells in zip(headings, *shown, strict=True)]
    if sum(least[:named]) + named + max(least[named:], default=0) >= width:
        yield listed(headings, rows)
        return
    while True:
        ends = accumulate(column + 1 for column in least)
        stop = max(sum(end <= width for end in ends), named + 1)
        yield _table(headings[:stop], [row[:stop] for row in shown], least[:stop], width)
        if stop >= len(headings):
            return
        headings, *shown = (row[:named] + row[stop:] for row in (headings, *shown))
        least = least[:named] + least[stop:]


def _least_width(heading: str, *cells: str) -> int:
    """Width of a column below which it becomes hard to read: that of its longest word, but names of
    models and sequences may go over several lines.
    """
    longest = max(len(word) for text in (heading, *cells) for word in text.split())
    return min(longest, 8) if heading in _FOLDED else longest


def _table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], least: Sequence[int], width: int
) -> Table:
    from rich.table import Table

    gap = 2 if len(headings) < 9 and sum(least) + 2 * len(least) <= width else 1
    table = Table(box=None, padding=(0, gap, 0, 0))
    numbers = headings.index("frames")
    for index, (heading, narrowest) in enumerate(zip(headings, least, strict=True)):
        table.add_column(
            heading.replace(" ", "\n"),
            justify="right" if index >= numbers else "left",
            overflow="fold",
            min_width=narrowest,
            no_wrap=heading not in _FOLDED,
        )
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _by_model(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """One row of several lines for each model, so that a long name stands beside its protocols. The
    words in which all titles end are left out: the titles are above the table in full.
    """
    words = {row[0]: row[0].split(" ") for row in rows}
    ends = zip(*(reversed(one[1:]) for one in words.values()), strict=False)  # a word remains
    common = sum(1 for _ in takewhile(lambda end: len(set(end)) == 1, ends))
    joined = []
    for title, group in groupby(rows, key=lambda row: row[0]):
        name = " ".join(words[title][: len(words[title]) - common]).removesuffix(",")
        _, *columns = zip(*group, strict=True)
        joined.append([name, *map("\n".join, columns)])
    return joined


@contextmanager
def _frame_bar(frames: int) -> Iterator[Callable[[str], None]]:
    """Progress over the frames of a data set; hidden if standard error is not a terminal. Yields
    what counts one more frame of the named sequence.
    """
    from rich.progress import Progress

    columns = (*Progress.get_default_columns()[:2], *Progress.get_default_columns()[3:])
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task("measuring", total=frames)
        yield lambda sequence: bar.update(task, advance=1, description=escape(sequence))
