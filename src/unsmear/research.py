"""Verbs for researchers: train, synth, eval, explain. Imports lazily, like all of cli.py."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from unsmear.arguments import Device, Paths
from unsmear.display import err as _err
from unsmear.display import out as _out
from unsmear.engines import EngineName
from unsmear.errors import ConfigError
from unsmear.models import DEFAULT_MODEL
from unsmear.restoration import DEFAULT_BURST

if TYPE_CHECKING:
    from rich.table import Table


def train(
    *,
    data: Paths,
    preset: str = "lite",
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    val: Path | None = None,
    shake: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative="")] = None,
    device: Device = "auto",
    steps: int | None = None,
    clips: int | None = None,
    frames: int | None = None,
    seed: int | None = None,
    learning_rate: float | None = None,
    loss: Literal["charbonnier", "charbonnier_mse", "l1", "psnr"] | None = None,
    frequency_weight: float | None = None,
    compile: Literal["auto", "graph", "on", "off"] | None = None,
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    weights: str | None = None,
    pair_share: float | None = None,
    refine_share: float | None = None,
    coder_share: float | None = None,
    relief_share: float | None = None,
    night_share: float | None = None,
    curve_share: float | None = None,
    ahead: Annotated[bool, Parameter(negative="")] = False,
    workers: int | None = None,
    stop_after: int | None = None,
    threads: int | None = None,
) -> None:
    """Train a network, or go on with a run that was interrupted (same command again).

    Below --data: photographs, videos, `clips/NAME/` folders of frames, and blurry and sharp
    frames as GOPRO, DVD, BSD and REDS lay them out. The run's folder gets the state, the weights
    and a log for TensorBoard. On several GPUs, or several processes of a CPU:
    `torchrun --nproc-per-node 2 -m unsmear train ...`

    All mistakes of the command and its data are told at once, before anything is loaded. While it
    runs, `% learning` is the share of the time that went into learning, on a GPU of the device's
    time; the rest went into making or waiting for data.

    Args:
        data: Folders of training data.
        preset: lite, core, plus, pro, paper (the article's schedule) or paper-quick (ours); plain,
            trail or align, from which pro grew.
        out: Folder of the run. Default: runs/PRESET.
        val: Folder of paired sequences to validate on.
        shake: Phone orientation logs to shake the camera with.
        device: Where to train.
        steps: Optimiser steps, schedule in proportion. Default: the preset's.
        clips: In a batch, of all processes together. Default: the preset's, stage by stage.
        frames: In a clip. Default: the preset's, stage by stage.
        seed: Of weights and data. Default: the preset's.
        learning_rate: Peak. Default: the preset's.
        loss: Default: the preset's.
        frequency_weight: Of the spectrum of the difference, added to the loss. Default: the
            preset's.
        compile: How steps are made faster: graph records them as CUDA graphs, which auto does on
            a GPU; on compiles the network with torch.compile; off: plain.
        precision: Of convolutions while learning: auto is bfloat16 on a GPU that has it, float32
            elsewhere. CPUs with AMX learn about twice as fast in bfloat16.
        weights: Start from these rather than from random ones: a model's name or a .safetensors
            file. A smaller network grows; of what is larger the channels that matter most are kept.
        pair_share: Share of recorded pairs, where there is synthesis too. Default: the preset's.
        refine_share: Share of clips whose frames see their neighbours restored already, as they do
            in what `unsmear CLIP --refine` adds; for networks that align neighbours. Default: the
            preset's.
        coder_share: Share of synthesised clips that go through a real video coder, as what people
            have did. Needs PyAV. Default: the preset's.
        relief_share: Share of clips made from photographs in which near parts smear further, as
            they do where a camera moves past them. Default: the preset's.
        night_share: Share of clips made from photographs that are dim, with lamps that smear into
            white streaks. Default: the preset's.
        curve_share: Share of synthesised clips whose camera encodes light by a curve of its own
            rather than that of sRGB. Default: the preset's, which is 0.
        ahead: Draw each batch while the network learns from the one before, in a thread of its
            own (on a GPU a stream of its own). The numbers are the same.
        workers: Processes that draw batches, beside the one that learns; 0: none. Default: on a GPU
            one for every two cores, at most 8; on a CPU none.
        stop_after: Leave off at this step; the same command without it goes on from there.
        threads: CPU threads. Default: all.
    """
    import torch

    from unsmear.allocator import keep_freed_memory
    from unsmear.train.batches import Batches
    from unsmear.train.display import TrainDisplay
    from unsmear.train.loop import STATE_FILE
    from unsmear.train.loop import train as run
    from unsmear.train.preflight import Request, prepare
    from unsmear.train.processes import drawing, workers_on
    from unsmear.train.pruning import needs_pruning, pruned
    from unsmear.train.team import join_team, launched_team

    keep_freed_memory()
    cores = os.cpu_count() or 1
    request = Request(
        data=data,
        preset=preset,
        out=out,
        val=val,
        shake=shake or [],
        device=device,
        steps=steps,
        clips=clips,
        frames=frames,
        seed=seed,
        learning_rate=learning_rate,
        loss=loss,
        frequency_weight=frequency_weight,
        compile=compile,
        precision=precision,
        pair_share=pair_share,
        refine_share=refine_share,
        coder_share=coder_share,
        relief_share=relief_share,
        night_share=night_share,
        curve_share=curve_share,
        weights=weights,
        workers=workers,
        stop_after=stop_after,
        threads=threads,
    )
    launched = launched_team()
    _err.quiet = not launched.leads  # all processes see the same mistakes
    plan = prepare(request, launched.size, cores)
    _err.quiet = False
    if threads is not None:
        torch.set_num_threads(threads)
    with join_team(plan.device) as (team, where):
        if not team.leads:
            _out.quiet = True
        drawers = workers_on(where, cores // team.size) if workers is None else workers
        source = torch.device("cpu") if drawers else where  # where the processes take it from
        with _err.status("loading training data") if team.leads else nullcontext():
            batches = Batches(plan.config, plan.files, request.shake, source, cores)
        crew = f" in {team.size} processes" if team.size > 1 else ""
        _out.print(
            f"{batches.summary}; {plan.config.steps:,} steps on {where}{crew}", highlight=False
        )
        initial = plan.initial
        begins = not (plan.out / STATE_FILE).exists()
        if initial is not None and begins and needs_pruning(initial, plan.config):
            with _err.status("looking for what matters") if team.leads else nullcontext():
                initial = pruned(initial, plan.config, batches, where)
        with (
            TrainDisplay(_out, plan.config.steps) as display,
            drawing(batches, plan.config.steps, where, drawers) as draws,
        ):
            result = run(
                plan.config,
                draws,
                plan.validation,
                plan.out,
                where,
                display.show,
                team=team,
                initial=initial,
                stop_after=stop_after,
                ahead=ahead or drawers > 0,
            )
    _out.print(f"weights: {result}", highlight=False, soft_wrap=True)


def synth(
    *,
    data: Paths,
    output: Annotated[Path, Parameter(alias="-o")],
    preset: str = "lite",
    shake: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative="")] = None,
    step: int = 0,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Draw a contact sheet of what a preset feeds its network.

    It is the batch of a step: a row for each clip, every frame blurry above sharp.

    Args:
        data: Folders of training data, as for `unsmear train`.
        output: Picture to write, such as sheet.png.
        preset: lite, core, plus, pro, paper (the article's schedule) or paper-quick (ours); plain,
            trail or align, from which pro grew.
        shake: Phone orientation logs to shake the camera with.
        step: Which batch; each has its own.
        overwrite: Replace a picture that exists.
    """
    import torch

    from unsmear.data.sources import find_training_files
    from unsmear.errors import OutputError
    from unsmear.train.batches import Batches
    from unsmear.train.config import preset as find_preset
    from unsmear.train.display import contact_sheet
    from unsmear.video.images import write_image

    config = find_preset(preset)
    if not 0 <= step < config.steps:
        raise ConfigError(f"step is {step}: preset {preset} has steps 0 to {config.steps - 1}")
    if output.exists() and not overwrite:
        raise OutputError(f"'{output}' exists: choose another output, or add --overwrite")
    files = find_training_files(data)
    with _err.status("loading training data"):
        cpu = torch.device("cpu")
        batches = Batches(config, files, shake or [], cpu, os.cpu_count() or 1)
    write_image(output, contact_sheet(*batches.draw(step).pair))
    _out.print(f"{batches.summary}; batch of step {step}: {output}", highlight=False)


def evaluate(
    *,
    data: Path | None = None,
    restored: Path | None = None,
    sharp: Path | None = None,
    layout: str | None = None,
    model: Annotated[str, Parameter(alias="-m")] = DEFAULT_MODEL,
    window: str | None = None,
    ensemble: int = 1,
    refine: int = 0,
    burst: int = DEFAULT_BURST,
    protocol: str = "basicsr2d",
    table1: Annotated[bool, Parameter(negative="")] = False,
    markdown: Path | None = None,
    json: Path | None = None,
    plot: Path | None = None,
    device: Device = "auto",
    engine: EngineName = "torch",
    workers: int | None = None,
    vmaf: Annotated[bool, Parameter(negative="")] = False,
    niqe: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Measure a model on a data set, or restored frames against sharp ones.

    PSNR, SSIM and flicker, a row for each sequence. Give --data for a model on a data set; or
    --restored and --sharp for frames that exist: folders of pictures, folders of such folders, or
    video files.

    Args:
        data: Folder of a data set with blurry and sharp frames: GOPRO, DVD, BSD, REDS, or any
            folder of `NAME/blur` and `NAME/sharp`.
        restored: Restored frames.
        sharp: Their truth: pictures under the same names, or a video of as many frames.
        layout: gopro, gopro-gamma, dvd, bsd or reds. Default: all but gopro-gamma.
        model: Name from `unsmear models`, or the path of a .safetensors file.
        window: As for restoring. Default: the model's own.
        ensemble: As for restoring.
        refine: As for restoring.
        burst: As for restoring.
        protocol: basicsr2d, matlab3d, cdvd or estrnn: published numbers differ in what they count.
        table1: Also print Table 1 of the paper with the measured row.
        markdown: File for the tables.
        json: File for all numbers, each frame's too.
        plot: File (.png, .svg, .pdf) for the PSNR of each frame.
        device: Where to work.
        engine: What runs the network; the others round differently, or compute in eight bits.
        workers: Threads that compute the measures. Default: one for each CPU.
        vmaf: Also measure VMAF; needs `pip install 'unsmear[vmaf]'`.
        niqe: Also measure NIQE, which needs no truth, of restored, blurry and sharp frames. Its
            model is fitted on photographs of our own: compare values with one another, not
            with published ones.
    """
    from unsmear.allocator import keep_freed_memory
    from unsmear.evaluate.benchmark import Benchmark
    from unsmear.evaluate.niqe import load_model as load_pristine
    from unsmear.evaluate.origin import origin_of
    from unsmear.evaluate.protocol import find_protocol
    from unsmear.evaluate.report import remarks, save_reports, table_1_lines, table_rows
    from unsmear.evaluate.run import find_work
    from unsmear.evaluate.vmaf import find_vmaf
    from unsmear.restoration.effort import Effort
    from unsmear.restoration.stream import parse_window

    keep_freed_memory()
    rules, ffmpeg = find_protocol(protocol), find_vmaf() if vmaf else None
    chosen = None if window is None else parse_window(window)
    effort = Effort(ensemble=ensemble, refine=refine, burst=burst)
    work = find_work(data, restored, sharp, layout, model, chosen, device, engine, effort)
    with _FrameBar(work.frames) as bar:
        count = workers or os.cpu_count() or 1
        pristine = load_pristine() if niqe else None
        result = work.run(Benchmark(rules, count, bar.advance, ffmpeg, pristine))
    headings, rows = table_rows(result)
    _out.print(
        f"{result.title}; protocol {rules.name}: {rules.summary}; {len(result.frames)} frames",
        highlight=False,
    )
    _out.print(_table(headings, rows))
    for remark in remarks(result):
        _out.print(remark, highlight=False)
    if table1:
        _out.print("\n".join(table_1_lines(result)), highlight=False, soft_wrap=True)
    save_reports(
        result,
        markdown=markdown,
        json_file=json,
        plot=plot,
        table_1=table1,
        origin=origin_of(work.device),
    )
    for path in (markdown, json, plot):
        if path is not None:
            _out.print(f"written: {path}", highlight=False, soft_wrap=True)


def explain(
    clip: Path,
    /,
    *,
    frame: int,
    output: Annotated[Path, Parameter(alias="-o")],
    model: Annotated[str, Parameter(alias="-m")] = DEFAULT_MODEL,
    device: Device = "auto",
    window: str | None = None,
    level: int | None = None,
    pixel: str | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show what the attention did for one frame: a page of pictures.

    Where it looked in each frame of the window, how much each frame counted, what each place of
    the frame took of it, what one pixel of the result depends on, and what changed.

    Args:
        clip: Video file, or folder of pictures.
        frame: Number of the frame, from 0.
        output: Folder for the page, index.html, and its pictures.
        model: Name from `unsmear models`, or the path of a .safetensors file.
        device: Where to work.
        window: Frames that contribute, an odd number. Default: the model's own.
        level: Only the attention of this level of the network. Default: of all that have one.
        pixel: X,Y of the pixel whose dependence on the frames is shown. Default: where the
            frame changed most.
        overwrite: Replace files of a folder that exists.
    """
    from unsmear.allocator import hand_memory_back
    from unsmear.engines.choice import open_model
    from unsmear.explain.run import PAGE, explain_clip, parse_odd_window, parse_pixel

    hand_memory_back()
    frames = None if window is None else parse_odd_window(window)
    place = None if pixel is None else parse_pixel(pixel)
    loaded = open_model(model, device, "torch")
    with _err.status(f"explaining frame {frame} of {clip.name}"):
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
    _out.print(
        f"frame {frame} explained, pixel {x},{y}: {output / PAGE}", highlight=False, soft_wrap=True
    )


def _table(headings: list[str], rows: list[list[str]]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2 if len(headings) < 9 else 1, 0, 0))
    for index, heading in enumerate(headings):
        words = [heading, *(row[index] for row in rows)] if index else heading.split()
        table.add_column(
            heading.replace(" ", "\n"),
            justify="right" if index else "left",
            overflow="fold",
            min_width=max(len(word) for text in words for word in text.split()),
        )
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
