"""Which fusion deblurs best? Trains every technique of `unsmear.models.fusion` in the same
backbone, with the same budget of multiply-accumulates, on the same batches, from the same seeds;
measures each after equal steps and after equal time.

    python benchmarks/fusion.py --data PHOTOS CLIPS --val VAL --steps 100000 --minutes 600
    python benchmarks/fusion.py factorised factorised:level=1 factorised:spatial_maps=32 ...

The learning rate is constant after its rise, and the moving average of the weights is what gets
measured: so one run can be measured twice, and no technique is favoured by a schedule's end.
All techniques learn in turn from each batch. Where compute is scarce, --backbone-steps lets the
backbone learn alone first, once for all of them: what differs is then what a fusion adds to it.
Time is that of learning alone; on a CPU it is the processor's, so that other work on the machine
does not count.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import torch
from safetensors.torch import save_file
from torch import Tensor

from unsmear.allocator import keep_freed_memory
from unsmear.data.light import round_to_8_bit
from unsmear.data.pairs import PairedSequence, find_pairs
from unsmear.data.sources import find_training_files
from unsmear.device import pick_device
from unsmear.errors import ConfigError
from unsmear.evaluate.comparison import (
    ComparisonRecord,
    Limit,
    Row,
    Run,
    Score,
    comparison_as_json,
    comparison_lines,
)
from unsmear.evaluate.metrics import psnr, ssim
from unsmear.evaluate.origin import origin_of
from unsmear.models.fusion import (
    FUSIONS,
    FusionConfig,
    FusionNetwork,
    balanced,
    count_fusion_macs,
)
from unsmear.models.network import count_parameters
from unsmear.train.batches import Batches
from unsmear.train.config import Stage, TrainConfig, preset
from unsmear.train.losses import LOSSES
from unsmear.train.optimizers import build_optimizers
from unsmear.video.images import unit_from_integer

BUDGET = 185_000_000  # MACs of a 256x256 frame for the fusion: what the dearest one takes bare
BACKBONE_RATE = 1e-3
BLURRED = 30.0  # dB; fresh frames above it are nearly sharp, and would drown all others
FULL_RUN = 100_000  # steps; below, the record says that the run is a reduced one
USUAL = {"deformable": {"hidden": 16}}  # so that it is not far above the others


def parse_variant(text: str) -> FusionConfig:
    """`NAME` or `NAME:FIELD=JSON,FIELD=JSON` -> its config, brought to the budget."""
    name, _, rest = text.partition(":")
    changes = {**USUAL.get(name, {})}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        changes[key] = json.loads(value)
    try:
        return balanced(FusionConfig(**{"fusion": name, **changes}), BUDGET)  # type: ignore[arg-type]
    except TypeError as error:
        raise ConfigError(f"variant '{text}': {error}") from None


@dataclass(frozen=True)
class Measures:
    """What networks are measured on: paired sequences in full, and synthetic clips."""

    sequences: Sequence[PairedSequence]
    fresh: Sequence[tuple[Tensor, Tensor]]
    ssim_every: int
    device: torch.device

    @torch.no_grad()
    def score(self, network: FusionNetwork | None) -> Score:
        """Of a network; of the blurry frames where there is none."""
        means, all_psnr, all_ssim = {}, [], []
        for sequence in self.sequences:
            blurry, sharp = (unit_from_integer(side)[None] for side in sequence.read())
            blurry = blurry.to(self.device)
            features = network.encode(blurry) if network else ()
            values = []
            for index in range(blurry.shape[1]):
                restored = network.restore(blurry, features, index) if network else blurry[:, index]
                frame = round_to_8_bit(restored[0].cpu())
                values.append(psnr(frame, sharp[0, index]))
                if index % self.ssim_every == 0:
                    all_ssim.append(ssim(frame, sharp[0, index]))
            means[sequence.name] = fmean(values)
            all_psnr += values
        gain = alone = 0.0
        if network:
            gain = fmean(value for pair in self.fresh for value in _gains(network(pair[0]), *pair))
            alone = fmean(
                value for pair in self.fresh for value in _gains(_alone(network, pair[0]), *pair)
            )
        return Score(
            psnr=fmean(all_psnr),
            ssim=fmean(all_ssim),
            fresh=gain,
            neighbours=gain - alone,
            sequences=means,
        )


def _alone(network: FusionNetwork, clips: Tensor) -> Tensor:
    """Restore each frame of (B, L, 3, H, W) as if all others were equal to it."""
    return network(clips.flatten(0, 1).unsqueeze(1)).view_as(clips)


def _gains(restored: Tensor, blurry: Tensor, sharp: Tensor) -> list[float]:
    """Gain in dB of those frames of (B, L, 3, H, W) that are really blurred."""
    before, after = (
        -10 * torch.log10((clip.clamp(0, 1) - sharp).square().flatten(2).mean(dim=-1))
        for clip in (blurry, restored)
    )
    chosen = before < BLURRED
    gains: list[float] = (after - before)[chosen].tolist()
    return gains


@dataclass
class Learner:
    """One technique from one seed."""

    label: str
    network: FusionNetwork
    plan: TrainConfig
    device: torch.device
    step: int = 0
    seconds: float = 0.0
    runs: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.optimizers = build_optimizers(self.network, self.plan)

    @classmethod
    def start(
        cls, label: str, config: FusionConfig, plan: TrainConfig, device: torch.device
    ) -> Learner:
        """Fresh weights; the backbone's are those of every other technique with this seed."""
        torch.manual_seed(plan.seed)
        network = FusionNetwork(config).to(device)  # draws the backbone first
        for parameter in network.parameters():
            if parameter.dim() == 4:  # 3-D kernels have no such layout
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return cls(label, network, plan, device)

    def learn(self, blurry: Tensor, sharp: Tensor) -> None:
        """Take one step."""
        began = self._clock()
        rate = self.plan.learning_rate * min((self.step + 1) / max(self.plan.warmup, 1), 1)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        loss = LOSSES[self.plan.loss](self.network(blurry), sharp)
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip_norm)
        if torch.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
        self.step += 1
        # Each step weighs as its number squared (Shamir and Zhang 2013): most of the run counts,
        # which a constant rate needs, and its beginning hardly.
        share = max(3 / (2 + self.step), 1 - self.plan.ema_decay)
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
            for mean, value in pairs:
                mean.lerp_(value, min(share, 1))
        self.seconds += self._clock() - began

    def record(self, limit: Limit, measures: Measures) -> None:
        """Measure the moving average."""
        score = measures.score(self.average)
        self.runs.append(
            Run(
                seed=self.plan.seed,
                limit=limit,
                step=self.step,
                seconds=round(self.seconds, 2),
                score=score,
            )
        )
        print(
            f"{self.label}, seed {self.plan.seed}, {self.step} steps, {self.seconds:.0f} s: "
            f"{score.psnr:.3f} dB, SSIM {score.ssim:.4f}, fresh {score.fresh:+.3f} dB",
            file=sys.stderr,
            flush=True,
        )

    def _clock(self) -> float:
        if self.device.type == "cpu":
            return time.process_time() / torch.get_num_threads()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def keep(folder: Path, learner: Learner, when: str) -> None:
    """Write a learner's averaged weights, with what it takes to load them."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in learner.average.state_dict().items()}
    told = {
        "label": learner.label,
        "seed": learner.plan.seed,
        "when": when,
        "step": learner.step,
        "config": dataclasses.asdict(learner.network.config),
    }
    name = re.sub(r"[^a-z0-9]+", "-", learner.label)
    path = folder / f"{name}-{learner.plan.seed}-{when}.safetensors"
    save_file(state, path, {"fusion": json.dumps(told)})


def train_all(
    configs: dict[str, FusionConfig],
    plan: TrainConfig,
    batches: Batches,
    measures: Measures,
    steps: int | None,
    seconds: float | None,
    backbone_steps: int = 0,
    kept: Path | None = None,
) -> list[Learner]:
    """All techniques from the plan's seed, in turn from each batch, until each has been measured
    at both limits; their backbone may learn alone first, which counts for none of them.
    """
    learners = [Learner.start(*item, plan, measures.device) for item in configs.items()]
    if backbone_steps:
        alone = FusionConfig(fusion="none", backbone=next(iter(configs.values())).backbone)
        faster = dataclasses.replace(plan, learning_rate=BACKBONE_RATE)
        first = Learner.start("backbone", alone, faster, measures.device)
        for step in range(backbone_steps):
            first.learn(*batches.draw(step))
        for learner in learners:
            for network in (learner.network, learner.average):
                network.backbone.load_state_dict(first.average.backbone.state_dict())

    if kept is not None:
        for learner in learners:
            keep(kept, learner, "fresh")

    def wanted(learner: Learner) -> list[Limit]:
        have = {run.limit for run in learner.runs}
        limits: list[Limit] = []
        if steps is not None and "steps" not in have:
            limits.append("steps")
        if seconds is not None and "minutes" not in have:
            limits.append("minutes")
        return limits

    step = backbone_steps
    while busy := [learner for learner in learners if wanted(learner)]:
        blurry, sharp = batches.draw(step)
        step += 1
        for learner in busy:
            learner.learn(blurry, sharp)
            for limit in wanted(learner):
                if (learner.step == steps) if limit == "steps" else learner.seconds >= seconds:  # type: ignore[operator]
                    learner.record(limit, measures)
    if kept is not None:
        for learner in learners:
            keep(kept, learner, "learned")
    return learners


def peak_bytes(label: str, config: FusionConfig, plan: TrainConfig, device_name: str) -> int:
    """Memory that a step of training takes beyond network and batch, in a process of its own."""
    torch.set_num_threads(1)
    device = torch.device(device_name)
    stage = plan.stages[0]
    learner = Learner.start(label, config, plan, device)

    def step(crop: int) -> None:
        clips = torch.rand(2, stage.clips, stage.frames, 3, crop, crop, device=device)
        learner.learn(clips[0], clips[1])

    step(32)  # libraries loaded, state of the optimisers there
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step(stage.crop)
        return torch.cuda.max_memory_allocated(device) - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here (Linux)
    before = resident("VmRSS")
    step(stage.crop)
    return max(resident("VmHWM") - before, 0)


def resident(name: str) -> int:
    """Bytes of resident memory of this process: VmRSS now, VmHWM at its peak (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {name}")


def plan_of(arguments: argparse.Namespace, seed: int) -> TrainConfig:
    """The preset `lite` with the wanted shape of batches, without a schedule's end."""
    stage = Stage(steps=10**9, clips=arguments.clips, frames=arguments.frames, crop=arguments.crop)
    return dataclasses.replace(
        preset("lite"),
        stages=(stage,),
        shards=1,
        warmup=arguments.warmup,
        learning_rate=arguments.learning_rate,
        seed=seed,
    )


def parse_arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("variants", nargs="*", default=[], help="default: all; or NAME:FIELD=JSON")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--val", type=Path, required=True, help="paired sequences")
    parser.add_argument("--shake", type=Path, nargs="*", default=[], help="orientation logs")
    parser.add_argument("--steps", type=int, help="measure after so many")
    parser.add_argument("--minutes", type=float, help="measure after so many of learning")
    parser.add_argument("--backbone-steps", type=int, default=0, help="alone, before all others")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--clips", type=int, default=2, help="a batch")
    parser.add_argument("--frames", type=int, default=5, help="a clip")
    parser.add_argument("--crop", type=int, default=96, help="pixels")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--warmup", type=int, default=50, help="steps")
    parser.add_argument("--fresh", type=int, default=40, help="synthetic batches to measure on")
    parser.add_argument("--ssim-every", type=int, default=1, help="frames of val")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--title", default="Fusion techniques in one backbone, one budget")
    parser.add_argument("--json", type=Path, help="file for the record")
    parser.add_argument("--keep", type=Path, help="folder for the weights, learned and fresh")
    arguments = parser.parse_args()
    if arguments.steps is None and arguments.minutes is None:
        parser.error("give --steps, --minutes or both")
    return arguments


def note_of(learners: Sequence[Learner], device: torch.device) -> str:
    """How far the runs went, so that nobody takes the start of training for its end."""
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


def row_of(label: str, config: FusionConfig, peak: int, learners: Sequence[Learner]) -> Row:
    """What was measured of one technique."""
    own = [learner for learner in learners if learner.label == label]
    bare = dataclasses.replace(config, extra_blocks=0)
    return Row(
        label=label,
        parameters=count_parameters(own[0].network),
        macs=count_fusion_macs(config)[0],
        own_macs=count_fusion_macs(bare)[1],
        blocks=config.extra_blocks,
        step_seconds=round(min(one.seconds / one.step for one in own), 4),
        peak_bytes=peak,
        runs=tuple(run for learner in own for run in learner.runs),
    )


def settings_of(
    arguments: argparse.Namespace, plan: TrainConfig, batches: Batches, measures: Measures
) -> dict[str, str | int | float]:
    """Of training and measuring, for readers."""
    frames = sum(len(sequence.sharp) for sequence in measures.sequences)
    fresh = sum(len(_gains(blurry, blurry, sharp)) for blurry, sharp in measures.fresh)
    return {
        "backbone alone first": f"{arguments.backbone_steps} steps at {BACKBONE_RATE}",
        "batch": f"{arguments.clips} clips of {arguments.frames} frames, "
        f"{arguments.crop}x{arguments.crop}",
        "optimiser": f"{plan.optimizer}, rate {plan.learning_rate} after {plan.warmup} steps, "
        f"loss {plan.loss}",
        "training data": batches.summary,
        "val": f"{len(measures.sequences)} sequences, {frames} frames, SSIM of one in "
        f"{arguments.ssim_every}",
        "fresh": f"{fresh} frames below {BLURRED:.0f} dB",
        "budget of the fusion": f"{BUDGET / 1e9:.3f} GMAC at 256x256",
    }


def main() -> None:
    """Train, measure, print tables, write the record (after each seed: it may be long)."""
    arguments = parse_arguments()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    device = pick_device(arguments.device)
    configs = {text: parse_variant(text) for text in arguments.variants or FUSIONS}
    plans = [plan_of(arguments, seed) for seed in arguments.seeds]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = {
            label: pool.apply(peak_bytes, (label, config, plans[0], str(device)))
            for label, config in configs.items()
        }
    held_out = plan_of(arguments, seed=10**6)  # batches that no seed trains on
    files = find_training_files(arguments.data)
    batches = Batches(held_out, files, arguments.shake, device, os.cpu_count() or 1)
    fresh = [batches.draw(step) for step in range(arguments.fresh)]
    measures = Measures(find_pairs(arguments.val), fresh, arguments.ssim_every, device)
    blurry = measures.score(None)
    seconds = None if arguments.minutes is None else 60 * arguments.minutes
    learners: list[Learner] = []
    for done, plan in enumerate(plans, start=1):
        drawn = batches.reseeded(plan.seed)
        learners += train_all(
            configs,
            plan,
            drawn,
            measures,
            arguments.steps,
            seconds,
            arguments.backbone_steps,
            arguments.keep,
        )
        record = ComparisonRecord(
            title=arguments.title,
            note=note_of(learners, device),
            origin=origin_of(device),
            settings={
                "seeds": " ".join(map(str, arguments.seeds[:done])),
                **settings_of(arguments, plan, batches, measures),
            },
            blurry=blurry,
            rows=tuple(
                row_of(label, config, peaks[label], learners) for label, config in configs.items()
            ),
        )
        if arguments.json is not None:
            arguments.json.write_text(comparison_as_json(record), encoding="utf-8")
    print("\n".join(comparison_lines(record)))


if __name__ == "__main__":
    main()
