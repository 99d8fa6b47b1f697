"""Does a part of the network earn its place? Trains variants of a zoo row for equal steps on the
same batches from the same seed, and compares what they gain on the same fresh batches.

    python benchmarks/ablation.py neighbours 0 1 --data PHOTOS --steps 200
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from unsmear.data.sources import find_training_files
from unsmear.models.network import DeblurNetwork, NetworkConfig, count_macs, count_parameters
from unsmear.models.zoo import find_entry
from unsmear.train.batches import Batches
from unsmear.train.config import TrainConfig, preset
from unsmear.train.loop import Stepper
from unsmear.train.state import TrainState
from unsmear.train.team import Team

# Frames sorted by how bad they are, dB of the blurry frame: columns of the table.
CLASSES = ((0.0, 24.0), (24.0, 28.0), (28.0, 34.0), (34.0, 99.0))
CPU = torch.device("cpu")


def psnr_of_frames(clips: Tensor, sharp: Tensor) -> Tensor:
    """(B, T, 3, H, W) -> (B * T,), dB."""
    error = (clips.clamp(0, 1) - sharp).square().flatten(2).mean(dim=-1).flatten()
    return -10 * torch.log10(error.clamp_min(1e-6))


def train_variant(network: NetworkConfig, config: TrainConfig, batches: Batches) -> DeblurNetwork:
    """Take all steps of the config; the moving average of the weights."""
    state = TrainState.start(network, config, CPU)
    stepper = Stepper(config, state, CPU, Team())
    while state.step < config.steps:
        stepper.step(*batches.draw(state.step))
    return state.average


@torch.no_grad()
def gains(network: DeblurNetwork, config: TrainConfig, batches: Batches, count: int) -> list[str]:
    """Mean gain in dB on fresh batches: of all frames, then of each class."""
    before, after = [], []
    for step in range(config.steps, config.steps + count):  # none of these was trained on
        blurry, sharp = batches.draw(step)
        before.append(psnr_of_frames(blurry, sharp))
        after.append(psnr_of_frames(network(blurry), sharp))
    was = torch.cat(before)
    gain = torch.cat(after) - was
    masks = [torch.ones_like(was, dtype=torch.bool)]
    masks += [(was >= low) & (was < high) for low, high in CLASSES]
    return [f"{float(gain[mask].mean()):+.3f}" if mask.any() else "-" for mask in masks]


def variants(base: NetworkConfig, field: str, values: Sequence[str]) -> list[NetworkConfig]:
    """The base with one field set to each of the values, given as JSON."""
    return [dataclasses.replace(base, **{field: json.loads(value)}) for value in values]


def main() -> None:
    """Train, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("field", choices=[f.name for f in dataclasses.fields(NetworkConfig)])
    parser.add_argument("values", nargs="+", help="JSON, such as 0 1 or [1,2]")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--fresh", type=int, default=40, help="batches to measure on")
    arguments = parser.parse_args()
    plan = preset(arguments.preset)
    stage = dataclasses.replace(plan.stages[0], steps=arguments.steps)
    plan = dataclasses.replace(plan, stages=(stage,), warmup=min(plan.warmup, arguments.steps // 5))
    base = find_entry(plan.model).config
    batches = Batches(plan, find_training_files(arguments.data), [], CPU, 2)
    print(f"{plan.model}, {arguments.steps} steps of {stage}, torch {torch.__version__}, CPU")
    print(f"| {arguments.field} | seed | parameters | GMAC | seconds | all frames | <24 dB "
          "| 24-28 | 28-34 | >34 |")  # fmt: skip
    print("|" + "---|" * 10)
    for value, network in zip(
        arguments.values, variants(base, arguments.field, arguments.values), strict=True
    ):
        for seed in arguments.seeds:
            config = dataclasses.replace(plan, seed=seed)
            began = time.monotonic()
            trained = train_variant(network, config, batches)
            cells = [
                value,
                str(seed),
                f"{count_parameters(trained) / 1e6:.2f} M",
                f"{count_macs(network) / 1e9:.2f}",
                f"{time.monotonic() - began:.0f}",
                *gains(trained, config, batches, arguments.fresh),
            ]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
