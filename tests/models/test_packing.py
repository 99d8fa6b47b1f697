from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unsmear.models.packing import SCALE, pack, packed_shapes, unpack


@given(
    shape=st.lists(st.integers(1, 5), min_size=0, max_size=4),
    size=st.floats(1e-4, 1e3),
    seed=st.integers(0, 99),
)
def test_rounding_is_off_by_half_a_step_of_its_channel(shape, size, seed):
    value = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size
    packed = pack({"a": value})
    restored = unpack(packed, ["a"])["a"]
    assert restored.dtype == torch.float32
    assert restored.shape == value.shape
    if value.ndim < 2:
        assert torch.equal(restored, value.half().float())
    else:
        largest = value.flatten(1).abs().amax(1)
        off = (restored - value).flatten(1).abs().amax(1)
        assert (off <= largest / 254 * (1 + 1e-5)).all()


def test_zeros_stay_zeros_and_the_largest_weight_stays():
    value = torch.tensor([[0.0, 0.0], [-3.0, 1.5]])
    packed = pack({"a": value})
    assert packed["a" + SCALE].tolist() == pytest.approx([1.0, 3 / 127])
    restored = unpack(packed, ["a"])["a"]
    assert torch.equal(restored[0], value[0])
    assert restored[1, 0] == pytest.approx(-3.0, rel=1e-6)


def test_blocks_of_the_finest_level_keep_their_digits():
    value = torch.randn(4, 3)
    state = {"encoder.0.0.first.weight": value, "encoder.1.0.first.weight": value}
    restored = unpack(pack(state), list(state))
    assert torch.equal(restored["encoder.0.0.first.weight"], value.half().float())
    assert not torch.equal(restored["encoder.1.0.first.weight"], value.half().float())


def test_shapes_are_those_of_what_is_written():
    state = {"a": torch.ones(4, 3, 2), "b": torch.ones(5)}
    shapes = {key: list(value.shape) for key, value in state.items()}
    found = {key: list(value.shape) for key, value in pack(state).items()}
    assert packed_shapes(shapes, frozenset({"a"})) == found == {**shapes, "a" + SCALE: [4]}
