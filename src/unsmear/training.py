"""Verbs for those who train networks: train, synth. Imports lazily, like all of cli.py."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from unsmear.arguments import Device, MaybeWhole, Paths, Whole
from unsmear.data.changes import AS_PRESET, SynthesisChanges
from unsmear.device import usable_cores
from unsmear.display import err as _err
from unsmear.display import out as _out
from unsmear.errors import ConfigError
from unsmear.outputs import check_file, growing_file

_GROUP = Group("Synthesis", help="What the virtual camera does. Defaults are the preset's.")
Synthesis = Annotated[SynthesisChanges, Parameter(name="*", group=_GROUP)]


def train(
    *,
    data: Paths,
    preset: str = "lite",
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    val: Path | None = None,
    shake: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative="")] = None,
    device: Device = "auto",
    steps: MaybeWhole = None,
    clips: MaybeWhole = None,
    frames: MaybeWhole = None,
    crop: MaybeWhole = None,
    seed: MaybeWhole = None,
    learning_rate: float | None = None,
    loss: Literal["charbonnier", "charbonnier_mse", "l1", "psnr"] | None = None,
    frequency_weight: float | None = None,
    compile: Literal["auto", "graph", "on", "off"] | None = None,
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    weights: str | None = None,
    teacher: str | None = None,
    teacher_weight: float | None = None,
    pair_share: float | None = None,
    refine_share: float | None = None,
    synthesis: Synthesis = AS_PRESET,
    ahead: Annotated[bool, Parameter(negative="")] = False,
    workers: MaybeWhole = None,
    stop_after: MaybeWhole = None,
    threads: MaybeWhole = None,
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
        crop: Side of the squares that are learned from, in pixels. Default: the preset's, stage by
            stage.
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
        teacher: Learn from what this model makes of the same clips too, beside the truth: a model's
            name or a .safetensors file. A small network gets further by it, for one more pass of
            the teacher a step.
        teacher_weight: Of the loss against the teacher's results, added to that against the truth.
            Default: 1.
        pair_share: Share of recorded pairs, where there is synthesis too. Default: the preset's.
        refine_share: Share of clips whose frames see their neighbours restored already, as they do
            in what `unsmear CLIP --refine` adds; for networks that align neighbours. Default: the
            preset's.
        synthesis: What the virtual camera does.
        ahead: Draw each batch while the network learns from the one before, in a thread of its
            own (on a GPU a stream of its own). The numbers are the same.
        workers: Processes that draw batches, beside the one that learns; 0: none. Default: on a GPU
            one for every two cores, at most 8; on a CPU none.
        stop_after: Leave off at this step; the same command without it goes on from there.
        threads: CPU threads. Default: all.
    """
    import torch

    from unsmear.allocator import keep_freed_memory
    from unsmear.data.sources import fingerprint
    from unsmear.train.batches import Batches
    from unsmear.train.claim import claimed
    from unsmear.train.display import TrainDisplay
    from unsmear.train.loop import STATE_FILE
    from unsmear.train.loop import train as run
    from unsmear.train.preflight import Request, prepare
    from unsmear.train.processes import drawing, workers_on
    from unsmear.train.pruning import needs_pruning, pruned
    from unsmear.train.state import step_in
    from unsmear.train.team import join_team, launched_here, launched_team

    keep_freed_memory()
    cores = usable_cores()
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
        crop=crop,
        seed=seed,
        learning_rate=learning_rate,
        loss=loss,
        frequency_weight=frequency_weight,
        compile=compile,
        precision=precision,
        pair_share=pair_share,
        refine_share=refine_share,
        synthesis=synthesis,
        weights=weights,
        teacher=teacher,
        teacher_weight=teacher_weight,
        workers=workers,
        stop_after=stop_after,
        threads=threads,
    )
    launched, here = launched_team(), launched_here()
    _err.quiet = not here.leads  # all processes of a machine see the same mistakes
    plan = prepare(request, launched.size, cores)
    _err.quiet = False
    if threads is not None:
        torch.set_num_threads(threads)
    with (
        claimed(plan.out) if launched.leads else nullcontext(),
        join_team(plan.device) as (team, where),
    ):
        if not team.leads:
            _out.quiet = True
        drawers = workers_on(where, cores // here.size) if workers is None else workers
        source = torch.device("cpu") if drawers else where  # where the processes take it from
        with _err.status("loading training data") if team.leads else nullcontext():
            batches = Batches(plan.config, plan.files, request.shake, source, cores)
        if team.size > 1:
            held = f"{batches.summary} (names and sizes: {fingerprint(plan.files, data)})"
            team.check_same(held, "what --data holds", "give all of them the same files")
        crew = f" in {team.size} processes" if team.size > 1 else ""
        initial, state = plan.initial, plan.out / STATE_FILE
        begins = not state.exists()
        if not begins:
            start = f"{step_in(state):,} of them done before"
        elif initial is None:
            start = "from random weights"
        else:
            start = f"from the weights of {initial.name}"
        _out.print(
            f"{batches.summary}; {plan.config.steps:,} steps on {where}{crew}, {start}",
            highlight=False,
            markup=False,
        )
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
                teacher=plan.teacher,
                stop_after=stop_after,
                ahead=ahead or drawers > 0,
            )
    _out.print(f"weights: {result}", highlight=False, markup=False, soft_wrap=True)


def synth(
    *,
    data: Paths,
    output: Annotated[Path, Parameter(alias="-o")],
    preset: str = "lite",
    shake: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative="")] = None,
    step: Whole = 0,
    synthesis: Synthesis = AS_PRESET,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Draw a contact sheet of what `unsmear train` feeds its network.

    It is the batch of a step: a row for each clip, every frame blurry above sharp.

    Args:
        data: Folders of training data, as for `unsmear train`.
        output: Picture to write, such as sheet.png.
        preset: lite, core, plus, pro, paper (the article's schedule) or paper-quick (ours); plain,
            trail or align, from which pro grew.
        shake: Phone orientation logs to shake the camera with.
        step: Which batch; each has its own.
        synthesis: What the virtual camera does.
        overwrite: Replace a picture that exists.
    """
    import torch

    from unsmear.data.sources import find_training_files
    from unsmear.train.batches import Batches
    from unsmear.train.config import preset as find_preset
    from unsmear.train.display import contact_sheet
    from unsmear.video.images import IMAGE_SUFFIXES, write_image

    config = find_preset(preset)
    config = dataclasses.replace(config, synthesis=synthesis.applied_to(config.synthesis))
    if not 0 <= step < config.steps:
        raise ConfigError(f"step is {step}: preset {preset} has steps 0 to {config.steps - 1}")
    inputs = (*data, *(shake or []))
    check_file(output, inputs=inputs, suffixes=sorted(IMAGE_SUFFIXES), overwrite=overwrite)
    files = find_training_files(data)
    with _err.status("loading training data"):
        cpu = torch.device("cpu")
        batches = Batches(config, files, shake or [], cpu, usable_cores())
    with growing_file(output) as partial:
        write_image(partial, contact_sheet(*batches.draw(step).pair))
    _out.print(
        f"{batches.summary}; batch of step {step}: {output}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
