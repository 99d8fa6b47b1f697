from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.conftest import SMALL, mild
from unsmear.errors import ModelError
from unsmear.models.checkpoint import Provenance, load_weights, save_weights
from unsmear.models.packing import SCALE, pack, packed_shapes, unpack
from unsmear.models.zoo import load_model

ORIGIN = Provenance(model="small", steps=1, seed=0, hours=0.0, device="cpu", version="0")


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


@pytest.fixture
def packed_file(tmp_path):
    path = tmp_path / "packed.safetensors"
    save_weights(path, SMALL, mild().state_dict(), ORIGIN, dtype=torch.int8)
    return path


def test_a_released_network_of_half_the_size_restores_nearly_the_same(tmp_path):
    whole = load_model("lite")
    for value in whole.network.parameters():  # released in 8 bits: move off the 8-bit grid
        value.add_(1e-2 * value.abs().mean() * torch.rand_like(value))
    made, paths = [], [tmp_path / "half.safetensors", tmp_path / "eight.safetensors"]
    for path, kind in zip(paths, (torch.float16, torch.int8), strict=True):
        state = whole.network.state_dict()
        save_weights(path, whole.network.config, state, whole.provenance, dtype=kind)
        made.append(load_weights(path))
    (_, origin), (packed, packed_origin) = made
    assert origin == packed_origin == whole.provenance
    assert paths[1].stat().st_size < 0.6 * paths[0].stat().st_size
    clip = torch.rand(1, 2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    change = (whole.network(clip) - clip).square().mean()
    rounding = (packed(clip) - whole.network(clip)).square().mean()
    assert 0 < rounding < 1e-2 * change


@pytest.mark.parametrize("harm", ["no scale", "two scales", "not finite"])
def test_scales_that_do_not_fit_are_refused(packed_file, harm):
    with safe_open(packed_file, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(packed_file)
    key = next(key for key in tensors if key.endswith(SCALE))
    if harm == "no scale":
        del tensors[key]
    elif harm == "two scales":
        tensors[key] = tensors[key].repeat(2)
    else:
        tensors[key] = tensors[key] * float("nan")
    save_file(tensors, packed_file, metadata)
    with pytest.raises(ModelError, match=r"does not fit|not finite"):
        load_weights(packed_file)
