"""A trained network as the start of a larger one: the result only changes with learning."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.conftest import ALIGNED, SMALL, TRAILS, awake
from tests.models.test_polish import TINY, TOLD, lively
from unsmear.models.growth import grow_from, grow_polish_from
from unsmear.models.network import DeblurNetwork
from unsmear.models.polish import CHANNELS, PolishNetwork

PLAIN = dataclasses.replace(SMALL, attention_levels=(2,))
LARGER = {
    "same": {},
    "wider": {"widths": (9, 16, 20)},
    "deeper": {"encoder_blocks": (1, 2, 3), "decoder_blocks": (3, 1, 2)},
    "more neighbours": {"neighbours": 3},
    "more along trails": {"trail_channels": 9},
    "more of neighbours": {"aligned_channels": 13},
    "another attention": {"attention_levels": (1, 2)},
    "all": {
        "widths": (12, 12, 24), "encoder_blocks": (2, 1, 1), "decoder_blocks": (1, 2, 1),
        "neighbours": 2, "attention_levels": (0, 1, 2),
        "trail_channels": 6, "aligned_channels": 8,
    },
}  # fmt: skip


@pytest.mark.parametrize("shape", [PLAIN, TRAILS, ALIGNED], ids=["plain", "trails", "aligned"])
@pytest.mark.parametrize("changes", LARGER.values(), ids=LARGER)
def test_a_larger_network_restores_as_the_one_it_goes_on_from(shape, changes):
    shape = dataclasses.replace(shape, attention_levels=(2,))
    trained = awake(shape)
    larger = DeblurNetwork(dataclasses.replace(shape, **changes)).eval()
    grow_from(larger, trained)
    clip = torch.rand(2, 4, 3, 24, 32)
    torch.testing.assert_close(larger(clip), trained(clip), rtol=0, atol=1e-5)


@pytest.mark.parametrize("small", [PLAIN, TRAILS], ids=["plain", "trails"])
def test_a_larger_network_may_also_look_along_trails_and_at_neighbours(small):
    trained = awake(dataclasses.replace(small, attention_levels=(2,)))
    changes = {"widths": (10, 14, 18), "neighbours": 2, "trail_channels": 7}
    larger = DeblurNetwork(dataclasses.replace(ALIGNED, **changes)).eval()
    grow_from(larger, trained)
    clip = torch.rand(1, 3, 3, 32, 24)
    torch.testing.assert_close(larger(clip), trained(clip), rtol=0, atol=1e-5)


def test_an_attention_of_ones_own_grows_too(tempered):
    trained = awake(tempered)
    larger = DeblurNetwork(dataclasses.replace(tempered, widths=(9, 14, 20))).eval()
    grow_from(larger, trained)
    assert larger.attention(2).heat == trained.attention(2).heat
    clip = torch.rand(1, 3, 3, 16, 24)
    torch.testing.assert_close(larger(clip), trained(clip), rtol=0, atol=1e-5)


def test_what_was_added_can_learn():
    """A branch with zeros at both ends would never learn."""
    larger = DeblurNetwork(dataclasses.replace(ALIGNED, widths=(12, 16, 24), neighbours=2))
    grow_from(larger, awake(PLAIN))
    clip = torch.rand(1, 3, 3, 32, 24)
    for _ in range(3):  # gradients pass a zero weight once it has changed
        larger.zero_grad()
        restored, trails = larger(clip, with_trails=True)
        ((restored - 0.5).square().mean() + 1e-3 * trails.square().mean()).backward()
        with torch.no_grad():
            for parameter in larger.parameters():
                parameter -= 0.005 * torch.sign(parameter.grad)
    for name, parameter in larger.named_parameters():
        # A softmax cancels equal terms, and SMALL has few maps: f_t may get no gradient.
        if "f_t" not in name:
            assert parameter.grad.flatten(1 if parameter.dim() > 1 else 0).abs().sum() > 0, name


@pytest.mark.parametrize(
    "changes",
    [
        {"widths": (8, 12, 15)},
        {"widths": (8, 32), "encoder_blocks": (1, 1), "decoder_blocks": (1, 1)},
        {"encoder_blocks": (1, 1, 0)},
        {"neighbours": 0},
        {"attention_levels": (1,)},
        {"spatial_maps": 4},
        {"temporal_maps": 3},
        {"block": "dense"},
        {"stem": 1},
    ],
    ids=str,
)
def test_networks_that_hold_no_place_for_the_trained_one_are_refused(changes):
    other = dataclasses.replace(SMALL, **{"attention_levels": (1,)} | changes)
    if "attention_levels" not in changes and "widths" not in changes:
        other = dataclasses.replace(SMALL, **changes)
    assert not other.can_grow_from(SMALL)
    with pytest.raises(ValueError, match="can_grow_from"):
        grow_from(DeblurNetwork(other), awake(SMALL))


@pytest.mark.parametrize(
    "changes", [{}, {"told": True}, {"blocks": 3}, {"deep_blocks": 2, "told": True}]
)
def test_a_network_that_polishes_starts_as_the_one_it_goes_on_from_and_can_learn(changes):
    network, fusion = lively(), torch.rand(1, TOLD.channels, 16, 16)
    made = PolishNetwork(dataclasses.replace(TINY, **changes))
    grow_polish_from(made, network)
    seen = fusion[:, : made.config.channels]
    found = made(seen)
    torch.testing.assert_close(found, network(fusion[:, :CHANNELS]), rtol=0, atol=1e-5)
    found.square().sum().backward()
    for block in (*made.blocks[TINY.blocks :], *made.deep[TINY.deep_blocks :]):
        assert block.first.weight.any()
        assert not block.second.weight.any()
        assert block.second.weight.grad.abs().max() > 0
    if made.config.told:
        for weight in (made.stem.weight[:, 4 * CHANNELS :], made.kernel_head.weight[-1]):
            assert not weight.any()
        assert made.stem.weight.grad[:, 4 * CHANNELS :].abs().min() > 0
        assert made.kernel_head.weight.grad[-1].abs().max() > 0


@pytest.mark.parametrize(
    "changes", [{"blocks": 1}, {"deep_blocks": 1}, {"told": False}, {"width": 8}, {"kernel": 5}]
)
def test_networks_that_polish_grow_in_nothing_else(changes):
    trained = dataclasses.replace(TOLD, blocks=2, deep_blocks=2)
    made = PolishNetwork(dataclasses.replace(trained, **changes))
    with pytest.raises(ValueError, match="the trained network is no part of the other"):
        grow_polish_from(made, lively(trained))
