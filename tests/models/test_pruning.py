"""A trained network as the start of a smaller one: the important part is kept and connected."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings

from tests.conftest import ALIGNED, SMALL, TRAILS, awake
from tests.models.conftest import shapes
from unsmear.models.growth import grow_from
from unsmear.models.network import DeblurNetwork
from unsmear.models.pruning import Importance, prune_from

SHAPES = {"plain": SMALL, "trails": TRAILS, "aligned": ALIGNED}


def importance_of(network: DeblurNetwork, clip: torch.Tensor | None = None) -> Importance:
    importance = Importance(network.requires_grad_(True))
    clip = torch.rand(2, 3, 3, 32, 40) if clip is None else clip
    (network(clip) - clip.roll(1, dims=-1)).square().mean().backward()
    importance.add()
    network.requires_grad_(False)
    return importance


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_all_of_a_network_is_that_network(shape):
    trained = awake(shape)
    again = DeblurNetwork(shape).eval()
    prune_from(again, trained, importance_of(trained).of_weights)
    for name, value in again.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_channels_that_reach_nothing_go_first(shape):
    """Channels added by growth do nothing before learning; pruning removes them again."""
    trained = awake(shape)
    larger = DeblurNetwork(dataclasses.replace(shape, widths=(11, 15, 20))).eval()
    grow_from(larger, trained)
    clip = torch.rand(2, 4, 3, 24, 32)  # the same clip: channels inactive in it may go too
    back = DeblurNetwork(shape).eval()
    prune_from(back, larger, importance_of(larger, clip).of_weights)
    # In double: where trails are sampled depends on the order of sums.
    restored = [network.double()(clip.double()) for network in (back, trained)]
    torch.testing.assert_close(*restored, rtol=0, atol=1e-6)


def test_modules_that_are_not_wanted_are_left_out():
    trained = awake(dataclasses.replace(SMALL, attention_levels=(2,)))
    larger = DeblurNetwork(
        dataclasses.replace(ALIGNED, widths=(10, 14, 18), attention_levels=(1, 2))
    ).eval()
    grow_from(larger, trained)
    clip = torch.rand(1, 3, 3, 32, 24)
    back = DeblurNetwork(trained.config).eval()
    prune_from(back, larger, importance_of(larger, clip).of_weights)
    torch.testing.assert_close(back(clip), trained(clip), rtol=0, atol=1e-6)


def test_another_attention_is_left_out_and_starts_without_effect(tempered):
    trained, clip = awake(tempered), torch.rand(1, 2, 3, 16, 16)
    importance = {name: value.square() for name, value in trained.named_parameters()}
    for wanted in (SMALL, dataclasses.replace(tempered, widths=(6, 10, 14))):
        assert not wanted.can_grow_from(tempered)
        common = DeblurNetwork(wanted.common_part(tempered)).eval()
        assert not common.config.attention_levels
        prune_from(common, trained, importance)
        larger = DeblurNetwork(wanted).eval()
        grow_from(larger, common)
        torch.testing.assert_close(larger(clip), common(clip), rtol=0, atol=1e-6)
    assert tempered.common_part(SMALL).attention_levels == ()
    dense = dataclasses.replace(tempered, block="dense")
    assert not dense.can_start_from(dataclasses.replace(dense, attention="factorised"))


def test_the_channels_that_matter_most_are_kept():
    trained = awake(ALIGNED)
    importance = {name: torch.zeros_like(value) for name, value in trained.named_parameters()}
    # Most important: channels 2 and 4 of the finest level, by the weights that read them; channel 1
    # of the trail module, by what writes it; and the last channel of the module for neighbours.
    importance["head.weight"][:, 2] = importance["head.weight"][:, 4] = 1
    importance["trails.0.enter.bias"][1] = 1
    hidden = [0, 3, 7, 15]
    importance["trails.0.leave.weight"][:, hidden] = 1
    importance["aligned.0.blocks.1.first.weight"][:, 5] = 1
    small = DeblurNetwork(
        dataclasses.replace(ALIGNED, widths=(2, 12, 16), trail_channels=1, aligned_channels=1)
    )
    prune_from(small, trained, importance)
    ours, theirs = small.state_dict(), trained.state_dict()
    channels = [2, 4]
    assert torch.equal(ours["stem.weight"], theirs["stem.weight"][channels])
    assert torch.equal(ours["head.weight"], theirs["head.weight"][:, channels])
    assert torch.equal(ours["downs.0.weight"], theirs["downs.0.weight"][:, channels])
    squares = [8, 9, 10, 11, 16, 17, 18, 19]  # four places each
    assert torch.equal(ours["ups.0.project.bias"], theirs["ups.0.project.bias"][squares])
    assert torch.equal(
        ours["trails.0.enter.weight"], theirs["trails.0.enter.weight"][1:2, channels]
    )
    along = [*channels, *(8 + 4 * place + 1 for place in range(5))]
    mix = theirs["trails.0.mix.weight"][hidden]
    assert torch.equal(ours["trails.0.mix.weight"], mix[:, along])
    pixels = list(range(8, 8 + 9 * 4))
    assert torch.equal(
        ours["aligned.0.enter.weight"],
        theirs["aligned.0.enter.weight"][5:6, [*channels, *pixels]],
    )


def test_the_last_blocks_are_kept():
    deep = dataclasses.replace(SMALL, encoder_blocks=(1, 2, 3), decoder_blocks=(3, 1, 2))
    trained = awake(deep)
    small = DeblurNetwork(SMALL)
    prune_from(small, trained, importance_of(trained).of_weights)
    for room, level, block in (("encoder", 2, 2), ("decoder", 0, 2), ("decoder", 1, 0)):
        kept = getattr(small, room)[level][0].second.weight
        assert torch.equal(kept, getattr(trained, room)[level][block].second.weight)


def test_each_block_keeps_the_inner_channels_that_matter_in_it():
    trained = awake(dataclasses.replace(SMALL, encoder_blocks=(2, 1, 1)))
    importance = {name: torch.zeros_like(value) for name, value in trained.named_parameters()}
    kept = {"encoder.0.0.first.bias": [1, 6], "encoder.0.1.first.bias": [3, 4]}
    for name, channels in kept.items():
        importance[name][channels] = 1
    small = DeblurNetwork(dataclasses.replace(trained.config, widths=(2, 12, 16)))
    prune_from(small, trained, importance)
    for name, channels in kept.items():
        assert torch.equal(small.state_dict()[name], trained.state_dict()[name][channels])


def test_importance_adds_up_over_batches():
    network = awake(SMALL)
    importance = importance_of(network)
    once = {name: value.clone() for name, value in importance.of_weights.items()}
    for name, value in network.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(once[name], (value * value.grad).square())
    importance.add()
    for name, value in importance.of_weights.items():
        torch.testing.assert_close(value, 2 * once[name])


@pytest.mark.parametrize(
    "changes",
    [
        {"widths": (8, 12, 17)},
        {"widths": (8, 16), "encoder_blocks": (1, 1), "decoder_blocks": (1, 1)},
        {"encoder_blocks": (1, 1, 2)},
        {"neighbours": 2},
        {"attention_levels": (0, 1)},
        {"spatial_maps": 2},
        {"temporal_maps": 1},
        {"block": "dense"},
        {"stem": 1},
        {"trail_levels": (1,)},
    ],
    ids=str,
)
def test_networks_that_are_no_part_are_refused(changes):
    other = {"attention_levels": (1,)} | changes
    shape = dataclasses.replace(SMALL, **other)
    assert not shape.is_part_of(SMALL)
    with pytest.raises(ValueError, match="is_part_of"):
        prune_from(DeblurNetwork(shape), awake(SMALL), {})


@settings(max_examples=10)
@given(shapes(), shapes())
def test_the_common_part_takes_its_weights_and_hands_them_on(wanted, trained):
    network = awake(trained)
    common = DeblurNetwork(wanted.common_part(trained)).eval()
    prune_from(common, network, {name: p.square() for name, p in network.named_parameters()})
    larger = DeblurNetwork(wanted).eval()
    grow_from(larger, common)
    clip = torch.rand(1, 3, 3, 16, 24)
    torch.testing.assert_close(larger(clip), common(clip), rtol=0, atol=1e-5)
