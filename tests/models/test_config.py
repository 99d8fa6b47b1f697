"""Shapes of networks: those that contradict themselves, and what two shapes have in common."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ALIGNED, SMALL, TRAILS
from tests.models.conftest import shapes
from unsmear.errors import ConfigError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": ()}, "widths"),
        ({"widths": (8, 1, 16)}, "widths"),
        ({"widths": (8, 12.0, 16)}, "widths is .* list of whole numbers"),
        ({"encoder_blocks": (1,)}, "encoder_blocks"),
        ({"decoder_blocks": (1, -1, 1)}, "decoder_blocks"),
        ({"block": "magic"}, "magic"),
        ({"attention": "magic"}, "attention is 'magic': must be one of factorised, or be added"),
        ({"attention": ["magic"]}, r"attention is \['magic'\]: must be one of factorised"),
        ({"stem": 3}, "stem"),
        ({"attention_levels": (3,)}, "attention_levels"),
        ({"attention_levels": (2, 1)}, "attention_levels"),
        ({"spatial_maps": 0}, "spatial_maps"),
        ({"temporal_maps": 0}, "temporal_maps"),
        ({"temporal_maps": 4.0}, "temporal_maps is 4.0: must be a whole number"),
        ({"neighbours": True}, "neighbours is True: must be a whole number"),
        ({"neighbours": -1}, "neighbours"),
        ({"dense_layers": 0}, "dense_layers"),
    ],
)
def test_contradictory_configs_raise_when_made(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **change)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ConfigError, match=r"stem.*neighbours"):
        dataclasses.replace(SMALL, stem=3, neighbours=-1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trail_levels": (2,)}, "below that of the coarsest"),
        ({"trail_levels": (1, 0)}, "rising"),
        ({"stem": 4}, "1/8"),
        ({"neighbours": 0}, "needs neighbours"),
        ({"trail_channels": 0}, "trail_channels is 0"),
    ],
)
def test_trails_have_their_conditions(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TRAILS, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aligned_levels": (2,)}, "aligned_levels is .* below that of the coarsest"),
        ({"aligned_levels": (1, 0)}, "aligned_levels is .* rising"),
        ({"trail_levels": ()}, "needs trail_levels"),
        ({"aligned_channels": 0}, "aligned_channels is 0"),
    ],
)
def test_aligned_neighbours_have_their_conditions(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(ALIGNED, **change)


def test_networks_that_look_at_neighbours_otherwise_are_refused():
    assert not dataclasses.replace(TRAILS, trail_channels=3).can_grow_from(TRAILS)
    assert not dataclasses.replace(ALIGNED, aligned_channels=5).can_grow_from(ALIGNED)
    assert dataclasses.replace(TRAILS, trail_channels=3).can_grow_from(SMALL)
    assert not TRAILS.can_grow_from(ALIGNED)
    single = dataclasses.replace(SMALL, neighbours=0)
    assert not SMALL.can_grow_from(single)  # it has no fusion that neighbours could join
    dense = dataclasses.replace(SMALL, block="dense")
    assert dense.can_grow_from(dense)


def test_fewer_channels_of_modules_are_a_part():
    assert dataclasses.replace(ALIGNED, trail_channels=3, aligned_channels=5).is_part_of(ALIGNED)
    assert not dataclasses.replace(ALIGNED, trail_channels=5).is_part_of(ALIGNED)
    assert not dataclasses.replace(ALIGNED, aligned_channels=7).is_part_of(ALIGNED)
    assert SMALL.is_part_of(ALIGNED)  # SMALL has no such modules


@given(shapes(), shapes(), st.integers(1, 3))
def test_a_shape_goes_on_from_what_it_has_in_common_with_any_other(wanted, trained, neighbours):
    wanted = dataclasses.replace(wanted, neighbours=neighbours)
    common = wanted.common_part(trained)
    assert common.is_part_of(trained)
    assert wanted.can_grow_from(common)
    assert trained.common_part(trained) == trained


def test_networks_of_other_blocks_have_nothing_in_common():
    dense = dataclasses.replace(SMALL, block="dense")
    with pytest.raises(ConfigError, match="no part in common"):
        dense.common_part(SMALL)
    assert dense.common_part(dense) == dense
