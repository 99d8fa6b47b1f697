"""Which fusion deblurs best?

Trains every technique of `unsmear.models.fusion` in the same backbone, with the same budget of
multiply-accumulates, on the same batches, from the same seeds. Measures each after equal steps and
after equal time.

    python benchmarks/fusion.py --data PHOTOS CLIPS --val VAL --steps 100000 --minutes 600
    python benchmarks/fusion.py factorised factorised:level=1 factorised:spatial_maps=32 ...

See `unsmear.train.learner` for the rules. With little compute, --backbone-steps first trains the
backbone alone, once for all techniques; the results then show what each fusion adds to it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from functools import partial
from pathlib import Path

import torch

from unsmear.errors import ConfigError, writing
from unsmear.evaluate.comparison import Row, comparison_lines
from unsmear.evaluate.programs import at_least, parse_changes, parser_for, run_program
from unsmear.models.checkpoint import save_tensors
from unsmear.models.fusion import (
    FUSIONS,
    FusionConfig,
    FusionNetwork,
    balanced,
    count_fusion_macs,
)
from unsmear.train.comparison import add_arguments, compare, measured_row
from unsmear.train.config import TrainConfig
from unsmear.train.learner import Learner, train_in_turn
from unsmear.train.prefetch import BatchSource
from unsmear.train.scoring import Scorer

BUDGET = 185_000_000  # MACs of a fusion at 256x256: those of the costliest without extra blocks
BACKBONE_RATE = 1e-3
USUAL = {"deformable": {"hidden": 16}}  # so that it does not cost far more than the others


def parse_variant(text: str) -> FusionConfig:
    """`NAME` or `NAME:FIELD=JSON,FIELD=JSON` -> its config, balanced to the budget.

    Raises:
        ConfigError: an unknown field, invalid JSON, or values that contradict each other.
    """
    name, _, rest = text.partition(":")
    changes = parse_changes(text, rest) if rest else {}
    try:
        return balanced(FusionConfig(**{"fusion": name, **USUAL.get(name, {}), **changes}), BUDGET)
    except TypeError as error:
        raise ConfigError(f"variant '{text}': {error}") from None


def keep(folder: Path, learner: Learner, when: str) -> None:
    """Save a learner's averaged weights, with what is needed to load them.

    Raises:
        OutputError: the file cannot be written.
    """
    assert isinstance(learner.average, FusionNetwork)
    state = {key: value.contiguous() for key, value in learner.average.state_dict().items()}
    told = {
        "label": learner.label,
        "seed": learner.plan.seed,
        "when": when,
        "step": learner.step,
        "config": dataclasses.asdict(learner.average.config),
    }
    name = re.sub(r"[^a-z0-9]+", "-", learner.label)
    path = folder / f"{name}-{learner.plan.seed}-{when}.safetensors"
    save_tensors(path, state, {"fusion": json.dumps(told)})


def train_all(
    configs: dict[str, FusionConfig],
    plan: TrainConfig,
    batches: BatchSource,
    scorer: Scorer,
    device: torch.device,
    steps: int | None,
    seconds: float | None,
    backbone_steps: int = 0,
    kept: Path | None = None,
) -> list[Learner]:
    """Train all techniques from the plan's seed, in turn on each batch, until each has been
    measured at both limits. With `backbone_steps`, the backbone first trains alone, which counts
    for no technique. With a folder `kept`, networks are saved before and after training.
    """
    learners = [
        Learner.start(label, partial(FusionNetwork, config), plan, device)  # backbone is drawn
        for label, config in configs.items()  # first, so that all of this seed start from the same
    ]
    if backbone_steps:
        alone = FusionConfig(fusion="none", backbone=next(iter(configs.values())).backbone)
        faster = dataclasses.replace(plan, learning_rate=BACKBONE_RATE)
        first = Learner.start("backbone", partial(FusionNetwork, alone), faster, device)
        for step in range(backbone_steps):
            first.learn(batches.draw(step))
        assert isinstance(first.average, FusionNetwork)
        for learner in learners:
            for network in (learner.network, learner.average):
                assert isinstance(network, FusionNetwork)
                network.backbone.load_state_dict(first.average.backbone.state_dict())
    if kept is not None:
        for learner in learners:
            keep(kept, learner, "fresh")
    train_in_turn(learners, batches, scorer, steps, seconds, backbone_steps)
    if kept is not None:
        for learner in learners:
            keep(kept, learner, "learned")
    return learners


def row_of(label: str, config: FusionConfig, peak: int, learners: list[Learner]) -> Row:
    """The row of one technique."""
    bare = dataclasses.replace(config, extra_blocks=0)
    return measured_row(
        label,
        learners,
        macs=count_fusion_macs(config)[0],
        own_macs=count_fusion_macs(bare)[1],
        blocks=config.extra_blocks,
        peak=peak,
    )


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = parser_for(__doc__)
    parser.add_argument("variants", nargs="*", default=[], help="default: all; or NAME:FIELD=JSON")
    parser.add_argument("--backbone-steps", type=int, default=0, help="alone, before all others")
    parser.add_argument("--title", default="Fusion techniques in one backbone, one budget")
    parser.add_argument("--keep", type=Path, help="folder for the weights, learned and fresh")
    return add_arguments(parser)


def main() -> None:
    """Command line. The record is written after each seed, since a run may be long."""
    arguments = parse_arguments()
    configs = {text: parse_variant(text) for text in arguments.variants or FUSIONS}
    alone = arguments.backbone_steps
    at_least(0, backbone_steps=alone)
    if arguments.keep is not None:  # checked before training
        with writing(arguments.keep):
            arguments.keep.mkdir(parents=True, exist_ok=True)

    def train_from(
        plan: TrainConfig, batches: BatchSource, scorer: Scorer, device: torch.device
    ) -> list[Learner]:
        return train_all(
            configs, plan, batches, scorer, device, arguments.steps, arguments.seconds, alone,
            arguments.keep,
        )  # fmt: skip

    record = compare(
        arguments,
        {label: partial(FusionNetwork, config) for label, config in configs.items()},
        train_from,
        lambda label, peak, learners: row_of(label, configs[label], peak, learners),
        {
            "backbone alone first": f"{alone} steps at {BACKBONE_RATE}",
            "budget of the fusion": f"{BUDGET / 1e9:.3f} GMAC at 256x256",
        },
    )
    print("\n".join(comparison_lines(record)))


if __name__ == "__main__":
    sys.exit(run_program(main))
