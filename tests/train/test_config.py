from __future__ import annotations

import dataclasses
import json

import pytest

from tests.train.conftest import CONFIG
from unsmear.errors import ConfigError
from unsmear.models.zoo import ANCESTORS, ZOO, find_entry
from unsmear.train.config import PRESETS, Stage, TrainConfig, preset

STAGE = Stage(steps=10, clips=1, frames=1, crop=32)


def test_every_preset_trains_a_row_of_the_zoo():
    for config in PRESETS.values():
        assert config.model in ZOO | ANCESTORS
        assert json.loads(json.dumps(config.to_json()))["model"] == config.model


def test_paper_preset_is_the_papers_schedule():
    """Adam, 1e-4 halved every 200 epochs, 256x256, minibatch 8; 2103 frames are 263 steps."""
    paper = preset("paper")
    (stage,) = paper.stages
    assert (stage.crop, stage.clips) == (256, 8)
    epoch = 2103 / 8
    assert paper.learning_rate_at(0) == 1e-4
    assert paper.learning_rate_at(int(199 * epoch)) == 1e-4
    assert paper.learning_rate_at(int(201 * epoch)) == 5e-5
    assert paper.learning_rate_at(int(401 * epoch)) == 2.5e-5


def test_cosine_rises_falls_and_ends_at_one_per_cent():
    config = TrainConfig(
        model="lite",
        stages=(dataclasses.replace(STAGE, steps=1000),),
        learning_rate=1e-3,
        warmup=100,
    )
    rates = [config.learning_rate_at(step) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-5)
    assert max(rates) == rates[100] == pytest.approx(1e-3)
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[1000] == pytest.approx(1e-5)
    level = dataclasses.replace(config, schedule="constant")
    assert [level.learning_rate_at(step) for step in (0, 99, 999)] == [rates[0], 1e-3, 1e-3]
    halving = dataclasses.replace(config, schedule="halving", halve_every=500)
    assert [halving.learning_rate_at(step) for step in (0, 99, 500)] == [rates[0], 1e-3, 5e-4]


def test_stages_follow_each_other():
    later = (dataclasses.replace(STAGE, steps=5, crop=64), dataclasses.replace(STAGE, crop=96))
    config = TrainConfig(model="lite", stages=(STAGE, *later))
    assert config.steps == 25
    found = [config.stage_at(step).crop for step in (0, 9, 10, 14, 15, 24, 99)]
    assert found == [32, 32, 64, 64, 96, 96, 96]


@pytest.mark.parametrize("steps", [2, 3, 100, 28_000, 1_000_000])
def test_scaling_keeps_proportions(steps):
    config = preset("lite").scaled_to(steps)
    assert config.steps == steps
    assert all(stage.steps >= 1 for stage in config.stages)
    if steps >= 100:
        whole = preset("lite")
        assert config.stages[0].steps / steps == pytest.approx(
            whole.stages[0].steps / whole.steps, abs=0.02
        )
        assert config.warmup / steps == pytest.approx(whole.warmup / whole.steps, abs=0.01)


@pytest.mark.parametrize(
    ("counts", "steps", "scaled"),
    [((1, 9), 2, [1, 1]), ((1, 3, 8), 3, [1, 1, 1]), ((1, 3, 3, 3), 6, [1, 1, 2, 2])],
)
def test_no_stage_is_scaled_to_nothing(counts, steps, scaled):
    stages = tuple(dataclasses.replace(STAGE, steps=count) for count in counts)
    config = TrainConfig(model="lite", stages=stages).scaled_to(steps)
    assert [stage.steps for stage in config.stages] == scaled


def test_scaling_the_papers_schedule_keeps_when_it_halves():
    paper = preset("paper")
    short = paper.scaled_to(paper.steps // 10)
    for tenth in range(10):
        wanted = paper.learning_rate_at(paper.steps * tenth // 10 + paper.steps // 20)
        assert short.learning_rate_at(short.steps * tenth // 10 + short.steps // 20) == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ()}, "stages"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"schedule": "step"}, "schedule"),
        ({"schedule": "halving"}, "halve_every"),
        ({"loss": "l3"}, "loss"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"shards": 2}, "shards"),
        ({"pair_share": 2}, "pair_share"),
        ({"clip_norm": 0}, "clip_norm"),
        ({"precision": "int8"}, "precision"),
        ({"frequency_weight": -1.0}, "frequency_weight"),
        ({"frequency_weight": float("nan")}, "frequency_weight"),
        ({"trail_weight": -1.0}, "trail_weight"),
        ({"trail_weight": float("inf")}, "trail_weight is inf: must be finite, and 0 or more"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"refine_share": float("nan")}, "refine_share is nan"),
        ({"compile": "yes"}, "compile"),
        ({"log_every": 0}, "log_every"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1 << 63}, "seed"),
        (
            {"refine_share": 0.3},
            r"refine_share is 0\.3: amounts to none of 1 clips; use 0, or at least 1",
        ),
    ],
)
def test_contradictions_raise_when_made(change, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**{"model": "lite", "stages": (STAGE,)} | change)


@pytest.mark.parametrize(("name", "weight"), [("large-1", 0.0), ("", 1.0)])
def test_a_teacher_and_its_weight_go_together(name, weight):
    with pytest.raises(ConfigError, match="each needs the other"):
        dataclasses.replace(CONFIG, teacher=name, teacher_weight=weight)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_of_a_teacher_are_finite_and_positive(weight):
    with pytest.raises(ConfigError, match="teacher_weight is"):
        dataclasses.replace(CONFIG, teacher="large-1", teacher_weight=weight)


def test_unknown_optimizer_is_named():
    with pytest.raises(ConfigError, match="optimizer is 'sgd'"):
        dataclasses.replace(CONFIG, optimizer="sgd")


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ConfigError, match=r"learning_rate.*loss"):
        TrainConfig(model="lite", stages=(STAGE,), learning_rate=0, loss="l3")


def test_crops_grow_to_the_largest_at_the_end():
    for name in ("align", "core", "lite", "plain", "plus", "pro", "trail"):
        crops = [stage.crop for stage in preset(name).stages]
        assert crops == sorted(set(crops))


def test_presets_of_networks_that_follow_trails_can_be_turned():
    """Crops of other sizes would lose their trails, see `unsmear.data.clips.turn_clips`."""
    for config in PRESETS.values():
        if find_entry(config.model).config.trail_levels:
            assert config.trail_weight > 0
            assert all(stage.crop % 8 == 0 for stage in config.stages)


def test_other_batches_in_all_stages():
    """Eight processes can share a batch if its clips can be split into eight."""
    start = preset("pro")
    larger = start.with_batches(48, 7)
    assert [(s.clips, s.frames) for s in larger.stages] == [(48, 7)] * len(start.stages)
    assert [(s.steps, s.crop) for s in larger.stages] == [(s.steps, s.crop) for s in start.stages]
    assert larger.shards == 8
    assert start.with_batches(6, None).shards == 2
    assert start.with_batches(None, None) == start
    assert start.with_batches(None, 3).shards == start.shards
    for batch in ((0, None), (None, 0)):
        with pytest.raises(ConfigError, match="at least 1"):
            start.with_batches(*batch)


def test_impossible_stages_and_presets():
    with pytest.raises(ConfigError, match="crop"):
        Stage(steps=1, clips=1, frames=1, crop=8)
    with pytest.raises(ConfigError, match=", ".join(sorted(PRESETS))):
        preset("huge")
    with pytest.raises(ConfigError, match="at least 2"):
        preset("lite").scaled_to(1)
