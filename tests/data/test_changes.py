"""Changes of a preset's synthesis by the user."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from unsmear.data.changes import AS_PRESET, SynthesisChanges
from unsmear.data.synthesis import SynthesisConfig
from unsmear.errors import ConfigError

FIELDS = [field.name for field in dataclasses.fields(SynthesisConfig)]


def test_each_field_of_the_synthesis_can_be_changed_and_is_told():
    assert [field.name for field in dataclasses.fields(SynthesisChanges)] == FIELDS
    told = inspect.getdoc(SynthesisChanges) or ""  # without indentation, which Python 3.13 removes
    assert all(f"\n    {name}: " in told for name in FIELDS)


def test_what_is_not_asked_for_stays():
    config = SynthesisConfig(blur_mean=9.0, coder_share=0.5)
    assert AS_PRESET.applied_to(config) == config
    changed = SynthesisChanges(blur_mean=11, sharp_share=0.0, coarse_share=0.25)
    assert changed.applied_to(config) == dataclasses.replace(
        config, blur_mean=11, sharp_share=0.0, coarse_share=0.25
    )


def test_what_contradicts_the_preset_is_refused():
    with pytest.raises(ConfigError, match=r"blur_mean is 40.*blur_most 32"):
        SynthesisChanges(blur_mean=40).applied_to(SynthesisConfig())
    with pytest.raises(ConfigError, match=r"coarse_share is 0\.5, but no clips are encoded"):
        SynthesisChanges(coarse_share=0.5).applied_to(SynthesisConfig())
