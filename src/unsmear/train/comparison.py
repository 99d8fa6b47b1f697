"""Networks trained side by side on the same batches, each measured after equal steps and after
equal time. How they learn and are timed: `unsmear.train.learner`.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from unsmear.allocator import keep_freed_memory, peak_memory_of
from unsmear.data.clips import unknown_clips
from unsmear.data.pairs import PairedSequence, some_pairs
from unsmear.data.shake import read_orientation_log
from unsmear.data.sources import TrainingFiles, find_training_files
from unsmear.device import check_threads, pick_device, usable_cores, use_threads
from unsmear.errors import ConfigError, Mistakes
from unsmear.evaluate.comparison import FUSION_WORDS, ComparisonRecord, Row, Words
from unsmear.evaluate.origin import origin_of
from unsmear.evaluate.programs import at_least, refuse_repeated
from unsmear.evaluate.records import record_as_json
from unsmear.models.count import count_parameters
from unsmear.outputs import check_file, write_text
from unsmear.train.batches import Batches
from unsmear.train.config import Stage, TrainConfig, preset
from unsmear.train.learner import Learner, train_in_turn
from unsmear.train.prefetch import BatchSource
from unsmear.train.scoring import BLURRED, Scorer, gains

FULL_RUN = 100_000  # steps; with fewer, the record calls the run a reduced one
TrainFrom = Callable[[TrainConfig, BatchSource, Scorer, torch.device], list[Learner]]


def peak_bytes(build: Callable[[], nn.Module], plan: TrainConfig, device_name: str) -> int:
    """Memory that a training step takes beyond the network and the batch, in bytes. To be called in
    a process of its own.
    """
    torch.set_num_threads(1)
    device = torch.device(device_name)
    stage = plan.stages[0]
    learner = Learner.start("", build, plan, device)

    def step(crop: int) -> None:
        clips = torch.rand(2, stage.clips, stage.frames, 3, crop, crop, device=device)
        learner.learn(unknown_clips(clips[0], clips[1]))

    step(32)  # loads libraries, allocates the optimisers' state
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step(stage.crop)
        return torch.cuda.max_memory_allocated(device) - before
    return peak_memory_of(lambda: step(stage.crop))


def note_of(learners: Sequence[Learner], device: torch.device) -> str:
    """How long the runs were, so that nobody takes the start of training for its end."""
    steps, most = [one.step for one in learners], max(one.seconds for one in learners)
    far = (
        f"each technique and seed learned for {min(steps):,} to {max(steps):,} steps, "
        f"{most / 60:.1f} minutes at the most"
    )
    if max(steps) >= FULL_RUN:
        return f"A full run on a {device.type.upper()}: {far}."
    return (
        f"A reduced run on a {device.type.upper()}: {far}, where published networks take some "
        f"{FULL_RUN:,}. It tells what is learned first, not what is reached in the end."
    )


def trainer_of(
    arguments: argparse.Namespace,
    builds: Mapping[str, Callable[[], nn.Module]],
    windows: Mapping[str, int] | None = None,
) -> TrainFrom:
    """A `train_from` for `compare`: random weights, then `train_in_turn` alone.

    Args:
        arguments: of `add_arguments`.
        builds: functions that build the networks, by label.
        windows: what a `DeblurNetwork` is measured with, by label.
    """

    def train_from(
        plan: TrainConfig, batches: BatchSource, scorer: Scorer, device: torch.device
    ) -> list[Learner]:
        learners = [
            Learner.start(label, build, plan, device, (windows or {}).get(label))
            for label, build in builds.items()
        ]
        train_in_turn(learners, batches, scorer, arguments.steps, arguments.seconds)
        return learners

    return train_from


def measured_row(
    label: str,
    learners: Sequence[Learner],
    *,
    macs: int,
    own_macs: int = 0,
    blocks: int = 0,
    peak: int,
) -> Row:
    """The row of one network, from the learners with its label."""
    own = [learner for learner in learners if learner.label == label]
    return Row(
        label=label,
        parameters=count_parameters(own[0].network),
        macs=macs,
        own_macs=own_macs,
        blocks=blocks,
        step_seconds=round(min(one.seconds / one.step for one in own), 4),
        peak_bytes=peak,
        runs=tuple(run for learner in own for run in learner.runs),
    )


def add_arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Add the arguments that all comparisons share, and parse the command line. Returns the
    arguments, with `seconds` beside `minutes`.
    """
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--val", type=Path, required=True, help="paired sequences")
    parser.add_argument("--shake", type=Path, nargs="*", default=[], help="orientation logs")
    parser.add_argument("--steps", type=int, help="measure after so many")
    parser.add_argument("--minutes", type=float, help="measure after so many of learning")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--clips", type=int, default=2, help="a batch")
    parser.add_argument("--frames", type=int, default=5, help="a clip")
    parser.add_argument("--crop", type=int, default=96, help="pixels")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--warmup", type=int, default=50, help="steps")
    parser.add_argument(
        "--precision", default="auto", help="of learning, as `unsmear train` has it"
    )
    parser.add_argument("--fresh", type=int, default=40, help="synthetic batches to measure on")
    parser.add_argument("--ssim-every", type=int, default=1, help="frames of val")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="file for the record")
    arguments = parser.parse_args()
    if arguments.steps is None and arguments.minutes is None:
        parser.error("give --steps, --minutes or both")
    arguments.seconds = None if arguments.minutes is None else 60 * arguments.minutes
    return arguments


def plan_of(arguments: argparse.Namespace, seed: int) -> TrainConfig:
    """The preset `plain` with the wanted batches and a constant learning rate."""
    stage = Stage(steps=10**9, clips=arguments.clips, frames=arguments.frames, crop=arguments.crop)
    return dataclasses.replace(
        preset("plain"),
        stages=(stage,),
        shards=1,
        warmup=arguments.warmup,
        learning_rate=arguments.learning_rate,
        precision=arguments.precision,
        seed=seed,
    )


def _check_arguments(
    arguments: argparse.Namespace,
) -> tuple[list[TrainConfig], TrainingFiles, list[PairedSequence]]:
    """The plan of each seed, the training files and the validation sequences.

    Raises:
        UnsmearError: something is wrong (CombinedError: several things).
    """
    mistakes = Mistakes()
    for name in ("steps", "fresh", "ssim_every"):
        mistakes.attempt(partial(at_least, 1, **{name: getattr(arguments, name)}))
    mistakes.attempt(lambda: check_threads(arguments.threads))
    if arguments.minutes is not None and not 0 < arguments.minutes < math.inf:
        mistakes.add(ConfigError(f"minutes is {arguments.minutes}: above 0"))
    repeated = "one seed twice is no second one: give each once"
    mistakes.attempt(lambda: refuse_repeated("seed", map(str, arguments.seeds), repeated))
    if arguments.json is not None:
        read = (*arguments.data, arguments.val, *arguments.shake)
        mistakes.attempt(lambda: check_file(arguments.json, inputs=read))
    plans = mistakes.attempt(lambda: [plan_of(arguments, seed) for seed in arguments.seeds])
    files = mistakes.attempt(lambda: find_training_files(arguments.data))
    pairs = mistakes.attempt(lambda: some_pairs(arguments.val))
    for log in arguments.shake:
        mistakes.attempt(partial(read_orientation_log, log))
    mistakes.tell()
    assert plans is not None
    assert files is not None
    assert pairs is not None
    return plans, files, pairs


def settings_of(
    arguments: argparse.Namespace, plan: TrainConfig, batches: Batches, scorer: Scorer
) -> dict[str, str | int | float]:
    """Settings of training and measurement, for readers of the record."""
    frames = sum(len(sequence.sharp) for sequence in scorer.sequences)
    fresh = sum(len(gains(blurry, blurry, sharp)) for blurry, sharp in scorer.fresh)
    return {
        "batch": f"{arguments.clips} clips of {arguments.frames} frames, "
        f"{arguments.crop}x{arguments.crop}",
        "optimiser": f"{plan.optimizer}, rate {plan.learning_rate} after {plan.warmup} steps, "
        f"loss {plan.loss}, precision {plan.precision}",
        "training data": batches.summary,
        "val": f"{len(scorer.sequences)} sequences, {frames} frames, SSIM of one in "
        f"{arguments.ssim_every}",
        "fresh": f"{fresh} frames below {BLURRED:.0f} dB",
    }


def compare(
    arguments: argparse.Namespace,
    builds: Mapping[str, Callable[[], nn.Module]],
    train_from: TrainFrom,
    row: Callable[[str, int, list[Learner]], Row],
    settings: Mapping[str, str | int | float],
    words: Words = FUSION_WORDS,
) -> ComparisonRecord:
    """Train from each seed, measure, and write the record after each seed, since a run may be long.

    Args:
        arguments: of `add_arguments`, and a title.
        builds: functions that build the networks, by label; picklable, since memory is measured in
            another process.
        train_from: trains all networks from the seed of a plan.
        row: makes the row of a label from its peak memory and all learners.
        settings: to record beside those of `settings_of`.
        words: wording of the record's tables.

    Raises:
        UnsmearError: something is wrong. Arguments and files are checked before training starts.
    """
    plans, files, pairs = _check_arguments(arguments)
    keep_freed_memory()
    use_threads(arguments.threads)
    device = pick_device(arguments.device, trains=True)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = {
            label: pool.apply(peak_bytes, (build, plans[0], str(device)))
            for label, build in builds.items()
        }
    held_out = plan_of(arguments, seed=10**6)  # batches that no seed trains on
    batches = Batches(held_out, files, arguments.shake, device, usable_cores())
    fresh = [batches.draw(step).pair for step in range(arguments.fresh)]
    scorer = Scorer(pairs, fresh, arguments.ssim_every, device)
    blurry = scorer.score(None)
    learners: list[Learner] = []
    for done, plan in enumerate(plans, start=1):
        learners += train_from(plan, batches.reseeded(plan.seed), scorer, device)
        record = ComparisonRecord(
            title=arguments.title,
            note=note_of(learners, device),
            origin=origin_of(device),
            settings={
                "seeds": " ".join(map(str, arguments.seeds[:done])),
                **settings,
                **settings_of(arguments, plan, batches, scorer),
            },
            blurry=blurry,
            rows=tuple(row(label, peaks[label], learners) for label in builds),
            words=words,
        )
        if arguments.json is not None:
            write_text(arguments.json, record_as_json(record, indent=1))
    return record
