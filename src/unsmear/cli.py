"""The command line. Everything heavy is imported when a command needs it, not before."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from unsmear import __version__
from unsmear.errors import ConfigError, UnsmearError

if TYPE_CHECKING:
    from rich.table import Table

    from unsmear.restoration.files import Progress as FileProgress

USAGE_ERROR = 2
INTERRUPTED = 130

app = App(
    name="unsmear",
    version=__version__,
    help="Make blurry video sharp: `unsmear shaky.mp4 -o sharp.mp4`",
)
_out = Console()
_err = Console(stderr=True)

Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:N or mps")]


@app.default
def restore(
    clip: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    model: Annotated[str, Parameter(alias="-m")] = "lite",
    device: Device = "auto",
    window: str | None = None,
    tile: str = "auto",
    compare: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Restore a video, or a folder of pictures in the order of their names.

    Every frame keeps its time stamp; audio is copied as it is.

    Args:
        clip: Video file, or folder of pictures.
        output: Video file (.mp4, .mov, .m4v, .mkv, .webm), or a folder (no suffix) for PNG
            pictures. Default: the input's name with `.sharp` before the suffix.
        model: Name from `unsmear models`, or the path of a .safetensors file.
        device: Where to work.
        window: Frames that contribute to each one, an odd number, or `all`, which reads the video
            twice. Scenes never mix. Default: the model's own.
        tile: Size of the tiles that large frames are worked on in, WIDTHxHEIGHT, `auto` or `off`.
            The result is the same, memory is not.
        compare: Also write before and after side by side, named `.compare` before the suffix.
        overwrite: Replace a result that exists.
    """
    from unsmear.allocator import hand_memory_back
    from unsmear.restoration.api import restore_video
    from unsmear.restoration.stream import parse_window
    from unsmear.restoration.tiles import parse_tiling

    hand_memory_back()
    target = output or _default_output(clip)
    with _FileBar(clip.name) as bar:
        frames = restore_video(
            clip,
            target,
            model=model,
            device=device,
            window=None if window is None else parse_window(window),
            tiling=parse_tiling(tile),
            compare=compare,
            overwrite=overwrite,
            on_progress=bar.show,
        )
    _out.print(f"{frames} frames restored: {target}", highlight=False, soft_wrap=True)


def _default_output(clip: Path) -> Path:
    from unsmear.video.writer import VIDEO_CONTAINERS

    if clip.is_dir():
        return clip.resolve().with_name(f"{clip.resolve().name}_sharp")
    suffix = clip.suffix if clip.suffix.lower() in VIDEO_CONTAINERS else ".mp4"
    return clip.with_name(f"{clip.stem}.sharp{suffix}")


@app.command
def models() -> None:
    """List the networks there are."""
    from rich.table import Table

    from unsmear.models.network import DeblurNetwork, count_macs, count_parameters
    from unsmear.models.zoo import ZOO, released_provenance

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("model", "parameters", "GMAC", "window", "weights", "for whom"):
        table.add_column(column, justify="left" if column in ("model", "for whom") else "right")
    import torch

    for entry in ZOO.values():
        with torch.device("meta"):
            parameters = count_parameters(DeblurNetwork(entry.config))
        origin = released_provenance(entry)
        table.add_row(
            entry.name,
            f"{parameters / 1e6:.1f} M",
            f"{count_macs(entry.config) / 1e9:.1f}",
            str(entry.window),
            f"{origin.total_steps:,} steps" if origin else "none yet",
            entry.summary,
        )
    _out.print(table)
    _out.print("GMAC: billions of multiply-accumulates for a frame of 256x256", highlight=False)


@app.command
def train(
    *,
    data: Annotated[list[Path], Parameter(consume_multiple=True, negative="")],
    preset: str = "lite",
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    val: Path | None = None,
    shake: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative="")] = None,
    device: Device = "auto",
    steps: int | None = None,
    seed: int | None = None,
    learning_rate: float | None = None,
    weights: str | None = None,
    stop_after: int | None = None,
    threads: int | None = None,
) -> None:
    """Train a network, or go on with a run that was interrupted (same command again).

    Below --data: photographs, videos, `clips/NAME/` folders of frames, and folders `blur` and
    `sharp` (GOPRO) or `input` and `GT` (DVD). The run's folder gets the state, the weights and
    a log for TensorBoard. On several GPUs, or several processes of a CPU:
    `torchrun --nproc-per-node 2 -m unsmear train ...`

    Args:
        data: Folders of training data.
        preset: lite or paper.
        out: Folder of the run. Default: runs/PRESET.
        val: Folder of paired sequences to validate on.
        shake: Phone orientation logs to shake the camera with.
        device: Where to train.
        steps: Optimiser steps, schedule in proportion. Default: the preset's.
        seed: Of weights and data. Default: the preset's.
        learning_rate: Peak. Default: the preset's.
        weights: Start from these rather than from random ones: a model's name or a .safetensors
            file of the same network.
        stop_after: Leave off at this step; the same command without it goes on from there.
        threads: CPU threads. Default: all.
    """
    import dataclasses

    import torch

    from unsmear.allocator import keep_freed_memory
    from unsmear.data.pairs import find_pairs
    from unsmear.data.sources import find_training_files
    from unsmear.device import pick_device
    from unsmear.models.zoo import load_model
    from unsmear.train.batches import Batches
    from unsmear.train.config import preset as find_preset
    from unsmear.train.display import TrainDisplay
    from unsmear.train.loop import train as run
    from unsmear.train.team import join_team

    keep_freed_memory()
    if threads is not None:
        if threads < 1:
            raise ConfigError(f"threads is {threads}: at least 1")
        torch.set_num_threads(threads)
    config = find_preset(preset)
    if steps is not None:
        config = config.scaled_to(steps)
    if seed is not None:
        config = dataclasses.replace(config, seed=seed)
    if learning_rate is not None:
        config = dataclasses.replace(config, learning_rate=learning_rate)
    files = find_training_files(data)
    sequences = find_pairs(val) if val else []
    if val and not sequences:
        raise ConfigError(f"no paired sequences below '{val}': expected folders blur and sharp")
    initial = load_model(weights) if weights else None
    with join_team(pick_device(device)) as (team, where):
        if not team.leads:
            _out.quiet = _err.quiet = True
        with _err.status("loading training data"):
            batches = Batches(config, files, shake or [], where, os.cpu_count() or 1)
        crew = f" in {team.size} processes" if team.size > 1 else ""
        _out.print(f"{batches.summary}; {config.steps:,} steps on {where}{crew}", highlight=False)
        with TrainDisplay(_out, config.steps) as display:
            result = run(
                config,
                batches,
                sequences,
                out or Path("runs") / preset,
                where,
                display.show,
                team=team,
                initial=initial,
                stop_after=stop_after,
            )
    _out.print(f"weights: {result}", highlight=False, soft_wrap=True)


@app.command(name="eval")
def evaluate(
    *,
    data: Path | None = None,
    restored: Path | None = None,
    sharp: Path | None = None,
    layout: str | None = None,
    model: Annotated[str, Parameter(alias="-m")] = "lite",
    window: str | None = None,
    protocol: str = "basicsr2d",
    table1: Annotated[bool, Parameter(negative="")] = False,
    markdown: Path | None = None,
    json: Path | None = None,
    plot: Path | None = None,
    device: Device = "auto",
    workers: int | None = None,
) -> None:
    """Measure: a model on a data set (--data), or frames restored by anything against sharp ones
    (--restored and --sharp, folders of pictures or of such folders).

    PSNR, SSIM and flicker; a table with a row for each sequence.

    Args:
        data: Folder of a data set with blurry and sharp frames: GOPRO, DVD, BSD, REDS, or any
            folder of `NAME/blur` and `NAME/sharp`.
        restored: Restored frames.
        sharp: Their truth, under the same names.
        layout: gopro, gopro-gamma, dvd, bsd or reds. Default: all but gopro-gamma.
        model: Name from `unsmear models`, or the path of a .safetensors file.
        window: As for restoring. Default: the model's own.
        protocol: basicsr2d, matlab3d, cdvd or estrnn: published numbers differ in what they count.
        table1: Also print Table 1 of the paper with the measured row.
        markdown: File for the tables.
        json: File for all numbers, each frame's too.
        plot: File (.png, .svg, .pdf) for the PSNR of each frame.
        device: Where to work.
        workers: Threads that compute the measures. Default: one for each CPU.
    """
    from unsmear.evaluate.benchmark import Benchmark
    from unsmear.evaluate.protocol import find_protocol
    from unsmear.evaluate.report import save_reports, table_1_lines, table_rows
    from unsmear.evaluate.run import find_work
    from unsmear.restoration.stream import parse_window

    rules = find_protocol(protocol)
    chosen = None if window is None else parse_window(window)
    work = find_work(data, restored, sharp, layout, model, chosen, device)
    with _FrameBar(work.frames) as bar:
        result = work.run(Benchmark(rules, workers or os.cpu_count() or 1, bar.advance))
    headings, rows = table_rows(result)
    _out.print(
        f"{result.title}; protocol {rules.name}: {rules.summary}; {len(result.frames)} frames",
        highlight=False,
    )
    _out.print(_table(headings, rows))
    if table1:
        _out.print("\n".join(table_1_lines(result)), highlight=False, soft_wrap=True)
    save_reports(result, markdown=markdown, json_file=json, plot=plot, table_1=table1)
    for path in (markdown, json, plot):
        if path is not None:
            _out.print(f"written: {path}", highlight=False, soft_wrap=True)


def _table(headings: list[str], rows: list[list[str]]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "sequence" else "right")
    for row in rows:
        table.add_row(*row)
    return table


class _FrameBar:
    """Progress over the frames of a data set. Silent where nobody watches."""

    def __init__(self, frames: int) -> None:
        from rich.progress import Progress

        columns = (*Progress.get_default_columns()[:2], *Progress.get_default_columns()[3:])
        self._bar = Progress(*columns, console=_err, disable=not _err.is_terminal)
        self._task = self._bar.add_task("measuring", total=frames)

    def advance(self, sequence: str) -> None:
        """One frame more of a sequence is done."""
        self._bar.update(self._task, advance=1, description=sequence)

    def __enter__(self) -> _FrameBar:
        self._bar.__enter__()
        return self

    def __exit__(self, *exit_info: object) -> None:
        self._bar.stop()


@app.command
def demo(
    clip: Path | None = None,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")] = Path("demo-out"),
    model: Annotated[str, Parameter(alias="-m")] = "lite",
    device: Device = "auto",
) -> None:
    """Make a shaky clip from public-domain photographs, restore it, measure and show it.

    Args:
        clip: A clip of your own instead.
        output: Folder for the results; earlier results in it are replaced.
        model: Name from `unsmear models`, or the path of a .safetensors file.
        device: Where to work.
    """
    from unsmear.allocator import hand_memory_back
    from unsmear.demo import run_demo
    from unsmear.restoration.api import open_model

    hand_memory_back()
    loaded = open_model(model, device)
    with _FileBar(clip.name if clip else "demo clip") as bar:
        result = run_demo(output, loaded, clip, bar.show)
    if result.psnr and result.ssim:
        (before, after), (ssim_before, ssim_after) = result.psnr, result.ssim
        _out.print(
            f"PSNR {before:.2f} -> {after:.2f} dB ({after - before:+.2f}), "
            f"SSIM {ssim_before:.4f} -> {ssim_after:.4f}, mean of {result.frames} frames",
            highlight=False,
        )
    for label, path in (
        ("restored clip", result.restored),
        ("side by side", result.comparison),
        ("picture", result.picture),
    ):
        _out.print(f"{label:>14}: {path}", highlight=False, soft_wrap=True)


class _FileBar:
    """Progress of a file: frames, frames a second, time left. Silent where nobody watches."""

    def __init__(self, name: str) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=_err,
            disable=not _err.is_terminal,
        )
        self._name = name
        self._task = self._bar.add_task(name, total=None, speed="")

    def show(self, progress: FileProgress) -> None:
        """Take a report from `restore_file`; each of its passes has the bar to itself."""
        if progress.done == 0:
            label = self._name if progress.doing == "restoring" else f"{self._name}, first pass"
            self._bar.reset(self._task, description=label, total=None)
        task = self._bar.tasks[0]
        speed = f"{task.speed:.2f} frames/s" if task.speed else ""
        total = max(progress.expected, progress.done) if progress.expected else None
        self._bar.update(self._task, completed=progress.done, total=total, speed=speed)

    def __enter__(self) -> _FileBar:
        self._bar.__enter__()
        return self

    def __exit__(self, *exit_info: object) -> None:
        self._bar.stop()


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors that users can mend are one line and exit code 2."""
    try:
        app(
            arguments,
            exit_on_error=False,
            print_error=False,
            error_console=_err,
            result_action="return_value",
        )
    except (UnsmearError, CycloptsError) as error:
        message = " ".join(str(error).split())
        _err.print(f"[bold red]unsmear:[/] {_plain(message)}", highlight=False, soft_wrap=True)
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        _err.print("unsmear: interrupted", highlight=False)
        sys.exit(INTERRUPTED)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
