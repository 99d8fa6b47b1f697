"""Settings with which a run goes on, and those with which it does not."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.conftest import TWO_LEVELS
from tests.train.conftest import CONFIG, CPU, run
from unsmear.errors import ModelError
from unsmear.models.checkpoint import load_weights
from unsmear.models.network import DeblurNetwork
from unsmear.train.config import TrainConfig
from unsmear.train.state import STATE_FILE, WEIGHTS_FILE, TrainState, check_resumable

pytestmark = pytest.mark.usefixtures("tiny")


def test_other_settings_do_not_resume_silently(data, tmp_path):
    run(CONFIG, data, tmp_path / "run", stop_after=2)
    other = dataclasses.replace(CONFIG, learning_rate=1e-3)
    with pytest.raises(ModelError, match=r"settings \(learning_rate was 0\.002, now 0\.001\)"):
        run(other, data, tmp_path / "run")
    reporting = dataclasses.replace(CONFIG, log_every=1)
    assert run(reporting, data, tmp_path / "run")[-1].step == 9


def test_each_setting_that_decides_the_result_is_asked_for_again(tmp_path):
    """Settings that only affect reports, or how the same is computed, are not."""
    config = dataclasses.replace(CONFIG, teacher="one", teacher_weight=1.0, halve_every=1)
    state = tmp_path / STATE_FILE
    taken = TrainState.start(partial(DeblurNetwork, TWO_LEVELS), config, CPU)
    taken.step = config.steps
    taken.save(state, config)
    (first, last) = config.stages
    changes = {
        "model": "tracer", "optimizer": "muon", "learning_rate": 1e-3, "schedule": "halving",
        "warmup": 1, "loss": "l1", "frequency_weight": 0.1,
        "trail_weight": 0.1, "teacher": "other", "teacher_weight": 0.5, "clip_norm": 0.5,
        "ema_decay": 0.9, "pair_share": 0.25, "refine_share": 1.0, "precision": "bfloat16",
        "seed": 1, "synthesis": dataclasses.replace(config.synthesis, sharp_share=0.3),
        "stages": (first, dataclasses.replace(last, crop=64)),
    }  # fmt: skip
    free = {"log_every": 1, "validate_every": 1, "checkpoint_every": 1, "compile": "off",
            "halve_every": 2}  # of a cosine  # fmt: skip
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    assert {*changes, *free, "shards"} == fields
    for name, value in changes.items():
        with pytest.raises(ModelError, match="other settings"):
            check_resumable(state, dataclasses.replace(config, **{name: value}))
    check_resumable(state, dataclasses.replace(config, **free))
    wide = dataclasses.replace(config, stages=(dataclasses.replace(first, clips=4),))
    TrainState.start(partial(DeblurNetwork, TWO_LEVELS), wide, CPU).save(state, wide)
    with pytest.raises(ModelError, match=r"other settings \(shards was 1, now 2\)"):
        check_resumable(state, dataclasses.replace(wide, shards=2))


def test_a_longer_run_goes_on_where_its_steps_so_far_stay_the_same(data, tmp_path):
    """As if it had been planned so. A cosine depends on its length from the end of the warm-up."""
    (stage, _) = CONFIG.stages
    constant = dataclasses.replace(CONFIG, schedule="constant", warmup=2, stages=(stage,))
    more = (stage, dataclasses.replace(stage, steps=3))
    longer = dataclasses.replace(constant, stages=more)
    run(constant, data, tmp_path / "run")
    run(longer, data, tmp_path / "run")
    run(longer, data, tmp_path / "whole")
    one, two = (load_file(tmp_path / name / STATE_FILE) for name in ("run", "whole"))
    assert {key for key in one if not torch.equal(one[key], two[key])} == set()
    assert load_weights(tmp_path / "run" / WEIGHTS_FILE)[1].config["stages"][1]["steps"] == 3

    state = tmp_path / STATE_FILE
    halving = dataclasses.replace(constant, schedule="halving", halve_every=4)
    cosine = dataclasses.replace(constant, schedule="cosine")
    for config, step, others, allowed in (
        (halving, 6, {"stages": more}, True),
        (halving, 6, {"halve_every": 5}, False),
        (halving, 4, {"halve_every": 5}, True),
        (constant, 6, {"warmup": 1}, False),
        (constant, 3, {"stages": (dataclasses.replace(stage, steps=2),)}, False),
        (constant, 3, {"stages": (dataclasses.replace(stage, steps=3),)}, True),
        (constant, 6, {"stages": more, "seed": 1}, False),
        (cosine, 3, {"stages": more}, True),
        (cosine, 4, {"stages": more}, False),
    ):
        start = TrainState.start(partial(DeblurNetwork, TWO_LEVELS), config, CPU)
        start.step = step
        start.save(state, config)
        changed = dataclasses.replace(config, **others)
        if allowed:
            check_resumable(state, changed)
            continue
        with pytest.raises(ModelError, match=rf"{step} steps would have been others"):
            check_resumable(state, changed)


def test_a_state_older_than_a_setting_goes_on_with_its_default(data, tmp_path):
    out = tmp_path / "run"
    run(CONFIG, data, out, stop_after=2)
    with safe_open(out / STATE_FILE, framework="pt") as file:
        metadata = file.metadata()
    settings = json.loads(metadata["config"])
    del settings["frequency_weight"], settings["synthesis"]["night_share"]
    for name in ("data", "validation", "validated", "best"):
        del metadata[name]
    metadata["config"] = json.dumps(settings)
    save_file(load_file(out / STATE_FILE), out / STATE_FILE, metadata)
    weighted = dataclasses.replace(CONFIG, frequency_weight=0.1)
    with pytest.raises(ModelError, match=r"settings \(frequency_weight was 0\.0, now 0\.1\)"):
        run(weighted, data, out)
    nights = dataclasses.replace(CONFIG.synthesis, night_share=0.1)
    with pytest.raises(ModelError, match=r"settings \(night_share was 0\.0, now 0\.1\)"):
        run(dataclasses.replace(CONFIG, synthesis=nights), data, out)
    assert run(CONFIG, data, out)[-1].step == 9
