"""Choice of the engine: by name, or the fastest one available."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from unsmear.device import has_bfloat16, pick_device
from unsmear.engines import EngineName
from unsmear.engines.base import Engine, TorchEngine, to_device
from unsmear.engines.compiled import CompiledEngine
from unsmear.engines.eight_bit import (
    SavedGraph,
    digest_of_graphs,
    eight_bit_path,
    load_eight_bit,
)
from unsmear.engines.trial import fault_on
from unsmear.errors import ConfigError, ModelError, quoted
from unsmear.models.checkpoint import Provenance, digest_of
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import ANCESTORS, ZOO, LoadedModel, load_model

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedModel:
    """A model ready to restore.

    Attributes:
        name: row of the zoo, or file name without its suffix.
        engine: holds the network and runs it.
        window: default window: how many frames contribute to each one.
        provenance: how the weights were trained.
    """

    name: str
    engine: Engine
    window: int
    provenance: Provenance

    @property
    def network(self) -> DeblurNetwork:
        """The network, on the device used for inference."""
        return self.engine.network


def open_model(
    model: str | Path,
    device: str = "auto",
    engine: EngineName = "auto",
    *,
    side_by_side: bool = False,
) -> OpenedModel:
    """Load a model onto a device and open an engine for it.

    Args:
        model: name from `unsmear models`, or the path of a .safetensors file.
        device: auto, cpu, cuda, cuda:N or mps; `auto` is a GPU that computes what the CPU does, or
            else the CPU. A GPU is checked first, see `placed`.
        engine: auto, torch, torch-half, torch-compile, openvino, openvino-int8 or onnxruntime;
            `auto` is the fastest in float32, see `open_engine`.
        side_by_side: for programs that own their process, see `open_engine`.

    Returns:
        The model, for any number of calls of `unsmear.restore` and `unsmear.restore_video`.

    Raises:
        ModelError: the model is unknown, its file cannot be loaded, or it has no valid 8-bit
            graphs for engine `openvino-int8`.
        ConfigError: `model` is neither a name nor a path, the device or engine is unknown or not
            available, or the device gives wrong results.
        MissingExtraError: the engine is not installed.
    """
    if not isinstance(model, str | Path):
        raise ConfigError(
            f"model is a {type(model).__name__}: give a name from `unsmear models`, the path of a "
            ".safetensors file, or, for restoring, the result of `unsmear.open_model`"
        )
    loaded = placed(load_model(str(model)), device)
    ready = open_engine(loaded, engine, side_by_side=side_by_side)
    return OpenedModel(loaded.name, ready, loaded.window, loaded.provenance)


def half_of(model: OpenedModel) -> OpenedModel | None:
    """The model with an engine in half precision, which may be faster, if it runs on a CPU with
    bfloat16 instructions; else None. Both share the network.
    """
    engine = model.engine
    if engine.device.type != "cpu" or not has_bfloat16():
        return None
    half = TorchEngine(engine.network, half=True, workers=engine.workers)
    return dataclasses.replace(model, engine=half)


def placed(model: LoadedModel, device: str) -> LoadedModel:
    """Move a model to a device, in its fastest memory layout. A device other than the CPU is
    checked first: it must give the same results as the CPU, up to rounding.

    Args:
        model: on the CPU; its network is moved in place.
        device: auto, cpu, cuda, cuda:N or mps. If `auto` finds a device that fails the check, the
            CPU is used and a warning is logged.

    Raises:
        ConfigError: there is no such device, or it fails the check and was requested by name.
    """
    where = pick_device(device)
    if where.type != "cpu" and (fault := fault_on(where, model.network)) is not None:
        if device != "auto":
            raise ConfigError(
                f"device '{device}' {fault}: use auto or cpu, or another version of torch"
            )
        _LOG.warning("using the CPU, because device '%s' %s", where, fault)
        where = torch.device("cpu")
    return dataclasses.replace(model, network=to_device(model.network, where))


def open_engine(
    model: LoadedModel, name: EngineName = "auto", *, side_by_side: bool = False
) -> Engine:
    """Open an engine for a model.

    Args:
        model: its network is in evaluation mode, on the device used for inference.
        name: `auto` is the fastest in float32: OpenVINO for networks of dense blocks on a CPU, if
            it is installed; otherwise torch. Half precision and 8 bits must be requested by name.
        side_by_side: on a CPU with two or more threads, process two frames concurrently, each with
            half of the threads: decoding and encoding the video then delays one of them, not both.
            Has no effect on torch-compile. Use it within `threads_for`.

    Raises:
        ConfigError: the engine is unknown, or does not run on this device.
        ModelError: the model has no 8-bit graphs, or they are damaged or belong to other weights.
        MissingExtraError: the engine is not installed.
    """
    network = model.network
    device = next(network.parameters()).device
    if name not in get_args(EngineName):
        raise ConfigError(
            f"unknown engine '{name}': must be one of {', '.join(get_args(EngineName))}"
        )
    if name == "auto":
        name = fastest(model, device)
    two = side_by_side and device.type == "cpu" and torch.get_num_threads() > 1
    workers = 2 if two else 1
    if name == "torch":
        return TorchEngine(network, workers=workers)
    if name == "torch-half":
        return TorchEngine(network, half=True, workers=workers)
    if name == "torch-compile":
        return CompiledEngine(network)
    if device.type != "cpu":
        raise ConfigError(f"engine {name} runs on the CPU only: add --device cpu, or use torch")
    if name == "onnxruntime":
        from unsmear.engines.onnx import OnnxEngine, convert_levels

        return OnnxEngine(network, convert_levels(network), workers)
    from unsmear.engines import openvino

    if name == "openvino":
        return openvino.OpenVinoEngine(network, openvino.convert_levels(network), workers=workers)
    saved = _eight_bit(model)
    graphs = openvino.read_graphs(saved)
    return openvino.OpenVinoEngine(network, graphs, name, workers, digest_of_graphs(saved))


def fastest(model: LoadedModel, device: torch.device) -> EngineName:
    """The engine that `auto` chooses; `unsmear bench` compares them."""
    if device.type != "cpu" or importlib.util.find_spec("openvino") is None:
        return "torch"
    # Never 8 bits: calibrated ranges that lose 0.05 dB on some clips may lose 0.4 dB on a clip of
    # other contrast. Dense blocks concatenate thin layers repeatedly, which torch copies each time;
    # for plain convolutions torch is as fast as others, and starts without delay.
    return "openvino" if model.network.config.block == "dense" else "torch"


def _eight_bit(model: LoadedModel) -> Mapping[str, SavedGraph]:
    path = None if model.weights is None else eight_bit_path(model.weights)
    if path is None or not path.is_file():
        raise ModelError(
            f"model '{model.name}' has no 8-bit graphs: use engine openvino, or create them: "
            f"unsmear quantize {_as_given(model)} --clips CLIP --val DIR"
        )
    graphs, origin = load_eight_bit(path)
    if origin.digest != digest_of(model.network):
        raise ModelError(
            f"'{path}' was made from other weights: recreate it with `unsmear quantize`"
        )
    return graphs


def _as_given(model: LoadedModel) -> str:
    """The model as an argument of the command line: name of its row, or path of its weights."""
    row = (ZOO | ANCESTORS).get(model.name)
    if model.weights is None or (row is not None and row.weights == model.weights):
        return model.name
    return quoted(model.weights)
