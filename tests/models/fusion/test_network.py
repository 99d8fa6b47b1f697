"""The shared backbone, and the properties of every row of the table."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.conftest import SMALL
from unsmear.errors import ConfigError
from unsmear.models.fusion import (
    FUSIONS,
    FusionConfig,
    FusionNetwork,
    balanced,
    count_fusion_macs,
)
from unsmear.models.network import DeblurNetwork
from unsmear.train.config import preset
from unsmear.train.optimizers import build_optimizers

BACKBONE = dataclasses.replace(SMALL, attention_levels=(), neighbours=0)
NEIGHBOURLY = [name for name in FUSIONS if name != "none"]


def config_of(name, **changes):
    return FusionConfig(fusion=name, backbone=BACKBONE, hidden=4, **changes)


def awake(config):
    network = FusionNetwork(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("name", list(FUSIONS))
@pytest.mark.parametrize("window", [3, 5])
def test_every_row_keeps_shapes_repeats_itself_and_learns(name, window):
    network = awake(config_of(name, window=window, extra_blocks=1))
    clip = torch.rand(2, 4, 3, 20, 28)
    restored = network(clip)
    assert restored.shape == clip.shape
    assert torch.equal(network(clip), restored)
    restored.square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", list(FUSIONS))
@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_row_stands_at_every_level(name, level):
    clip = torch.rand(1, 3, 3, 16, 16)
    assert awake(config_of(name, level=level))(clip).shape == clip.shape


@pytest.mark.parametrize("name", list(FUSIONS))
def test_untrained_networks_return_their_input(name):
    clip = torch.rand(1, 3, 3, 16, 16)
    torch.testing.assert_close(FusionNetwork(config_of(name))(clip), clip)


def frames_that_matter(name, *, start=False):
    network = FusionNetwork(config_of(name)) if start else awake(config_of(name))
    features = torch.rand(1, 5, 16, 8, 8, requires_grad=True)
    network.fuse(features).square().sum().backward()
    return [bool(features.grad[0, t].any()) for t in range(5)]


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("name", NEIGHBOURLY)
def test_gradients_reach_the_neighbours_from_the_first_step(name, start):
    causal = name == "recurrent"
    assert frames_that_matter(name, start=start) == [True, True, True, not causal, not causal]


def test_without_fusion_no_neighbour_matters():
    assert frames_that_matter("none") == [False, False, True, False, False]


@pytest.mark.parametrize("name", list(FUSIONS))
def test_one_frame_restored_alone_is_the_one_of_the_clip(name):
    network = awake(config_of(name))
    clip = torch.rand(2, 4, 3, 16, 24)
    whole, features = network(clip), network.encode(clip)
    for frame in range(4):
        alone = network.restore(clip, features, frame)
        torch.testing.assert_close(alone, whole[:, frame], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(FUSIONS))
def test_frames_beyond_the_window_do_not_matter(name):
    network = awake(config_of(name, window=3))
    clip = torch.rand(1, 4, 3, 16, 16)
    other = clip.clone()
    other[:, 3] = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(network(clip)[:, :2], network(other)[:, :2])
    assert not torch.allclose(network(clip)[:, 3], network(other)[:, 3])


def test_without_fusion_it_is_the_plain_network():
    network = awake(config_of("none"))
    plain = DeblurNetwork(BACKBONE)
    plain.load_state_dict(network.backbone.state_dict())
    clip = torch.rand(1, 3, 3, 16, 16)
    torch.testing.assert_close(network(clip), plain(clip))


def test_counts_agree_with_hand_calculation():
    config = config_of("concat", window=3, extra_blocks=1)
    whole, fusion = count_fusion_macs(config, 64, 32)
    pixels = (64 // 8) * (32 // 8)
    assert fusion == pixels * (3 * 16 * 16 * 9 + 2 * 16 * 16 * 9)
    without, nothing = count_fusion_macs(config_of("none", window=3), 64, 32)
    assert nothing == 0
    assert whole == without + fusion


@pytest.mark.parametrize("name", list(FUSIONS))
def test_balanced_budgets_are_within_half_a_block(name):
    config = balanced(FusionConfig(fusion=name, hidden=16), 185_000_000)
    block = 2 * 48 * 48 * 9 * 32 * 32
    assert abs(count_fusion_macs(config)[1] - 185_000_000) <= block / 2


def test_what_is_above_the_budget_gets_no_blocks():
    assert balanced(config_of("concat", extra_blocks=3), 1).extra_blocks == 0


@pytest.mark.parametrize("name", list(FUSIONS))
def test_muon_takes_hidden_convolutions_and_no_others(name):
    network = FusionNetwork(config_of(name))
    muon, adam = build_optimizers(network, preset("lite"))
    hidden = {id(p) for group in muon.param_groups for p in group["params"]}
    rest = {id(p) for group in adam.param_groups for p in group["params"]}
    assert len(hidden) + len(rest) == len(list(network.parameters()))
    for key, parameter in network.named_parameters():
        picture = key.startswith(("backbone.stem.", "backbone.head."))
        assert (id(parameter) in hidden) == (parameter.dim() >= 4 and not picture), key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fusion": "magic"}, "'magic': there are none, concat"),
        ({"backbone": SMALL}, "no attention_levels and no neighbours"),
        ({"window": 4}, "window is 4"),
        ({"level": 3}, "level is 3: from 0 to 2"),
        ({"current": 5}, "current is 5: from 0 to 4"),
        ({"focus": 0.0}, "focus is 0.0: above 0"),
        ({"keep": 0}, "keep is 0: at least 1"),
        ({"hidden": 0}, "at least 1"),
        ({"extra_blocks": -1}, "0 or more"),
    ],
)
def test_contradictory_configs_raise_when_made(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(config_of("none"), **change)


def test_all_techniques_start_from_the_same_backbone():
    states = []
    for name in FUSIONS:
        torch.manual_seed(5)
        states.append(FusionNetwork(config_of(name, extra_blocks=1)).backbone.state_dict())
    for state in states[1:]:
        assert all(torch.equal(state[key], states[0][key]) for key in states[0])


@pytest.mark.parametrize("name", ["concat", "conv3d", "factorised", "chosen", "shifts"])
@torch.no_grad()
def test_the_current_frame_may_be_any_of_its_window(name):
    for current, seen in ((0, {2, 3, 4}), (2, {0, 1, 2}), (None, {1, 2, 3})):
        network = awake(config_of(name, window=3, current=current))
        clip = torch.rand(1, 5, 3, 16, 16)
        before = network(clip)[:, 2]
        for frame in range(5):
            other = clip.clone()
            other[:, frame] = torch.rand(1, 3, 16, 16)
            changed = not torch.allclose(network(other)[:, 2], before, atol=1e-7)
            assert changed == (frame in seen)


@pytest.mark.parametrize(("window", "keep", "kept"), [(3, None, 2), (5, None, 3), (9, 4, 4)])
def test_how_many_frames_are_chosen(window, keep, kept):
    network = FusionNetwork(config_of("chosen", window=window, keep=keep))
    assert network.fusion.keep == network.config.kept == kept


@torch.no_grad()
def test_once_trained_a_network_looks_at_the_frames_chosen_alone():
    network = awake(config_of("chosen", window=5)).eval()
    features = 10 * torch.rand(1, 5, 16, 8, 8)
    chosen = network.fusion.log_weights(features, 2)[0] == 0
    for frame in range(5):
        # Half of the channels are flipped: means and variances, and so the choice, stay the same,
        # but the content changes.
        other = features.clone()
        other[:, frame, :8] = features[:, frame, :8].flip(-2)
        changed = not torch.allclose(network.fuse(other), network.fuse(features), rtol=0, atol=1e-5)
        assert changed == chosen[frame]


def test_focus_makes_fresh_logits_larger_and_nothing_else():
    networks = []
    for focus in (1.0, 10.0):
        torch.manual_seed(0)
        networks.append(FusionNetwork(config_of("gated", focus=focus)))
    ours, theirs = (network.state_dict() for network in networks)
    for key, value in ours.items():
        factor = 10 if key in ("fusion.attention.f_s.weight", "fusion.attention.f_p.weight") else 1
        torch.testing.assert_close(theirs[key], factor * value)
