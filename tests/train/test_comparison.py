"""Equal budgets: fair turns, both limits, one record."""

from __future__ import annotations

import argparse
import dataclasses
from functools import partial

import pytest
import torch

from tests.conftest import SMALL, picture
from unsmear.data.clips import unknown_clips
from unsmear.evaluate.comparison import ComparisonRecord, Score, Words, comparison_lines
from unsmear.evaluate.records import record_from_json
from unsmear.models.baseline import RecurrentConfig, RecurrentNetwork
from unsmear.models.fusion import FusionConfig, FusionNetwork
from unsmear.models.network import DeblurNetwork
from unsmear.train import comparison
from unsmear.train.comparison import Learner, add_arguments, compare, measured_row, note_of
from unsmear.train.config import Stage, preset
from unsmear.video.images import write_image

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
    plan = dataclasses.replace(PLAN, precision=precision)
    learner = Learner.start("one", build, plan, CPU)
    blurry, sharp = batch(0)
    before = (blurry - sharp).square().mean()
    for _ in range(30):
        learner.learn(unknown_clips(blurry, sharp))
    assert (learner.average(blurry) - sharp).square().mean() < 0.98 * before
    assert learner.step == 30
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
    comparison.train_in_turn(learners, batches, Quick(), steps=4, seconds=0.2, first_step=7)
    assert batches.drawn == list(range(7, 7 + max(learner.step for learner in learners)))
    for learner in learners:
        by_limit = {run.limit: run for run in learner.runs}
        assert len(learner.runs) == 2
        assert by_limit["steps"].step == 4
        assert by_limit["minutes"].seconds >= 0.2


def test_the_note_tells_a_start_from_a_full_run():
    learner = Learner.start("one", BUILDS["recurrent"], PLAN, CPU)
    learner.step = 150
    assert "reduced run" in note_of([learner], CPU)
    learner.step = 150_000
    assert "full run" in note_of([learner], CPU)


class Inline:
    """A process pool that runs in this process."""

    def __init__(self, *arguments, **options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exit_info):
        pass

    def apply(self, work, arguments):
        return work(*arguments)


def test_a_comparison_is_made_and_recorded(tmp_path, monkeypatch):
    for folder in ("photos", "val/a/blur", "val/a/sharp"):
        (tmp_path / folder).mkdir(parents=True)
        for index in range(2):
            image = torch.from_numpy(picture(48, 64, index).transpose(2, 0, 1).copy())
            write_image(tmp_path / folder / f"{index}.png", image // (1 + ("blur" in folder)))
    monkeypatch.setattr(
        comparison.multiprocessing, "get_context", lambda _: argparse.Namespace(Pool=Inline)
    )
    monkeypatch.setattr("sys.argv", [
        "baseline.py", "--data", str(tmp_path / "photos"), "--val", str(tmp_path / "val"),
        "--steps", "2", "--minutes", "0.001", "--seeds", "0", "1", "--crop", "32", "--clips", "1",
        "--frames", "2", "--fresh", "12", "--threads", "1", "--device", "cpu",
        "--json", str(tmp_path / "record.json"),
    ])  # fmt: skip
    parser = argparse.ArgumentParser()
    parser.set_defaults(title="a title")
    arguments = add_arguments(parser)
    assert arguments.seconds == pytest.approx(0.06)
    drawn = []

    def train_from(plan, batches, scorer, device):
        drawn.extend((batches.draw(0).blurry, scorer.fresh[0][0]))
        learners = [
            Learner.start(label, build, plan, device, window=3) for label, build in BUILDS.items()
        ]
        comparison.train_in_turn(learners, batches, scorer, arguments.steps, arguments.seconds)
        return learners

    words = Words(kind="network", base="recurrent", base_is="the recurrent one", ours="paper")
    row = lambda label, peak, all_: measured_row(  # noqa: E731
        label, all_, macs=5, own_macs=0, blocks=0, peak=peak
    )
    record = compare(arguments, BUILDS, train_from, row, {"of note": "nothing"}, words)
    assert record_from_json(ComparisonRecord, (tmp_path / "record.json").read_text()) == record
    assert [row.label for row in record.rows] == ["paper", "recurrent"]
    assert all(row.peak_bytes >= 0 and len(row.runs) == 4 for row in record.rows)
    assert [run.seed for run in record.rows[0].runs] == [0, 0, 1, 1]
    first, fresh, second, again = drawn  # what is measured on is not learned from
    assert torch.equal(fresh, again)
    for one, other in ((first, second), (first, fresh), (second, fresh)):
        assert not torch.equal(one, other)
    text = "\n".join(comparison_lines(record))
    assert "| network | PSNR" in text
    assert "against recurrent" in text
    assert "own GMAC" not in text
    assert "`paper` is" in text
    assert "seeds 0 1; of note nothing; batch 1 clips of 2 frames, 32x32" in text
