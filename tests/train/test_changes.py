"""Changes of a preset's optimiser, schedule and reports by the user."""

from __future__ import annotations

import dataclasses
import inspect
import math

import pytest

from unsmear.cli import main
from unsmear.errors import UnsmearError
from unsmear.train.changes import AS_SCHEDULED, ScheduleChanges
from unsmear.train.config import PRESETS, TrainConfig

FIELDS = [field.name for field in dataclasses.fields(ScheduleChanges)]


def test_each_change_is_one_of_a_setting_and_is_told():
    assert set(FIELDS) < {field.name for field in dataclasses.fields(TrainConfig)}
    told = inspect.getdoc(ScheduleChanges) or ""  # without indentation, which Python 3.13 removes
    assert all(f"\n    {name}: " in told for name in FIELDS)


def test_what_is_not_asked_for_stays():
    config = PRESETS["lite"]
    assert AS_SCHEDULED.applied_to(config) == config
    changed = ScheduleChanges(optimizer="adam", warmup=0, clip_norm=math.inf, shards=1)
    assert changed.applied_to(config) == dataclasses.replace(
        config, optimizer="adam", warmup=0, clip_norm=math.inf, shards=1
    )


def test_a_given_number_of_steps_is_not_scaled():
    shorter = PRESETS["paper"].scaled_to(600)
    assert ScheduleChanges(halve_every=50).applied_to(shorter).halve_every == 50


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "halving"}, "halve_every is 0: 'halving' needs at least 1"),
        ({"halve_every": 9}, "halve_every is 9, but the schedule is 'cosine': add --schedule"),
        ({"halve_every": 9, "ema_decay": 1.0}, r"\(1\) halve_every is 9, .*\(2\) .*ema_decay is 1"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0: must be at least 0 and below 1"),
        ({"clip_norm": math.nan, "warmup": -1}, "clip_norm is nan: .*; warmup is -1: must be 0"),
        ({"shards": 3}, "shards is 3: must divide the clips"),
        ({"log_every": 0, "checkpoint_every": -1}, "log_every is 0: .*; checkpoint_every is -1"),
    ],
)
def test_what_contradicts_the_preset_is_refused(changes, message):
    with pytest.raises(UnsmearError, match=message):
        ScheduleChanges(**changes).applied_to(PRESETS["lite"])


def test_the_command_refuses_half_a_step(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--data", str(tmp_path), "--warmup", "1.5"])
    assert "'1.5' is not a whole number" in " ".join(capsys.readouterr().err.split())
