"""Which engine runs, on which device, and the errors where one cannot."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import torch

from tests.conftest import SMALL, awake
from unsmear.engines import choice, openvino
from unsmear.engines.base import TorchEngine
from unsmear.engines.choice import fastest, open_engine, open_model
from unsmear.engines.eight_bit import (
    EightBitOrigin,
    eight_bit_path,
    load_eight_bit,
    save_eight_bit,
)
from unsmear.errors import ConfigError, MissingExtraError, ModelError
from unsmear.models.checkpoint import digest_of
from unsmear.models.network import DeblurNetwork

CPU = torch.device("cpu")
NOWHERE = torch.device("meta")  # its tensors have no values


def write_graphs(loaded, digest=None):
    """Graphs in float32, stored as if they were quantized."""
    origin = EightBitOrigin(
        digest=digest or digest_of(loaded.network), calibrated_on={}, scores={}, versions={}
    )
    path = eight_bit_path(loaded.weights)
    save_eight_bit(path, openvino.write_graphs(openvino.convert_levels(loaded.network)), origin)
    return path


def test_auto_is_torch_where_there_are_no_eight_bits(loaded):
    assert fastest(loaded, CPU) == "torch"
    assert isinstance(open_engine(loaded), TorchEngine)
    assert open_model(str(loaded.weights), "cpu").engine.name == "torch"


@pytest.mark.parametrize(("threads", "workers"), [(1, 1), (5, 2)])
@pytest.mark.parametrize("engine", ["torch", "torch-half", "openvino"])
def test_side_by_side_two_share_the_threads(loaded, monkeypatch, engine, threads, workers):
    monkeypatch.setattr(openvino, "convert_levels", lambda network: {})  # nothing is run
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        opened = open_model(str(loaded.weights), "cpu", engine, side_by_side=True).engine
        assert open_engine(loaded, engine).workers == 1
    finally:
        torch.set_num_threads(before)
    assert opened.workers == workers
    assert opened.threads == threads // workers


def test_eight_bits_beside_the_weights_are_taken_by_name_alone(loaded):
    path = write_graphs(loaded)
    assert path.name == "one.int8.safetensors"
    assert fastest(loaded, CPU) == "torch"
    named = open_model(str(loaded.weights), "cpu", "openvino-int8")
    assert named.engine.name == "openvino-int8"
    graphs, origin = load_eight_bit(path)  # quantized again, on other clips
    graphs["encode_0"] = graphs["encode_0"]._replace(structure=graphs["encode_0"].structure + b"\n")
    save_eight_bit(path, graphs, origin)
    again = open_model(str(loaded.weights), "cpu", "openvino-int8")
    assert again.engine.identity != named.engine.identity  # no run goes on with the other's frames


def test_half_precision_is_offered_on_cpus_that_have_it(loaded, monkeypatch):
    engine = TorchEngine(loaded.network, workers=2)
    model = choice.OpenedModel("small", engine, 3, loaded.provenance)
    monkeypatch.setattr(choice, "has_bfloat16", lambda: False)
    assert choice.half_of(model) is None
    monkeypatch.setattr(choice, "has_bfloat16", lambda: True)
    half = choice.half_of(model)
    assert (half.name, half.window, half.network) == ("small", 3, loaded.network)
    assert (half.engine.name, half.engine.workers) == ("torch-half", 2)
    monkeypatch.setattr(TorchEngine, "device", torch.device("cuda"))
    assert choice.half_of(model) is None


def test_auto_takes_openvino_for_dense_networks(loaded, monkeypatch):
    dense = dataclasses.replace(SMALL, block="dense", dense_layers=2)
    model = dataclasses.replace(loaded, network=DeblurNetwork(dense))
    assert fastest(model, CPU) == "openvino"
    assert fastest(model, torch.device("cuda")) == "torch"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert fastest(model, CPU) == "torch"


def test_eight_bits_of_other_weights_are_refused(loaded):
    write_graphs(loaded, digest=digest_of(awake(SMALL)))
    with pytest.raises(ModelError, match="other weights"):
        open_engine(loaded, "openvino-int8")


def test_eight_bits_that_are_missing_or_damaged_are_named(loaded):
    with pytest.raises(ModelError, match=f"unsmear quantize {loaded.weights} --clips"):
        open_engine(loaded, "openvino-int8")
    path = eight_bit_path(loaded.weights)
    path.write_bytes(b"no safetensors")
    with pytest.raises(ModelError, match="damaged"):
        open_engine(loaded, "openvino-int8")
    with pytest.raises(ModelError, match="8-bit"):
        open_engine(dataclasses.replace(loaded, weights=None), "openvino-int8")


def test_weights_are_no_graphs(loaded):
    eight_bit_path(loaded.weights).write_bytes(loaded.weights.read_bytes())
    with pytest.raises(ModelError, match="no 8-bit graphs"):
        open_engine(loaded, "openvino-int8")


def test_engines_that_there_are_not_or_not_for_a_device_are_refused(loaded):
    with pytest.raises(ConfigError, match="unknown engine 'warp'"):
        open_engine(loaded, "warp")
    with torch.device("meta"):
        elsewhere = dataclasses.replace(loaded, network=loaded.network.to("meta"))
    with pytest.raises(ConfigError, match="--device cpu"):
        open_engine(elsewhere, "openvino")


@pytest.mark.parametrize(("name", "package"), [("openvino", "fast"), ("onnxruntime", "onnx")])
def test_an_engine_that_is_not_installed_says_how_to(loaded, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "unsmear.engines.openvino", raising=False)
    monkeypatch.delitem(sys.modules, "unsmear.engines.onnx", raising=False)
    import unsmear.engines as room

    for module in ("openvino", "onnx"):
        monkeypatch.delattr(room, module, raising=False)
    with pytest.raises(MissingExtraError, match=rf"unsmear\[{package}\]"):
        open_engine(loaded, name)


def test_auto_goes_on_on_the_cpu_and_says_so(weights_file, monkeypatch, caplog):
    monkeypatch.setattr(choice, "pick_device", lambda name: NOWHERE)
    opened = open_model(str(weights_file), "auto")
    assert opened.engine.device == CPU
    assert "using the CPU, because device 'meta' cannot run" in caplog.text


def test_a_device_that_was_asked_for_is_refused(weights_file, monkeypatch):
    monkeypatch.setattr(choice, "pick_device", lambda name: NOWHERE)
    with pytest.raises(ConfigError, match=r"device 'cuda' cannot run .* use auto or cpu"):
        open_model(str(weights_file), "cuda")
