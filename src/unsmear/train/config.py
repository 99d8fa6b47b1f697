"""Configuration of training, and the presets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from unsmear.data.synthesis import SynthesisConfig
from unsmear.errors import ConfigError
from unsmear.models.config import NetworkConfig
from unsmear.models.trails import CELL
from unsmear.train.losses import LOSSES

LossName = Literal["charbonnier", "charbonnier_mse", "l1", "psnr"]  # of the command line
OptimizerName = Literal["adam", "muon"]
ScheduleName = Literal["cosine", "halving", "constant"]
CompileChoice = Literal["auto", "graph", "on", "off"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]
# What settings that are names may be.
_CHOICES: dict[str, Collection[str]] = {
    "optimizer": get_args(OptimizerName),
    "schedule": get_args(ScheduleName),
    "loss": LOSSES,
    "precision": get_args(PrecisionChoice),
    "compile": get_args(CompileChoice),
}

_MOST_SHARDS = 8


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of training with one batch shape.

    Attributes:
        steps: optimiser steps.
        clips: B, clips per batch, over all processes.
        frames: T, frames per clip; each is restored with the whole clip as its window.
        crop: H and W in pixels.

    Raises:
        ConfigError: a value is too small.
    """

    steps: int
    clips: int
    frames: int
    crop: int

    def __post_init__(self) -> None:
        if min(self.steps, self.clips, self.frames) < 1 or self.crop < 16:
            raise ConfigError(
                f"{self}: steps, clips and frames must be at least 1, crop at least 16"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the result of training, except the data and the device.

    Attributes:
        model: row of the zoo to train.
        stages: one after the other. In larger crops the attention sees more, as in full frames, so
            the last stage has the largest crop.
        optimizer: `adam`, or `muon` for hidden convolutions (and Adam for the rest).
        learning_rate: peak value.
        schedule: `cosine` (to 1 % at the end), `halving` (the paper's) or `constant`.
        warmup: steps of linear rise at the start.
        halve_every: steps, for `halving`.
        loss: row of `unsmear.train.losses.LOSSES`.
        frequency_weight: of `unsmear.train.losses.frequency`, added to the loss.
        trail_weight: of `unsmear.train.losses.trail_loss`, added to the loss of networks that
            follow trails.
        teacher: identity of the network whose results are learned from too, see
            `unsmear.train.distillation`; empty: none.
        teacher_weight: of the loss against the teacher's results, added to that against the truth.
        clip_norm: maximum norm of the gradient.
        ema_decay: of the moving average of the weights, which is validated and saved.
        shards: number of equal parts of a batch, each drawn with its own random generators. As many
            processes can share the work; the result does not depend on their number.
        pair_share: probability that a shard consists of recorded pairs rather than synthesised
            clips, if there are both.
        refine_share: share of the clips of a batch whose frames see restored neighbours, as in
            refinement; for networks that align neighbours.
        precision: of the convolutions. `auto`: bfloat16 on a GPU that has it, float32 elsewhere.
        compile: `graph`: steps are recorded as CUDA graphs and replayed, see
            `unsmear.train.stepper`. `auto`: `graph` on a CUDA GPU, `off` elsewhere. `on`:
            torch.compile, for long runs: with `pro` on an H200 the first step came after more than
            90 s (on a CPU a step of `plain` took 0.24 s rather than 0.21). The choice affects only
            rounding.
        seed: of initial weights and data.
        log_every: steps.
        validate_every: steps.
        checkpoint_every: steps.
        synthesis: what the virtual camera does.

    Raises:
        ConfigError: a value is out of its range, or contradicts another.
    """

    model: str
    stages: tuple[Stage, ...]
    optimizer: OptimizerName = "adam"
    learning_rate: float = 1e-4
    schedule: ScheduleName = "cosine"
    warmup: int = 0
    halve_every: int = 0
    loss: str = "charbonnier"
    frequency_weight: float = 0.0
    trail_weight: float = 0.01
    teacher: str = ""
    teacher_weight: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    shards: int = 1
    pair_share: float = 0.5
    refine_share: float = 0.0
    precision: PrecisionChoice = "auto"
    compile: CompileChoice = "auto"
    seed: int = 0
    log_every: int = 50
    validate_every: int = 2000
    checkpoint_every: int = 500
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)

    def __post_init__(self) -> None:
        problems = []
        if not self.stages:
            problems.append("stages is empty: needs at least one")
        if not 0 < self.learning_rate <= 1:
            problems.append(f"learning_rate is {self.learning_rate}: must be above 0, at most 1")
        for name, allowed in _CHOICES.items():
            if (chosen := getattr(self, name)) not in tuple(allowed):  # it may be unhashable
                problems.append(f"{name} is {chosen!r}: must be one of {', '.join(allowed)}")
        if self.schedule == "halving" and self.halve_every < 1:
            problems.append(f"halve_every is {self.halve_every}: 'halving' needs at least 1")
        for name in ("frequency_weight", "trail_weight", "teacher_weight"):
            if not 0 <= (weight := getattr(self, name)) < math.inf:
                problems.append(f"{name} is {weight}: must be finite, and 0 or more")
        if 0 <= self.teacher_weight < math.inf and bool(self.teacher) != bool(self.teacher_weight):
            problems.append(
                f"teacher_weight is {self.teacher_weight}, teacher is {self.teacher!r}: each needs "
                "the other"
            )
        if not 0 <= self.ema_decay < 1:
            problems.append(f"ema_decay is {self.ema_decay}: must be at least 0 and below 1")
        if self.shards < 1 or any(stage.clips % self.shards for stage in self.stages):
            problems.append(f"shards is {self.shards}: must divide the clips of every stage")
        for name in ("pair_share", "refine_share"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                problems.append(f"{name} is {share}: must be from 0 to 1")
        if 0 < self.refine_share <= 1 and self.stages:
            fewest = min(stage.clips for stage in self.stages)
            if not round(self.refine_share * fewest):
                problems.append(
                    f"refine_share is {self.refine_share}: amounts to none of {fewest} clips; use "
                    f"0, or at least {1 / fewest:.3g}"
                )
        if not self.clip_norm > 0:  # nor NaN
            problems.append(f"clip_norm is {self.clip_norm}: must be above 0")
        if self.warmup < 0:
            problems.append(f"warmup is {self.warmup}: must be 0 or more")
        if not 0 <= self.seed < 1 << 63:
            problems.append(f"seed is {self.seed}: must be 0 or more, and below 2^63")
        for name in ("log_every", "validate_every", "checkpoint_every"):
            if (every := getattr(self, name)) < 1:
                problems.append(f"{name} is {every}: must be at least 1")
        if problems:
            raise ConfigError("TrainConfig: " + "; ".join(problems))

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> Stage:
        """The stage that a step (0-based) belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step (0-based)."""
        rise = min((step + 1) / self.warmup, 1.0) if self.warmup else 1.0
        if self.schedule == "halving":
            return self.learning_rate * rise * float(0.5 ** (step // self.halve_every))
        if self.schedule == "constant":
            return self.learning_rate * rise
        progress = min(max(step - self.warmup, 0) / max(self.steps - self.warmup, 1), 1.0)
        return self.learning_rate * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    def scaled_to(self, steps: int) -> TrainConfig:
        """The same with another number of steps; stages and schedule are scaled in proportion.

        Raises:
            ConfigError: there are fewer steps than stages.
        """
        if steps < len(self.stages):
            raise ConfigError(
                f"steps is {steps}: must be at least {len(self.stages)}, one for each stage"
            )
        share = steps / self.steps
        counts = [max(round(stage.steps * share), 1) for stage in self.stages]
        counts[0] += steps - sum(counts)
        while counts[0] < 1:  # the others were rounded up
            counts[counts.index(max(counts))] -= 1
            counts[0] += 1
        return dataclasses.replace(
            self,
            stages=tuple(
                dataclasses.replace(stage, steps=count)
                for stage, count in zip(self.stages, counts, strict=True)
            ),
            warmup=round(self.warmup * share),
            halve_every=max(round(self.halve_every * share), 1) if self.halve_every else 0,
        )

    def with_batches(
        self, clips: int | None, frames: int | None, crop: int | None = None
    ) -> TrainConfig:
        """The same with other batches in all stages.

        Args:
            clips: per batch, over all processes. The number of shards becomes the greatest common
                divisor of it and 8. None: unchanged.
            frames: per clip; None: unchanged.
            crop: side in pixels; None: unchanged.

        Raises:
            ConfigError: clips or frames are below 1, or crop is below 16.
        """
        wanted = {"clips": clips, "frames": frames, "crop": crop}
        changes = {name: n for name, n in wanted.items() if n is not None}
        stages = tuple(dataclasses.replace(stage, **changes) for stage in self.stages)
        shards = self.shards if clips is None else math.gcd(clips, _MOST_SHARDS)
        return dataclasses.replace(self, stages=stages, shards=shards)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for records and checkpoints."""
        return dataclasses.asdict(self)


def check_crops(config: TrainConfig, network: NetworkConfig, name: str) -> None:
    """Raise ConfigError if a network follows trails and crops are not multiples of a cell: then all
    trails of turned crops would be unknown. `name` is the network's name for the error.
    """
    for stage in config.stages:
        if network.trail_levels and stage.crop % CELL:
            raise ConfigError(
                f"crop is {stage.crop}: must be a multiple of {CELL} for '{name}', which follows "
                "blur trails"
            )


def check_drafts(config: TrainConfig, network: NetworkConfig) -> None:
    """Raise ConfigError if `refine_share` is set for a network that does not align neighbours."""
    if config.refine_share and not network.aligned_levels:
        raise ConfigError(
            f"refine_share is {config.refine_share}: '{config.model}' does not align neighbours; "
            "use 0"
        )


# Two hours on a small CPU: small crops first, larger ones at the end. On a GPU, ask for more steps.
_PLAIN = TrainConfig(
    model="plain",
    stages=(
        Stage(steps=5_400, clips=6, frames=3, crop=128),
        Stage(steps=1_800, clips=2, frames=4, crop=208),
    ),
    optimizer="muon",
    learning_rate=6e-4,
    warmup=100,
    # In 150 steps from weights that had converged with Charbonnier alone, its sum with the squared
    # error gained 0.05 dB more on frames below 24 dB.
    loss="charbonnier_mse",
    # Muon takes full steps along its momentum, so one unclipped spike drives it off for tens of
    # steps.
    clip_norm=0.1,
    shards=2,
    validate_every=750,
    synthesis=SynthesisConfig(blur_mean=10.0, blur_most=32.0, sharp_share=0.1, half_share=0.7),
)
# Fewer but larger crops: in a crop not much larger than a trail, neighbouring frames hardly show
# the same content.
_TRAIL = dataclasses.replace(
    _PLAIN,
    model="trail",
    stages=(
        Stage(steps=5_400, clips=4, frames=3, crop=192),
        Stage(steps=1_200, clips=4, frames=4, crop=256),
    ),
    shards=4,
    # Real clips went through a codec, which removed the noise that a network would otherwise learn
    # to use, and left block artefacts. Near parts blur more than far ones. At night lamps leave
    # streaks.
    synthesis=dataclasses.replace(
        _PLAIN.synthesis, coder_share=0.4, relief_share=0.4, night_share=0.15
    ),
)
# More frames per clip: the first and the last frame have only one neighbour.
_ALIGN = dataclasses.replace(
    _TRAIL,
    model="align",
    stages=(Stage(steps=5_400, clips=4, frames=4, crop=176), _TRAIL.stages[-1]),
)
PRESETS: dict[str, TrainConfig] = {
    "plain": _PLAIN,
    "trail": _TRAIL,
    "align": _ALIGN,
    # Each starts from the next larger one: `plus` from `pro`, `core` from `plus`, `lite` from
    # `core`.
    "plus": dataclasses.replace(_ALIGN, model="plus", learning_rate=4e-4),
    "core": dataclasses.replace(_ALIGN, model="core", learning_rate=5e-4),
    "lite": dataclasses.replace(_ALIGN, model="lite", learning_rate=6e-4),
    # The schedule of arXiv 2201.00169: Adam, 1e-4 halved every 200 epochs, 256x256, minibatch 8.
    # An epoch of GOPRO's 2103 training frames is 263 steps. The paper leaves T, the loss and the
    # number of epochs open.
    "paper": TrainConfig(
        model="paper",
        stages=(Stage(steps=600 * 263, clips=8, frames=5, crop=256),),
        learning_rate=1e-4,
        schedule="halving",
        halve_every=200 * 263,
        loss="l1",
        shards=8,
    ),
    # The same network with the recipe of the others: synthesis, Muon, hours instead of weeks.
    "paper-quick": dataclasses.replace(
        _PLAIN,
        model="paper",
        stages=(
            Stage(steps=3_600, clips=6, frames=3, crop=128),
            Stage(steps=900, clips=6, frames=3, crop=192),
        ),
        learning_rate=8e-4,
        shards=6,  # for one, two, three or six processes
        synthesis=_TRAIL.synthesis,
    ),
    # For GPUs: the recipe of `trail` with more and longer clips, and a lower rate, since more
    # blocks change at once: from random weights, training at 8e-4 diverged within 300 steps.
    "pro": TrainConfig(
        model="pro",
        stages=(
            Stage(steps=160_000, clips=8, frames=5, crop=192),
            Stage(steps=40_000, clips=8, frames=5, crop=256),
        ),
        optimizer="muon",
        learning_rate=3e-4,
        warmup=6_000,
        loss="charbonnier_mse",
        clip_norm=0.1,
        shards=8,
        validate_every=5_000,
        checkpoint_every=1_000,
        synthesis=_TRAIL.synthesis,
    ),
}


def preset(name: str) -> TrainConfig:
    """A preset by name.

    Raises:
        ConfigError: no preset has that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset '{name}': must be one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
