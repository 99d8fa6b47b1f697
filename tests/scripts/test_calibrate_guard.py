"""scripts/calibrate_guard.py: what the guard's limits are compared with."""

from __future__ import annotations

import copy
from dataclasses import astuple

import pytest
import torch

from tests.conftest import awake, load_script, one_scene
from unsmear.errors import InputError
from unsmear.restoration.guard import measure_change


@pytest.fixture(scope="module")
def script():
    return load_script("scripts/calibrate_guard.py")


def test_the_largest_of_each_quantity_counts(script):
    first, second = one_scene(2, 96, 128)
    pairs = [(first, 0.8 * first), (second, (second + 0.1).clamp(0, 1))]
    each = [astuple(measure_change(*pair)) for pair in pairs]
    largest = script.largest("clip", [*pairs, (first, first * torch.nan)])
    assert largest == [max(column) for column in zip(*each, strict=True)]
    assert largest not in map(list, each)  # not all from one pair
    with pytest.raises(InputError, match="'clip': no restored frame has finite values"):
        script.largest("clip", [(first, first * torch.nan)])


@torch.no_grad()
def test_every_damage_changes_a_network(script):
    network = awake()
    damages = script.damages_to(network)
    assert len({name for name, _ in damages}) == len(damages) == 4 + 2 * len(script.LAYERS)
    for name, damage in damages:
        broken = copy.deepcopy(network)
        damage(broken)
        pairs = zip(broken.parameters(), network.parameters(), strict=True)
        changed = sum(not torch.equal(one, other) for one, other in pairs)
        several = name.startswith(("random", "noise"))
        assert changed > 10 if several else changed == 1, name
    broken = copy.deepcopy(network)
    dict(damages)["head x4"](broken)
    torch.testing.assert_close(broken.head.weight, 4 * network.head.weight)
