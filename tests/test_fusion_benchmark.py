"""benchmarks/fusion.py: fair turns, both limits, even budgets."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import SMALL
from unsmear.data.pairs import PairedSequence
from unsmear.errors import ConfigError
from unsmear.evaluate.comparison import Score
from unsmear.models.fusion import FUSIONS, FusionConfig
from unsmear.train.config import Stage, preset
from unsmear.video.images import integer_from_unit, write_image

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "fusion.py"
CPU = torch.device("cpu")
BACKBONE = dataclasses.replace(SMALL, attention_levels=(), neighbours=0)


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("fusion_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def plan(seed=0):
    stage = Stage(steps=10**9, clips=2, frames=3, crop=16)
    return dataclasses.replace(
        preset("lite"), stages=(stage,), shards=1, warmup=2, learning_rate=1e-3, seed=seed
    )


def small(name):
    return FusionConfig(fusion=name, backbone=BACKBONE, hidden=4, window=3)


class Blur:
    """Batches that can be learned from: sharp noise, and its mean over neighbours."""

    def __init__(self):
        self.drawn = []

    def draw(self, step):
        self.drawn.append(step)
        sharp = torch.rand(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(step))
        return (sharp + sharp.roll(1, dims=-1)) / 2, sharp


class Quick:
    """Measures in no time."""

    device = CPU

    def score(self, network):
        return Score(psnr=1.0, ssim=1.0, fresh=1.0, neighbours=0.5, sequences={})


def test_variants_are_parsed_and_even(bench):
    assert bench.parse_variant("factorised:level=1,spatial_maps=16").spatial_maps == 16
    assert bench.parse_variant("flow:level=1").level == 1
    with pytest.raises(ConfigError, match="magic"):
        bench.parse_variant("magic")
    with pytest.raises(ConfigError, match="colour"):
        bench.parse_variant("flow:colour=1")
    total = [bench.count_fusion_macs(bench.parse_variant(name))[0] for name in FUSIONS]
    assert max(total) < 1.07 * min(total)


def test_every_technique_is_measured_once_at_each_limit(bench):
    batches = Blur()
    configs = {name: small(name) for name in ("none", "factorised")}
    learners = bench.train_all(configs, plan(), batches, Quick(), steps=4, seconds=0.3)
    assert batches.drawn == list(range(max(learner.step for learner in learners)))
    for learner in learners:
        by_limit = {run.limit: run for run in learner.runs}
        assert len(learner.runs) == 2
        assert by_limit["steps"].step == 4
        assert by_limit["minutes"].seconds >= 0.3
        assert learner.step == max(run.step for run in learner.runs)


def test_gains_are_those_of_blurred_frames_alone(bench):
    sharp = torch.rand(1, 2, 3, 8, 8)
    error = torch.tensor([0.1, 0.001])[:, None, None, None]  # 20 dB and 60 dB
    (gain,) = bench._gains(sharp * 0 + 0.5 + error / 10, 0.5 + error + 0 * sharp, 0.5 + 0 * sharp)
    assert gain == pytest.approx(20, abs=1e-3)


def test_a_backbone_that_learns_first_is_the_start_of_all(bench):
    batches, starts = Blur(), []

    class Noting(Quick):
        def score(self, network):
            starts.append(network.backbone.state_dict())
            return super().score(network)

    configs = {name: small(name) for name in ("none", "concat")}
    rests = dataclasses.replace(plan(), learning_rate=1e-12)  # the backbone has its own rate
    bench.train_all(configs, plan(), batches, Noting(), 1, None, backbone_steps=5)
    assert batches.drawn == [0, 1, 2, 3, 4, 5]
    learned = starts[0]["head.weight"]
    assert learned.abs().max() > 0
    starts.clear()
    bench.train_all(configs, rests, batches, Noting(), 1, None, backbone_steps=5)
    for key, value in starts[0].items():
        torch.testing.assert_close(value, starts[1][key], rtol=0, atol=1e-9)


def test_a_learner_learns_and_the_average_follows(bench):
    learner = bench.Learner.start("conv3d", small("conv3d"), plan(), CPU)
    blurry, sharp = Blur().draw(0)
    before = (blurry - sharp).square().mean()
    for _ in range(30):
        learner.learn(blurry, sharp)
    assert (learner.average(blurry) - sharp).square().mean() < 0.9 * before
    assert learner.step == 30
    assert learner.seconds > 0


def test_scores_count_frames_and_gains(bench, tmp_path):
    sides = []
    for name, value in (("blur", 0.4), ("sharp", 0.5)):
        (tmp_path / name).mkdir()
        for index in range(3):
            frame = torch.full((3, 16, 16), value + 0.01 * index * (name == "blur"))
            write_image(tmp_path / name / f"{index}.png", integer_from_unit(frame))
        sides.append(tuple(sorted((tmp_path / name).iterdir())))
    sequences = [PairedSequence("a", *sides)]
    sharp = torch.rand(1, 3, 3, 16, 16)
    measures = bench.Measures(sequences, [(sharp * 0.7, sharp), (sharp * 0.999, sharp)], 2, CPU)
    blurry = measures.score(None)
    assert blurry.fresh == 0
    assert blurry.psnr == pytest.approx(20.9, abs=0.5)
    # Untrained networks return their input.
    untrained = measures.score(bench.FusionNetwork(small("flow")))
    assert untrained.psnr == pytest.approx(blurry.psnr, abs=1e-4)
    assert untrained.ssim == pytest.approx(blurry.ssim, abs=1e-6)
    assert untrained.fresh == pytest.approx(0, abs=1e-4)
    for name, matter in (("none", False), ("concat", True)):
        network = bench.FusionNetwork(small(name))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        assert (abs(measures.score(network).neighbours) > 1e-3) == matter


def test_the_note_tells_a_start_from_a_full_run(bench):
    learner = bench.Learner.start("none", small("none"), plan(), CPU)
    learner.step = 150
    assert "reduced run" in bench.note_of([learner], CPU)
    learner.step = 150_000
    assert "full run" in bench.note_of([learner], CPU)


def test_networks_are_kept_fresh_and_learned(bench, tmp_path):
    configs = {name: small(name) for name in ("none", "factorised")}
    bench.train_all(configs, plan(), Blur(), Quick(), 2, None, kept=tmp_path)
    names = {f"{name}-0-{when}.safetensors" for name in configs for when in ("fresh", "learned")}
    assert {path.name for path in tmp_path.iterdir()} == names
