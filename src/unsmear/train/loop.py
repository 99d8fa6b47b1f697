"""The training loop: batches, steps, reports, validation, checkpoints, resume."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from unsmear.data.clips import Clips
from unsmear.data.pairs import PairedSequence
from unsmear.data.sources import DataRecord
from unsmear.engines.base import to_device
from unsmear.errors import ConfigError
from unsmear.evaluate.validation import SequenceScore
from unsmear.models.checkpoint import read_provenance
from unsmear.models.zoo import LoadedModel, find_entry
from unsmear.train.config import TrainConfig
from unsmear.train.distillation import check_teacher
from unsmear.train.folder import RunFolder
from unsmear.train.interrupts import interrupts_deferred, interrupts_noted
from unsmear.train.journal import Journal, describe_run
from unsmear.train.meter import Meter, Report
from unsmear.train.prefetch import BatchSource, batch_iterator
from unsmear.train.state import STATE_FILE, WEIGHTS_FILE, TrainState
from unsmear.train.stepper import Stepper, wants_graphs
from unsmear.train.team import Team
from unsmear.train.trainable import Trainable, Trained, ZooNetwork


def train(
    config: TrainConfig,
    batches: BatchSource,
    validation: Sequence[PairedSequence],
    out: Path,
    device: torch.device,
    report: Callable[[Report], None],
    *,
    team: Team | None = None,
    trainable: Trainable | None = None,
    initial: Trained | None = None,
    teacher: LoadedModel | None = None,
    stop_after: int | None = None,
    ahead: bool = False,
    shown: Clips | None = None,
    data: DataRecord | None = None,
    validation_data: DataRecord | None = None,
) -> Path:
    """Train a network, or resume the run in `out`.

    Args:
        config: what to train, and how.
        batches: training data.
        validation: paired sequences to measure on, may be empty.
        out: folder for the state, the weights, those that validated best, and the logs.
        device: where to train.
        report: called every `log_every` steps and after each validation, in the main process.
        team: the processes that train together; each calls this with the same arguments.
        trainable: the network to train; default: the row of the zoo that the configuration names.
        initial: weights to start from rather than random ones.
        teacher: the one that the configuration names.
        stop_after: stop at this step as if interrupted, for runs done in several parts.
        ahead: draw the next batch while the network learns from the current one.
        shown: clips to show in the log every `validate_every` steps, if there is no validation set,
            whose frames are shown otherwise; at most four.
        data: what the batches are made of, for the record; a run does not resume with other data.
        validation_data: what is measured on, for the record; it may change.

    Returns:
        The weights file: the moving average.

    Raises:
        UnsmearError: the gradient was not finite for 20 consecutive steps; `out` holds another run,
            or one from other initial weights or data; the initial weights belong to another
            network; the processes cannot share the shards, or found different states or teachers;
            the network or the teacher follows trails and a crop is not a multiple of their cell;
            `refine_share` is set for a network that does not align neighbours; the teacher is not
            the configuration's.
    """
    team = team or Team()
    kind = trainable or ZooNetwork(find_entry(config.model))
    check_shards(config, team.size)
    kind.check(config)
    check_teacher(config, teacher)
    graphs = wants_graphs(config.compile, device)
    state = _start_or_resume(config, kind, out, device, team, initial, data, recorded=graphs)
    state.measure_on(validation_data)
    weights = out / WEIGHTS_FILE
    last = min(config.steps, stop_after or config.steps)
    whole = state.step >= last and _is_of(state, weights, measured=bool(validation))
    if not team.any(not whole):
        return weights
    teaching = None if teacher is None else to_device(copy.deepcopy(teacher.network), device)
    stepper = Stepper(config, state, device, team, teacher=teaching, graphs=graphs)
    if team.is_main:
        describe_run(out, config, device, team, data, validation_data)
    folder = RunFolder(
        path=out,
        config=config,
        kind=kind,
        state=state,
        device=device,
        team=team,
        validation=validation,
        shown=shown,
        journal=Journal(out, state.step) if team.is_main else None,
    )
    shards = team.share(range(config.shards))
    meter = Meter(device, team)
    looks = 1 if device.type == "cpu" else 16  # each look makes the host wait for the device
    began = time.monotonic() - state.seconds
    scores: list[SequenceScore] = []
    try:
        with (
            interrupts_noted() if team.size > 1 else nullcontext(lambda: False) as interrupted,
            batch_iterator(batches, range(state.step, last), shards, device, ahead=ahead) as draws,
        ):
            if state.step < last and folder.lacks_validation:
                with meter.paused():
                    folder.catch_up(done=False)
            while state.step < last:
                meter.clock.mark()
                clips = next(draws)
                meter.clock.mark()
                learned = stepper.step(clips)
                meter.clock.mark()
                meter.add(*learned)
                state.seconds = time.monotonic() - began
                done = state.step == last
                with meter.paused():
                    scores = folder.after_step(done=done)
                if state.step % config.log_every == 0 or scores or done:
                    line = meter.report(state.step, config.steps, tuple(scores))
                    folder.note(line)
                    if team.is_main:
                        report(line)
                # All processes stop at the same step, or one would wait for another's gradients.
                if state.step % looks == 0 and team.any(interrupted()):
                    raise KeyboardInterrupt
        if validation and not scores:  # the run had stopped just before the last validation
            scores = folder.catch_up(done=True)
    except KeyboardInterrupt:
        # Others come meanwhile: an impatient Ctrl-C, or SIGTERM of torchrun once a process ends.
        with interrupts_deferred():
            folder.save_state()
            folder.save_weights()
        raise
    finally:
        folder.close()
    folder.save_weights(scores)
    return weights


def _start_or_resume(
    config: TrainConfig,
    kind: Trainable,
    out: Path,
    device: torch.device,
    team: Team,
    initial: Trained | None,
    data: DataRecord | None,
    *,
    recorded: bool,
) -> TrainState:
    """The state in the folder of the run, else a new one. All processes have the same."""
    build = partial(kind.build, config, device)
    state = TrainState.start(build, config, device, recorded=recorded)
    out.mkdir(parents=True, exist_ok=True)
    if (out / STATE_FILE).exists():
        state.load(out / STATE_FILE, config, initial, data)
    else:
        state.data = data
        if initial is not None:
            state.take_weights(initial)
    team.check_same(
        state.step,
        f"the step to resume from in '{out}'",
        "put --out on a disk that all processes share",
    )
    team.check_same(config.teacher, "the teacher", "give all of them the same weights")
    return state


def _is_of(state: TrainState, weights: Path, *, measured: bool) -> bool:
    """Whether a file holds the weights of a state, and their scores if these are `measured`."""
    if not weights.exists():
        return False
    made = read_provenance(weights)
    scored = bool(made.scores) and state.validated == state.step
    return made.steps == state.step and (scored or not measured)


def check_shards(config: TrainConfig, processes: int) -> None:
    """Raise ConfigError if the processes cannot share the shards of a batch evenly."""
    if config.shards % processes:
        raise ConfigError(
            f"{processes} processes cannot share the {config.shards} shards of a batch evenly: "
            f"start a number of processes that divides {config.shards}"
        )
