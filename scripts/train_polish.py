"""Train the network that polishes restored frames (`unsmear CLIP --polish`), with one command.

    python scripts/train_polish.py --data DATA/train --val DATA/val --out runs/polish
    python scripts/train_polish.py --weights polish.safetensors --learning-rate 4e-4 --data ...
    python scripts/train_polish.py --told --weights polish.safetensors --data ...
    python scripts/train_polish.py --told --passes 2 --weights told.safetensors --data ...

With `--told`, it is the network of `--polish --reblur`, which is told what reblurring finds. With
more blocks than the weights have, it starts as they are and learns to use them. With `--passes 2`,
it also learns to correct what the weights give.

First, models restore synthesised clips, and what the burst step makes of these is kept in
OUT/samples. On a CPU this takes longer than the training, above all for `pro`. The same command
goes on where an interrupted one was. Results: OUT/weights.safetensors, and those that validated
best, with the first model, in OUT/best.safetensors. `scripts/pack_weights.py` makes a file for
release of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from functools import partial
from pathlib import Path

from unsmear.data.pairs import some_pairs
from unsmear.data.sources import (
    DataRecord,
    find_training_files,
    training_record,
    validation_record,
)
from unsmear.device import pick_device, usable_cores
from unsmear.display import err, out
from unsmear.engines.base import to_device
from unsmear.errors import ConfigError
from unsmear.evaluate.programs import at_least, run_program
from unsmear.models.growth import grow_polish_from
from unsmear.models.polish import PolishConfig, PolishNetwork
from unsmear.models.zoo import load_model
from unsmear.train.batches import Batches
from unsmear.train.claim import claimed
from unsmear.train.config import TrainConfig
from unsmear.train.display import TrainDisplay
from unsmear.train.interrupts import termination_as_interrupt
from unsmear.train.loop import train
from unsmear.train.polishing import (
    PLAN,
    SAMPLES,
    TOLD_PLAN,
    TOLD_SAMPLES,
    Polishing,
    Samples,
    TrainedPolish,
    fill_folder,
)
from unsmear.train.preflight import check_kept
from unsmear.train.state import STATE_FILE


def plan_of(arguments: argparse.Namespace) -> TrainConfig:
    """`PLAN` or `TOLD_PLAN` with the changes of the command line.

    Raises:
        ConfigError: a number is out of range.
    """
    at_least(1, steps=arguments.steps, files=arguments.files)
    plan = TOLD_PLAN if arguments.told else PLAN
    plan = plan if arguments.steps is None else plan.scaled_to(arguments.steps)
    changes = {"learning_rate": arguments.learning_rate, "seed": arguments.seed}
    given = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(plan, **given)


def shape_of(arguments: argparse.Namespace, trained: PolishConfig) -> PolishConfig:
    """Of the network to train: what the command line leaves open is as in `trained`.

    Raises:
        ConfigError: a number is out of range, or below that of the weights to start from.
    """
    blocks, deep = arguments.blocks, arguments.deep_blocks
    blocks = trained.blocks if blocks is None else blocks
    deep = trained.deep_blocks if deep is None else deep
    passes = trained.passes if arguments.passes is None else arguments.passes
    shape = dataclasses.replace(
        trained, blocks=blocks, deep_blocks=deep, told=arguments.told, passes=passes
    )
    if arguments.weights is not None and not shape.can_grow_from(trained):
        raise ConfigError(
            f"--blocks {blocks} --deep-blocks {deep}: must be at least {trained.blocks} and "
            f"{trained.deep_blocks}, as in '{arguments.weights}'"
        )
    if arguments.weights is None and passes > 1:
        raise ConfigError(
            f"--passes {passes} needs --weights: later passes learn from what those give"
        )
    return shape


def _initial(arguments: argparse.Namespace) -> TrainedPolish | None:
    """Weights to start from, if any.

    Raises:
        UnsmearError: they cannot be read, or the run would overwrite them.
    """
    if (path := arguments.weights) is None:
        return None
    initial = TrainedPolish.read(path)
    if initial.network.config.told and not arguments.told:
        raise ConfigError(f"'{path}' must be told what reblurring finds: add --told")
    if not (arguments.out / STATE_FILE).is_file():
        check_kept("--weights", path, arguments.out)
    return initial


def main() -> None:
    """Make samples, train, write the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--told", action="store_true", help="what reblurring finds")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--val", type=Path, help="paired sequences")
    parser.add_argument("--shake", type=Path, nargs="*", default=[], help="orientation logs")
    parser.add_argument("--out", type=Path, default=Path("runs/polish"))
    parser.add_argument("--models", nargs="+", default=["lite", "core", "pro"])
    parser.add_argument("--files", type=int, default=60, help="of 16 or 8 samples, once a pass")
    parser.add_argument("--steps", type=int, help=f"default: {PLAN.steps}")
    parser.add_argument("--learning-rate", type=float, help=f"default: {PLAN.learning_rate}")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--weights", type=Path, help="of a polishing network, to start from")
    parser.add_argument("--blocks", type=int, help="at half of the size; default: as --weights")
    parser.add_argument("--deep-blocks", type=int, help="at a quarter; default: as --weights")
    parser.add_argument("--passes", type=int, help="corrections; default: as --weights, or 1")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    plan = plan_of(arguments)
    device = pick_device(arguments.device, trains=True)
    found = find_training_files(arguments.data)
    record = training_record(found, arguments.data, arguments.shake)
    pairs = some_pairs(arguments.val) if arguments.val else []
    models = [load_model(name) for name in arguments.models]
    for model in models:
        to_device(model.network, device)
    initial = _initial(arguments)
    told = arguments.told
    shape = shape_of(arguments, initial.network.config if initial else PolishConfig())
    network = PolishNetwork(shape).eval()
    if initial:
        grow_polish_from(network, initial.network)
    network.to(device)
    kind = Polishing(models[0], shape)
    try:
        with termination_as_interrupt(), claimed(arguments.out):
            clips = dataclasses.replace(TOLD_SAMPLES if told else SAMPLES, seed=plan.seed)
            load = partial(Batches, clips, found, arguments.shake, device, usable_cores())
            folder = arguments.out / "samples"
            with err.status("making samples"):
                fill_folder(folder, load, models, network, arguments.files)
            samples = Samples(folder, plan, device, told=told)
            out.print(samples.summary)
            data = DataRecord(f"{samples.summary}, of {record.summary}", record.fingerprint)
            with TrainDisplay(out, plan.steps) as display:
                result = train(
                    plan,
                    samples,
                    pairs,
                    arguments.out,
                    device,
                    display.show,
                    trainable=kind,
                    initial=initial,
                    data=data,
                    validation_data=validation_record(pairs, arguments.val) if pairs else None,
                )
    except KeyboardInterrupt:
        out.print(f"the same command goes on from what is saved in {arguments.out}")
        raise
    out.print(f"weights: {result}")


if __name__ == "__main__":
    sys.exit(run_program(main))
