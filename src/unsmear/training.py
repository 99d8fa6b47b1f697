"""Commands for training: train, synth. Heavy modules are imported lazily, as in cli.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from unsmear.arguments import Device, MaybeWhole, Paths, Whole, strict
from unsmear.data.changes import AS_PRESET, SynthesisChanges
from unsmear.device import usable_cores, use_threads
from unsmear.display import err, say
from unsmear.display import out as _out
from unsmear.errors import ConfigError
from unsmear.outputs import atomic_file, check_file
from unsmear.train.changes import AS_SCHEDULED, ScheduleChanges

if TYPE_CHECKING:
    from unsmear.train.preflight import Plan
    from unsmear.train.state import StateHeader

_GROUP = Group("Synthesis", help="Settings of the virtual camera. Defaults are the preset's.")
Synthesis = Annotated[SynthesisChanges, Parameter(name="*", group=_GROUP)]
_SCHEDULE_GROUP = Group(
    "Optimiser, schedule and reports",
    help="Defaults are the preset's.",
    default_parameter=Parameter(converter=strict),
)
Schedule = Annotated[ScheduleChanges, Parameter(name="*", group=_SCHEDULE_GROUP)]


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
    schedule: Schedule = AS_SCHEDULED,
    ahead: Annotated[bool, Parameter(negative="")] = False,
    workers: MaybeWhole = None,
    stop_after: MaybeWhole = None,
    threads: MaybeWhole = None,
) -> None:
    """Train a model. To resume an interrupted run, repeat the command.

    Ctrl-C and SIGTERM, as schedulers of clusters send it, save the run before it ends.

    --data takes photographs, videos, `clips/NAME/` folders of frames, and blurry and sharp frames
    in the layouts of GOPRO, DVD, BSD and REDS. The training state, the weights (with --val also
    those that validated best), a TensorBoard log, and settings and log as JSON are written to the
    folder of the run. A run does not resume with other data. To train on several GPUs, or with
    several processes on a CPU: `torchrun --nproc-per-node 2 -m unsmear train ...`

    All errors in the command and its data are reported at once, before anything is loaded. In the
    progress line, `% learning` is the share of the time (on a GPU, of GPU time) spent in training
    steps; the rest is spent making or waiting for data.

    Args:
        data: Folders of training data.
        preset: Network and schedule: lite, core, plus, pro, paper (the paper's schedule) or
            paper-quick (ours); plain, trail or align, the ancestors of pro.
        out: Folder of the run. Default: runs/PRESET.
        val: Validation set: folder of paired blurry and sharp sequences.
        shake: Orientation logs of phones, used as camera shake.
        device: Where to train.
        steps: Number of training steps. The preset's stages and schedule scale in proportion.
            Default: the preset's.
        clips: Clips per batch, over all processes. Default: the preset's, for each stage.
        frames: Frames per clip. Default: the preset's, for each stage.
        crop: Side of the square training crops, in pixels. Default: the preset's, for each stage.
        seed: Random seed of weights and data. Default: the preset's.
        learning_rate: Peak learning rate. Default: the preset's.
        loss: Loss function. Default: the preset's.
        frequency_weight: Weight of an additional loss on the spectrum of the difference. Default:
            the preset's.
        compile: How to speed up training steps: graph (CUDA graphs), on (torch.compile), off, or
            auto (graph on a GPU, else off).
        precision: Precision of convolutions in training: auto is bfloat16 on GPUs that support it,
            else float32. CPUs with AMX train about twice as fast in bfloat16.
        weights: Initial weights, instead of random ones: a model name or a .safetensors file. Of a
            larger network, the most important channels are kept; a smaller one is grown.
        teacher: Also distil this model: a model name or a .safetensors file. Helps small networks,
            at the cost of one inference of the teacher per step.
        teacher_weight: Weight of the distillation loss. Default: 1.
        pair_share: Share of clips from recorded pairs, when there is also synthesis. Default: the
            preset's.
        refine_share: Share of clips whose neighbours are already restored, as in
            `unsmear CLIP --refine`; for networks that align neighbours. Default: the preset's.
        synthesis: What the virtual camera does.
        schedule: Optimiser, schedule and reports.
        ahead: Prepare the next batch during each training step, in a separate thread (on a GPU, a
            separate stream). The results are the same.
        workers: Number of processes that prepare batches, 0 for none. Default: on a GPU, one for
            every two cores, at most 8; on a CPU, none.
        stop_after: Stop at this step. The same command without this option resumes the run.
        threads: Number of CPU threads. Default: all.
    """
    import torch

    from unsmear.allocator import keep_freed_memory
    from unsmear.train.batches import Batches
    from unsmear.train.claim import claimed
    from unsmear.train.display import TrainDisplay
    from unsmear.train.interrupts import termination_as_interrupt
    from unsmear.train.loop import train as run
    from unsmear.train.preflight import Request, prepare
    from unsmear.train.processes import with_workers, workers_on
    from unsmear.train.pruning import needs_pruning, pruned
    from unsmear.train.team import join_team, launched_team, local_team

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
        schedule=schedule,
        weights=weights,
        teacher=teacher,
        teacher_weight=teacher_weight,
        workers=workers,
        stop_after=stop_after,
        threads=threads,
    )
    launched, here = launched_team(), local_team()
    err.quiet = not here.is_main  # all processes of a machine would report the same errors
    plan = prepare(request, launched.size, cores)
    err.quiet = False
    if threads is not None:
        use_threads(threads)
    with (
        termination_as_interrupt(),
        _goes_on_later(plan.out),
        claimed(plan.out) if launched.is_main else nullcontext(),
        join_team(plan.device) as (team, where),
    ):
        if not team.is_main:
            _out.quiet = True
        drawers = workers_on(where, cores // here.size) if workers is None else workers
        source = torch.device("cpu") if drawers else where  # worker processes read it from the CPU
        with err.status("loading training data") if team.is_main else nullcontext():
            batches = Batches(plan.config, plan.files, request.shake, source, cores)
            # Without a validation set, clips of one shard show what the run learns.
            shown = None if plan.validation or not team.is_main else batches.draw(0, [0])
        held = dataclasses.replace(plan.data, summary=batches.summary)
        for record, what in ((held, "training"), (plan.validation_data, "validation")):
            team.check_same(str(record), f"the {what} data", "give all of them the same files")
        crew = f" in {team.size} processes" if team.size > 1 else ""
        before = _header_of(plan.out)
        start = _start_in_words(plan, before)
        say(f"{batches.summary}; {plan.config.steps:,} steps on {where}{crew}, {start}", wrap=True)
        if note := _other_validation(plan, before):
            say(note, wrap=True)
        initial = plan.initial
        if initial is not None and before is None and needs_pruning(initial, plan.config):
            with err.status("ranking channels by importance") if team.is_main else nullcontext():
                initial = pruned(initial, plan.config, batches, where)
        with (
            TrainDisplay(_out, plan.config.steps) as display,
            with_workers(batches, plan.config.steps, where, drawers) as draws,
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
                shown=shown,
                data=held,
                validation_data=plan.validation_data,
            )
    say(f"weights: {result}")
    if told := _best_in_words(plan.out):
        say(told)


@contextmanager
def _goes_on_later(out: Path) -> Iterator[None]:
    """Tell a user who interrupts a run what is saved of it."""
    try:
        yield
    except KeyboardInterrupt:
        if saved := _header_of(out):
            step = f"{saved.step:,}"
            say(f"saved at step {step} in {out}: the same command goes on from there", wrap=True)
        raise


def _header_of(out: Path) -> StateHeader | None:
    """Header of the state of a run; None if nothing is saved yet."""
    from unsmear.train.state import STATE_FILE, read_header

    state = out / STATE_FILE
    return read_header(state) if state.exists() else None


def _start_in_words(plan: Plan, before: StateHeader | None) -> str:
    if before is not None:
        return f"{before.step:,} of them already done"
    if plan.initial is None:
        return "from random weights"
    return f"from the weights of {plan.initial.name}"


def _other_validation(plan: Plan, before: StateHeader | None) -> str:
    """A note if a run was measured on something else before; empty if not."""
    now, was = plan.validation_data, None if before is None else before.validation
    if was is None or (now is not None and now.fingerprint == was.fingerprint):
        return ""
    if now is None:
        return f"note: without --val, this run is no longer validated (it was, on {was.summary})"
    return (
        f"note: the validation set is another (it was {was}, now {now}): earlier scores do not "
        "compare, and the best weights are chosen anew"
    )


def _best_in_words(out: Path) -> str:
    """Where the best weights of a run are; empty if they are the last, or not known."""
    from unsmear.train.state import BEST_FILE

    saved = _header_of(out)
    best = None if saved is None else saved.best
    if saved is None or best is None or best.step == saved.step or not (out / BEST_FILE).exists():
        return ""
    return f"best in validation: {out / BEST_FILE}, of step {best.step:,} ({best.gain:+.2f} dB)"


def synth(
    *,
    data: Paths,
    output: Annotated[Path, Parameter(alias="-o")],
    preset: str = "lite",
    shake: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative="")] = None,
    step: Whole = 0,
    clips: MaybeWhole = None,
    frames: MaybeWhole = None,
    crop: MaybeWhole = None,
    seed: MaybeWhole = None,
    synthesis: Synthesis = AS_PRESET,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write a contact sheet of the data that `unsmear train` would train on.

    The sheet shows the batch of one step: a row for each clip, every frame blurry above sharp.

    Args:
        data: Folders of training data, as for `unsmear train`.
        output: Image to write, such as sheet.png.
        preset: Network and schedule: lite, core, plus, pro, paper (the paper's schedule) or
            paper-quick (ours); plain, trail or align, the ancestors of pro.
        shake: Orientation logs of phones, used as camera shake.
        step: Training step whose batch is shown.
        clips: Clips per batch. Default: the preset's, for each stage.
        frames: Frames per clip. Default: the preset's, for each stage.
        crop: Side of the square training crops, in pixels. Default: the preset's, for each stage.
        seed: Random seed. Default: the preset's.
        synthesis: What the virtual camera does.
        overwrite: Overwrite an existing image.
    """
    import torch

    from unsmear.data.sources import find_training_files
    from unsmear.models.zoo import find_entry
    from unsmear.train.batches import Batches
    from unsmear.train.config import check_crops
    from unsmear.train.config import preset as find_preset
    from unsmear.train.display import contact_sheet
    from unsmear.video.images import IMAGE_SUFFIXES, write_image

    config = find_preset(preset).with_batches(clips, frames, crop)
    config = dataclasses.replace(
        config,
        synthesis=synthesis.applied_to(config.synthesis),
        seed=config.seed if seed is None else seed,
    )
    check_crops(config, find_entry(config.model).config, config.model)
    if not 0 <= step < config.steps:
        raise ConfigError(f"step is {step}: preset {preset} has steps 0 to {config.steps - 1}")
    inputs = (*data, *(shake or []))
    check_file(output, inputs=inputs, suffixes=sorted(IMAGE_SUFFIXES), overwrite=overwrite)
    files = find_training_files(data)
    with err.status("loading training data"):
        cpu = torch.device("cpu")
        batches = Batches(config, files, shake or [], cpu, usable_cores())
    with atomic_file(output) as partial:
        write_image(partial, contact_sheet(*batches.draw(step).pair))
    say(f"{batches.summary}; batch of step {step}: {output}")
