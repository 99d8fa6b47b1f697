from __future__ import annotations

import dataclasses
import json
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.conftest import SMALL, awake, mild
from unsmear.errors import ModelError
from unsmear.models.attention import ATTENTIONS, FactorizedAttention
from unsmear.models.checkpoint import (
    Provenance,
    digest_of,
    load_any_weights,
    load_polish_weights,
    load_weights,
    read_provenance,
    save_weights,
)
from unsmear.models.network import DeblurNetwork
from unsmear.models.packing import SCALE
from unsmear.models.polish import PolishConfig, PolishNetwork
from unsmear.models.zoo import load_model

ORIGIN = Provenance(
    model="small", steps=12, seed=3, hours=0.5, device="cpu", version="0", scores={"a": {"p": 1.5}}
)


@pytest.mark.parametrize(("dtype", "off"), [(torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
def test_round_trip_in_half_precision(tmp_path, dtype, off):
    network = awake()
    path = tmp_path / "w.safetensors"
    save_weights(path, SMALL, network.state_dict(), ORIGIN, dtype=dtype)
    loaded, origin = load_weights(path)
    assert origin == ORIGIN == read_provenance(path)
    assert loaded.config == SMALL
    for key, value in network.state_dict().items():
        assert loaded.state_dict()[key].dtype == torch.float32
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=off, atol=1e-6)
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.usefixtures("files_stay_in_use")
def test_float32_round_trip_is_exact(tmp_path):
    network = awake()
    path = tmp_path / "w.safetensors"
    save_weights(path, SMALL, network.state_dict(), ORIGIN, dtype=torch.float32)
    loaded = load_weights(path)[0]
    path.unlink()  # also on Windows: it is not mapped
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, network.state_dict()[key])


def test_a_record_of_a_newer_version_is_read_but_not_a_network(weights_file):
    """What is unknown in a record changes no result; what is unknown in a shape does."""
    plain = dataclasses.asdict(ORIGIN)
    newer = plain | {"energy": 2.0, "parent": plain | {"energy": 1.0, "parent": plain}}
    rewrite(weights_file, change_metadata=lambda m: m | {"provenance": json.dumps(newer)})
    origin = load_weights(weights_file)[1]
    assert (origin.steps, origin.total_steps) == (12, 36)
    bare = dataclasses.asdict(ORIGIN.unmeasured)
    assert origin.unmeasured.parent == bare | {"parent": bare}
    lacking = {name: value for name, value in newer.items() if name != "seed"}
    rewrite(weights_file, change_metadata=lambda m: m | {"provenance": json.dumps(lacking)})
    with pytest.raises(ModelError, match="no readable provenance"):
        read_provenance(weights_file)

    def with_whorls(metadata):
        network = json.loads(metadata["network"]) | {"whorls": 1}
        return metadata | {"network": json.dumps(network)}

    rewrite(weights_file, change_metadata=with_whorls)
    with pytest.raises(ModelError, match=r"unknown to this version, with 'whorls': .* newer"):
        load_weights(weights_file)


def test_only_programs_that_know_an_attention_read_weights_of_it(
    weights_file, tempered, monkeypatch
):
    save_weights(weights_file, tempered, awake(tempered).state_dict(), ORIGIN)
    assert isinstance(load_weights(weights_file)[0].attention(2), ATTENTIONS["tempered"])
    monkeypatch.delitem(ATTENTIONS, "tempered")
    with pytest.raises(ModelError, match=r"small.safetensors' .* attention is 'tempered': must be"):
        load_weights(weights_file)


def test_weights_from_before_attentions_had_names_are_of_the_papers(weights_file, monkeypatch):
    newer = load_weights(weights_file)[0]

    def nameless(metadata):
        network = json.loads(metadata["network"])
        del network["attention"]
        return metadata | {"network": json.dumps(network)}

    rewrite(weights_file, change_metadata=nameless)
    network = load_weights(weights_file)[0]
    assert type(network.attention(2)) is FactorizedAttention
    assert digest_of(network) == digest_of(newer)
    monkeypatch.setitem(ATTENTIONS, "other", FactorizedAttention)
    network.config = dataclasses.replace(SMALL, attention="other")
    assert digest_of(network) != digest_of(newer)


def test_digests_of_released_weights_stay():
    """Records, the names of teachers and what resumes depend on them."""
    assert digest_of(load_model("lite").network).startswith("34248a7d21d08b1a")


def rewrite(path, change_tensors=lambda t: t, change_metadata=lambda m: m):
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        metadata = json.loads(file.read(length))["__metadata__"]
    save_file(change_tensors(load_file(path)), path, change_metadata(metadata))


def without_first(tensors):
    return dict(list(tensors.items())[1:])


def reshaped(tensors):
    return {key: value.flatten() for key, value in tensors.items()}


def integers(tensors):
    return {key: value.to(torch.int8) for key, value in tensors.items()}


def doubles(tensors):
    return {key: value.double() for key, value in tensors.items()}


def not_finite(tensors):
    return {key: value * float("nan") for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_first, "does not fit"),
        (reshaped, "does not fit"),
        (integers, "does not fit"),
        (doubles, "must be one of F16"),
        (not_finite, "not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(weights_file, change, message):
    rewrite(weights_file, change_tensors=change)
    with pytest.raises(ModelError, match=message):
        load_weights(weights_file)


def huge_network(metadata):
    network = json.loads(metadata["network"]) | {"widths": [60000, 60000, 60000]}
    return metadata | {"network": json.dumps(network)}


def deep_network(metadata):
    network = json.loads(metadata["network"]) | {"encoder_blocks": [1, 10**6, 1]}
    return metadata | {"network": json.dumps(network)}


def dense_network(metadata):
    network = json.loads(metadata["network"]) | {"block": "dense", "dense_layers": 10**6}
    return metadata | {"network": json.dumps(network)}


def model_of_no_name(metadata):
    origin = json.loads(metadata["provenance"]) | {"model": ["small"]}
    return metadata | {"provenance": json.dumps(origin)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: {k: v for k, v in m.items() if k != "format"}, "no Unsmear weights"),
        (lambda m: m | {"network": "{}"}, "describes a network unknown"),
        (lambda m: m | {"network": "not json"}, "describes a network unknown"),
        (lambda m: m | {"network": json.dumps({"widths": "x"})}, "describes a network unknown"),
        (huge_network, "too large"),
        (deep_network, "layers or more but"),
        (dense_network, "layers or more but"),
        (model_of_no_name, "no readable provenance"),
        (lambda m: m | {"provenance": "[]"}, "provenance"),
    ],
)
def test_headers_that_make_no_sense_are_refused(weights_file, change, message):
    rewrite(weights_file, change_metadata=change)
    with pytest.raises(ModelError, match=message):
        load_weights(weights_file)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_in_one_line(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp("hostile") / "w.safetensors"
    path.write_bytes(contents)
    with pytest.raises(ModelError):
        load_weights(path)


@pytest.mark.parametrize(
    "header", [b"[" * 100_000, b'{"__metadata__": {"format": "unsmear-weights-1"}, "x": 5}']
)
def test_json_that_is_no_header_is_refused(tmp_path, header):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelError, match="is not a safetensors file: its header"):
        load_weights(path)


def test_giant_header_is_not_read(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(ModelError, match="out of range"):
        load_weights(path)


def test_truncated_file_is_refused(weights_file):
    contents = weights_file.read_bytes()
    weights_file.write_bytes(contents[: len(contents) // 2])
    with pytest.raises(ModelError, match="damaged"):
        load_weights(weights_file)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"missing\.safetensors"):
        load_weights(tmp_path / "missing.safetensors")


@pytest.fixture
def packed_file(tmp_path):
    path = tmp_path / "packed.safetensors"
    save_weights(path, SMALL, mild().state_dict(), ORIGIN, dtype=torch.int8)
    return path


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


POLISH = PolishConfig(width=4, blocks=1, deep_blocks=1, kernel=3)


@pytest.fixture
def polish_file(tmp_path):
    network = PolishNetwork(POLISH)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    path = tmp_path / "polish.safetensors"
    save_weights(path, POLISH, network.state_dict(), ORIGIN)
    return path


def test_weights_that_polish_come_back(polish_file):
    network, origin = load_polish_weights(polish_file)
    assert (network.config, origin) == (POLISH, ORIGIN)
    assert not network.training
    found = network.state_dict()
    again = polish_file.with_name("again.safetensors")
    save_weights(again, POLISH, found, ORIGIN, dtype=torch.float32)
    other = load_any_weights(again)[0]
    assert digest_of(other) == digest_of(network)
    with torch.no_grad():
        other.head.bias[0] += 1
    assert digest_of(other) != digest_of(network)


def test_weights_of_one_kind_do_not_pass_for_the_other(polish_file, weights_file):
    with pytest.raises(ModelError, match="contains weights of a network that polishes"):
        load_weights(polish_file)
    with pytest.raises(ModelError, match="a network that restores, not weights of a network that"):
        load_polish_weights(weights_file)
    assert isinstance(load_any_weights(weights_file)[0], DeblurNetwork)
    assert read_provenance(polish_file) == ORIGIN


def test_digests_tell_how_often_a_network_polishes(polish_file):
    once = load_polish_weights(polish_file)[0]
    digest = digest_of(once)
    once.config = dataclasses.replace(POLISH, passes=2)
    assert digest_of(once) != digest
    once.config = dataclasses.replace(POLISH, passes=1)
    assert digest_of(once) == digest


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ({"width": 5}, "does not fit its network"),
        ({"kernel": 4}, "unknown to this version: .* the kernel odd"),
        ({"blocks": 10**9}, "describes more layers than it has tensors"),
        ({"passes": 10**9}, "unknown to this version: passes is 1000000000: must be from 1 to 4"),
        ({"passes": 1.5}, r"unknown to this version: passes is 1\.5"),
        ({"whorls": 1}, "unknown to this version: .*whorls"),
        ([], "unknown to this version"),
    ],
)
def test_shapes_of_polishing_networks_that_make_no_sense_are_refused(polish_file, shape, told):
    def change(metadata):
        known = json.loads(metadata["network"])
        made = known | shape if isinstance(shape, dict) else shape
        return metadata | {"network": json.dumps(made)}

    rewrite(polish_file, change_metadata=change)
    with pytest.raises(ModelError, match=told):
        load_polish_weights(polish_file)
