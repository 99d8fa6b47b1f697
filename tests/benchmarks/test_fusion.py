"""benchmarks/fusion.py: fair turns, both limits, equal budgets."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.conftest import SMALL, disk_full, load_script
from unsmear.data.clips import unknown_clips
from unsmear.errors import ConfigError, OutputError
from unsmear.evaluate.comparison import Score
from unsmear.models.fusion import FUSIONS, FusionConfig
from unsmear.train.config import Stage, preset

CPU = torch.device("cpu")
BACKBONE = dataclasses.replace(SMALL, attention_levels=(), neighbours=0)


@pytest.fixture(scope="module")
def bench():
    return load_script("benchmarks/fusion.py")


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
        return unknown_clips((sharp + sharp.roll(1, dims=-1)) / 2, sharp)


class Quick:
    """Measures instantly."""

    def score(self, network, window=None):
        return Score(psnr=1.0, ssim=1.0, fresh=1.0, neighbours=0.5, sequences={})


def test_variants_are_parsed_and_even(bench):
    assert bench.parse_variant("factorised:level=1,spatial_maps=16").spatial_maps == 16
    assert bench.parse_variant("flow:level=1").level == 1
    with pytest.raises(ConfigError, match="magic"):
        bench.parse_variant("magic")
    with pytest.raises(ConfigError, match="colour"):
        bench.parse_variant("flow:colour=1")
    for text, told in (
        ("level=true", "level is True: must be a whole number"),
        ("keep=1.5,level=[1]", r"level is \[1\].*keep is 1.5: must be a whole number"),
        ('focus="x"', "focus is 'x': must be a number"),
        ("backbone={}", "backbone is {}: must be a NetworkConfig"),
        ("fusion=[]", r"fusion is \[\]: there are"),
    ):
        with pytest.raises(ConfigError, match=told):
            bench.parse_variant(f"chosen:{text}")
    total = [bench.count_fusion_macs(bench.parse_variant(name))[0] for name in FUSIONS]
    assert max(total) < 1.07 * min(total)


def test_every_technique_is_measured_once_at_each_limit(bench):
    batches = Blur()
    configs = {name: small(name) for name in ("none", "factorised")}
    learners = bench.train_all(configs, plan(), batches, Quick(), CPU, steps=4, seconds=0.3)
    assert batches.drawn == list(range(max(learner.step for learner in learners)))
    for learner in learners:
        by_limit = {run.limit: run for run in learner.runs}
        assert len(learner.runs) == 2
        assert by_limit["steps"].step == 4
        assert by_limit["minutes"].seconds >= 0.3
        assert learner.step == max(run.step for run in learner.runs)


def test_a_backbone_that_learns_first_is_the_start_of_all(bench):
    batches, starts = Blur(), []

    class Noting(Quick):
        def score(self, network, window=None):
            starts.append(network.backbone.state_dict())
            return super().score(network)

    configs = {name: small(name) for name in ("none", "concat")}
    rests = dataclasses.replace(plan(), learning_rate=1e-12)  # the backbone has its own rate
    bench.train_all(configs, plan(), batches, Noting(), CPU, 1, None, backbone_steps=5)
    assert batches.drawn == [0, 1, 2, 3, 4, 5]
    learned = starts[0]["head.weight"]
    assert learned.abs().max() > 0
    starts.clear()
    bench.train_all(configs, rests, batches, Noting(), CPU, 1, None, backbone_steps=5)
    for key, value in starts[0].items():
        torch.testing.assert_close(value, starts[1][key], rtol=0, atol=1e-9)


def test_networks_are_kept_fresh_and_learned(bench, tmp_path, monkeypatch):
    configs = {name: small(name) for name in ("none", "factorised")}
    bench.train_all(configs, plan(), Blur(), Quick(), CPU, 2, None, kept=tmp_path)
    names = {f"{name}-0-{when}.safetensors" for name in configs for when in ("fresh", "learned")}
    assert {path.name for path in tmp_path.iterdir()} == names
    monkeypatch.setattr("pathlib.Path.write_bytes", disk_full)
    with pytest.raises(OutputError, match=r"cannot write '.*safetensors': No space left"):
        bench.train_all(configs, plan(), Blur(), Quick(), CPU, 1, None, kept=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names
