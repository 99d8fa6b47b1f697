"""A network that is trained beside others, on the same batches, up to limits of steps and of time.

The learning rate is constant after the warm-up, and the moving average of the weights is measured.
So one run can be measured twice, and no network is favoured by the end of a schedule. Time is
training time only; on a CPU it is processor time, so other work on the machine does not count.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from unsmear.data.clips import Clips
from unsmear.evaluate.comparison import Limit, Run
from unsmear.train.config import TrainConfig
from unsmear.train.losses import build_loss, restore_and_compare, trail_weight_of
from unsmear.train.optimizers import build_optimizers
from unsmear.train.prefetch import BatchSource
from unsmear.train.scoring import Scorer
from unsmear.train.stepper import half_precision


@dataclass
class Learner:
    """One network trained from one seed. `window`: what a `DeblurNetwork` is measured with."""

    label: str
    network: nn.Module
    plan: TrainConfig
    device: torch.device
    window: int | None = None
    step: int = 0
    seconds: float = 0.0
    runs: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.optimizers = build_optimizers(self.network, self.plan)
        self._loss = build_loss(self.plan)
        self._trail_weight = trail_weight_of(self.network, self.plan)
        self._autocast = half_precision(self.plan, self.device)

    @classmethod
    def start(
        cls,
        label: str,
        build: Callable[[], nn.Module],
        plan: TrainConfig,
        device: torch.device,
        window: int | None = None,
    ) -> Learner:
        """Random weights from the plan's seed."""
        torch.manual_seed(plan.seed)
        network = build().to(device)
        for parameter in network.parameters():
            if parameter.dim() == 4:  # 3-D kernels have no channels_last layout
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return cls(label, network, plan, device, window)

    def learn(self, clips: Clips) -> None:
        """Take one training step."""
        began = self._clock()
        rate = self.plan.learning_rate * min((self.step + 1) / max(self.plan.warmup, 1), 1)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        with self._autocast:
            _, loss = restore_and_compare(self.network, clips, self._loss, self._trail_weight)
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip_norm)
        if torch.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
        self.step += 1
        # Step t has weight t^2 in the average (Shamir and Zhang 2013): most of the run counts, as a
        # constant rate needs, and its beginning hardly does.
        share = max(3 / (2 + self.step), 1 - self.plan.ema_decay)
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
            for mean, value in pairs:
                mean.lerp_(value, min(share, 1))
        self.seconds += self._clock() - began

    def record(self, limit: Limit, scorer: Scorer) -> None:
        """Measure the moving average, and keep the result in `runs`."""
        score = scorer.score(self.average, self.window)
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


def train_in_turn(
    learners: Sequence[Learner],
    batches: BatchSource,
    scorer: Scorer,
    steps: int | None,
    seconds: float | None,
    first_step: int = 0,
) -> None:
    """Train all learners in turn on each batch, until each has been measured at both limits.

    Args:
        learners: networks that take part.
        batches: training data.
        scorer: measures them.
        steps: first limit; None: no such limit.
        seconds: second limit, of training time; None: no such limit.
        first_step: first step of the batches.
    """
    reached: dict[Limit, Callable[[Learner], bool]] = {}
    if steps is not None:
        reached["steps"] = lambda learner: learner.step >= steps
    if seconds is not None:
        reached["minutes"] = lambda learner: learner.seconds >= seconds
    step = first_step
    while busy := [learner for learner in learners if len(learner.runs) < len(reached)]:
        clips = batches.draw(step)
        step += 1
        for learner in busy:
            learner.learn(clips)
            measured = {run.limit for run in learner.runs}
            for limit, is_reached in reached.items():
                if limit not in measured and is_reached(learner):
                    learner.record(limit, scorer)
