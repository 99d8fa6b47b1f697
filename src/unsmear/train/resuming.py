"""Whether a run may go on with given settings: with those, every step that it has taken would have
been the same.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from unsmear.data.synthesis import SynthesisConfig
from unsmear.errors import ConfigError
from unsmear.train.config import Stage, TrainConfig

# Settings that only affect reports, or how the same result is computed.
_FREE = {"log_every", "validate_every", "checkpoint_every", "compile"}
# Settings that decide a step only through its batch and its learning rate.
_SCHEDULE = {"stages", "schedule", "warmup", "halve_every"}


def other_settings(saved: Mapping[str, Any], config: TrainConfig, step: int) -> list[str]:
    """Differences between the settings of a run and those that it is to go on with, in the words of
    the command line; empty if it may.

    Settings that only affect reports, or how the same result is computed, may differ. A setting
    that is newer than the run had its default. The schedule may differ in what is still to come: a
    run can be made longer where its learning rates so far do not depend on its length.

    Args:
        saved: `TrainConfig.to_json` of the run.
        config: that it is to go on with.
        step: steps that it has taken.
    """
    before = _plain_defaults() | dict(saved)
    before["synthesis"] = dataclasses.asdict(SynthesisConfig()) | before.get("synthesis", {})
    now = json.loads(json.dumps(config.to_json()))
    other = [key for key in now if key not in _FREE and before.get(key) != now[key]]
    if _SCHEDULE.issuperset(other) and (not other or _same_so_far(before, config, step)):
        return []
    return [line for key in other for line in _differences(key, before, now)]


def _same_so_far(before: Mapping[str, Any], config: TrainConfig, step: int) -> bool:
    """Whether the steps that were taken had the batches and learning rates that they would have."""
    if step > config.steps:
        return False
    try:
        stages = tuple(Stage(**stage) for stage in before["stages"])
        schedule = {name: before[name] for name in _SCHEDULE} | {"stages": stages}
        past = dataclasses.replace(config, **schedule)
    except (ConfigError, TypeError):  # written by another version
        return False
    return all(_of_step(past, taken) == _of_step(config, taken) for taken in range(step))


def _of_step(config: TrainConfig, step: int) -> tuple[int, int, int, float]:
    """What the schedule decides of a step."""
    stage = config.stage_at(step)
    return stage.clips, stage.frames, stage.crop, config.learning_rate_at(step)


def _differences(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences in a setting, in the words of the command line."""
    was: Any = before.get(key)
    given: Any = now[key]
    if key == "stages":
        told = (" + ".join(_in_words(stage) for stage in stages) for stages in (was, given))
        return ["schedule was {}, now {}".format(*told)]
    if key == "synthesis":
        parts = {name: (was.get(name), value) for name, value in given.items()}
        return [f"{name} was {a}, now {b}" for name, (a, b) in parts.items() if a != b]
    if key == "teacher":
        return [f"teacher was {was or 'none'}, now {given or 'none'}"]
    return [f"{key} was {was}, now {given}"]


def _in_words(stage: Mapping[str, int]) -> str:
    return "{steps} steps of {clips} clips, {frames} frames, crop {crop}".format(**stage)


def _plain_defaults() -> dict[str, Any]:
    """Defaults of the settings that have plain values."""
    return {
        field.name: field.default
        for field in dataclasses.fields(TrainConfig)
        if field.default is not dataclasses.MISSING
    }
