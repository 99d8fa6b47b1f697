"""benchmarks/ablation.py: variants and windows as asked for, equal budgets."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch

from tests.conftest import ALIGNED, SMALL, awake, load_script, one_scene
from unsmear.data.clips import unknown_clips
from unsmear.errors import ConfigError
from unsmear.models.count import count_macs
from unsmear.models.flow import clip_motion
from unsmear.models.network import pad_to_multiple
from unsmear.models.zoo import find_entry
from unsmear.restoration.stream import restore_stream
from unsmear.train.config import preset
from unsmear.train.learner import Learner


@pytest.fixture(scope="module")
def bench():
    return load_script("benchmarks/ablation.py")


def test_variants_are_parsed(bench):
    base = bench.Variant(SMALL, 5)
    one = bench.parse_variant("neighbours=0,widths=[4,6,8],window=3", base)
    assert (one.config.neighbours, one.config.widths, one.window) == (0, (4, 6, 8), 3)
    assert bench.parse_variant('block="dense"', base).config.block == "dense"
    for text in ("colour=1", "neighbours=x", "window=2", "window=3.5", "attention_levels=[7]"):
        with pytest.raises(ConfigError):
            bench.parse_variant(text, base)
    for text in (
        "window=true", 'window="3"', "window=null", "neighbours=1.5", 'spatial_maps="8"',
        "stem=true", "stem=2.0", "temporal_maps=[4]", "widths=[4,6,8.0]", "widths=8",
        'trail_levels="01"', "decoder_blocks=[1,[1],1]",
    ):  # fmt: skip
        name = text.partition("=")[0]
        with pytest.raises(ConfigError, match=f"{name} is .*: must be a .*whole number"):
            bench.parse_variant(text, base)


@pytest.mark.parametrize(
    "change",
    ["neighbours=0", 'block="dense"', "spatial_maps=64,temporal_maps=16", "widths=[32,64,128]",
     "attention_levels=[0,1,2]", "encoder_blocks=[1,1,9]"],
)  # fmt: skip
def test_budgets_are_evened_out(bench, change):
    plain = find_entry("plain").config
    budget = count_macs(plain)
    changed = bench.parse_variant(change, bench.Variant(plain, 5)).config
    even = bench.balanced(changed, budget)
    blocks = even.encoder_blocks[-1] + even.decoder_blocks[-1]
    one_block = count_macs(plain) * 0.08  # at most a block of the coarsest level
    assert abs(count_macs(even) - budget) < abs(count_macs(changed) - budget) + 1
    assert abs(count_macs(even) - budget) <= one_block or blocks == 0


def test_a_network_of_the_budget_stays_as_it_is(bench):
    plain = find_entry("plain").config
    assert bench.balanced(plain, count_macs(plain)) == plain


@pytest.mark.parametrize("window", [1, 3, 9])
@pytest.mark.parametrize("config", [SMALL, ALIGNED], ids=["plain", "aligned"])
def test_a_window_is_that_of_the_stream(bench, config, window):
    wrapped = bench.WindowedNetwork(bench.Variant(config, window)).eval()
    wrapped.network.load_state_dict(awake(config).state_dict())
    clip = one_scene(6, 18, 26)
    with torch.no_grad():
        expected = torch.stack(list(restore_stream(wrapped.network, clip, window)))
        torch.testing.assert_close(wrapped(clip[None])[0].clamp(0, 1), expected, rtol=0, atol=5e-5)


def test_trails_are_those_of_the_network(bench):
    """With a window over the whole clip, as in the network itself."""
    wrapped = bench.WindowedNetwork(bench.Variant(ALIGNED, 9)).eval()
    wrapped.network.load_state_dict(awake(ALIGNED).state_dict())
    assert wrapped.config == ALIGNED
    clip = torch.rand(2, 3, 3, 18, 26)
    with torch.no_grad():
        found, wanted = (one(clip, with_trails=True) for one in (wrapped, wrapped.network))
        known = wrapped(clip, with_trails=True, motion=clip_motion(pad_to_multiple(clip, 8)))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=5e-5)
    torch.testing.assert_close(known, found)


def test_variants_that_follow_trails_can_learn(bench):
    """From a batch with its motion, as `Batches` draws it."""
    plan = dataclasses.replace(preset("plain"), shards=1)
    build = partial(bench.WindowedNetwork, bench.Variant(ALIGNED, 3))
    learner = Learner.start("one", build, plan, torch.device("cpu"))
    blurry = torch.rand(1, 3, 3, 32, 32)
    clips = unknown_clips(blurry, blurry / 2)._replace(motion=clip_motion(blurry))
    before = learner.network.network.head.weight.clone()
    learner.learn(clips)
    assert not torch.equal(learner.network.network.head.weight, before)
