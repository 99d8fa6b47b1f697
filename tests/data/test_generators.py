"""Random generators: what a seed, a step and a shard decide."""

from __future__ import annotations

import pytest
import torch

from unsmear.data.generators import Generators

CPU = torch.device("cpu")


def drawn(random: Generators) -> list[tuple[float, ...]]:
    """Some numbers of each generator."""
    return [tuple(torch.rand(4, generator=one).tolist()) for one in (random.host, random.device)]


def test_each_shard_of_each_step_of_each_seed_has_numbers_of_its_own():
    """Those for choices and those for noise; the same whenever they are asked for."""
    places = [(seed, step, shard) for seed in (0, 1) for step in (0, 1, 2) for shard in (0, 1, 2)]
    found = [numbers for place in places for numbers in drawn(Generators.of_shard(*place, CPU))]
    assert len(set(found)) == len(found) == 2 * len(places)
    assert found[-2:] == drawn(Generators.of_shard(1, 2, 2, CPU))
    plain = [numbers for seed in (0, 2) for numbers in drawn(Generators.seeded(seed, CPU))]
    assert len(set(plain)) == 4


def test_numbers_keep_within_their_limits():
    random = Generators.seeded(0, CPU)
    even = random.uniform(-3, 5, 4000)
    assert (float(even.min()), float(even.max())) == pytest.approx((-3, 5), abs=0.02)
    assert float(even.mean()) == pytest.approx(1, abs=0.15)
    scale = random.log_uniform(0.01, 100, 4000)
    assert (float(scale.min()), float(scale.max())) == pytest.approx((0.01, 100), rel=0.05)
    assert float((scale < 1).double().mean()) == pytest.approx(0.5, abs=0.03)
    assert {random.index(3) for _ in range(50)} == {0, 1, 2}
    assert not any(random.chance(0.0) for _ in range(50))
    assert all(random.chance(1.0) for _ in range(50))
