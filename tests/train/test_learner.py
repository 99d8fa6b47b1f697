"""Steps, the average of the weights, and fair turns up to both limits."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch

from tests.conftest import SMALL
from unsmear.data.clips import unknown_clips
from unsmear.evaluate.comparison import Score
from unsmear.models.baseline import RecurrentConfig, RecurrentNetwork
from unsmear.models.fusion import FusionConfig, FusionNetwork
from unsmear.models.network import DeblurNetwork
from unsmear.train.config import Stage, preset
from unsmear.train.learner import Learner, train_in_turn

CPU = torch.device("cpu")
PLAN = dataclasses.replace(
    preset("lite"),
    stages=(Stage(steps=10**9, clips=2, frames=3, crop=16),),
    shards=1,
    warmup=2,
    learning_rate=1e-3,
)
TINY = RecurrentConfig(width=4, blocks=1)
BUILDS = {
    "paper": partial(DeblurNetwork, SMALL),
    "recurrent": partial(RecurrentNetwork, TINY),
}


def batch(step):
    """A batch that can be learned from: sharp noise, and its mean over neighbours."""
    sharp = torch.rand(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(step))
    return (sharp + sharp.roll(1, dims=-1)) / 2, sharp


class Batches:
    def __init__(self):
        self.drawn = []

    def draw(self, step, shards=None):
        self.drawn.append(step)
        return unknown_clips(*batch(step))


class Quick:
    """Measures instantly."""

    def score(self, network, window=None):
        return Score(psnr=1.0, ssim=1.0, fresh=1.0, neighbours=0.5, sequences={})


def conv3d():
    backbone = dataclasses.replace(SMALL, attention_levels=(), neighbours=0)
    return FusionNetwork(FusionConfig(fusion="conv3d", backbone=backbone, hidden=4, window=3))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("build", [conv3d, *BUILDS.values()])
def test_a_learner_learns_and_the_average_follows(build, precision):
    plan = dataclasses.replace(PLAN, precision=precision, learning_rate=4e-3)
    learner = Learner.start("one", build, plan, CPU)
    blurry, sharp = batch(0)
    before = (blurry - sharp).square().mean()
    for _ in range(10):
        learner.learn(unknown_clips(blurry, sharp))
    assert (learner.average(blurry) - sharp).square().mean() < 0.98 * before
    assert learner.step == 10
    assert learner.seconds > 0


def test_the_rate_rises_and_a_gradient_that_is_not_finite_moves_nothing():
    learner = Learner.start("one", BUILDS["recurrent"], PLAN, CPU)
    rates = []
    for _ in range(3):
        learner.learn(unknown_clips(*batch(0)))
        rates += [group["lr"] for one in learner.optimizers for group in one.param_groups]
    assert sorted({round(rate / PLAN.learning_rate, 6) for rate in rates}) == [0.5, 1.0]
    before = [value.clone() for value in learner.network.state_dict().values()]
    blurry, sharp = batch(0)
    learner.learn(unknown_clips(blurry, sharp / 0))
    assert all(map(torch.equal, before, learner.network.state_dict().values()))


def test_learning_is_in_the_precision_of_the_plan():
    def after_a_step(precision):
        plan = dataclasses.replace(PLAN, precision=precision)
        learner = Learner.start("one", BUILDS["recurrent"], plan, CPU)
        learner.learn(unknown_clips(*batch(0)))
        return torch.cat([value.flatten() for value in learner.network.state_dict().values()])

    exact, half = after_a_step("float32"), after_a_step("bfloat16")
    assert torch.equal(exact, after_a_step("auto"))
    assert not torch.equal(exact, half)


def test_all_learn_from_the_same_batches_and_are_measured_once_at_each_limit():
    learners = [Learner.start(label, build, PLAN, CPU) for label, build in BUILDS.items()]
    batches = Batches()
    train_in_turn(learners, batches, Quick(), steps=4, seconds=0.2, first_step=7)
    assert batches.drawn == list(range(7, 7 + max(learner.step for learner in learners)))
    for learner in learners:
        by_limit = {run.limit: run for run in learner.runs}
        assert len(learner.runs) == 2
        assert by_limit["steps"].step == 4
        assert by_limit["minutes"].seconds >= 0.2
