"""Which engine: by name, or the fastest there is."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from unsmear.device import has_bfloat16, pick_device
from unsmear.engines import EngineName
from unsmear.engines.base import Engine, TorchEngine
from unsmear.engines.compiled import CompiledEngine
from unsmear.engines.eight_bit import SavedGraph, eight_bit_path, load_eight_bit
from unsmear.engines.trial import fault_on, laid_out
from unsmear.errors import ConfigError, ModelError
from unsmear.models.checkpoint import Provenance, digest_of
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import ANCESTORS, ZOO, LoadedModel, load_model

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedModel:
    """A model ready to restore.

    Attributes:
        name: row of the zoo, or file name.
        engine: holds the network and runs it.
        window: frames that contribute to each one, unless the user says otherwise.
        provenance: how the weights came to be.
    """

    name: str
    engine: Engine
    window: int
    provenance: Provenance

    @property
    def network(self) -> DeblurNetwork:
        """On the device of the work."""
        return self.engine.network


def open_model(
    model: str | Path,
    device: str = "auto",
    engine: EngineName = "auto",
    *,
    side_by_side: bool = False,
) -> OpenedModel:
    """Load a network onto a device, laid out for speed.

    Args:
        model: name from `unsmear models`, or the path of a .safetensors file.
        device: as `placed` takes it.
        engine: what runs it, see `open_engine`.
        side_by_side: as there.

    Raises:
        ModelError: unknown model, or a file that does not fit.
        ConfigError: no such device or engine, or the device does not compute what it should; the
            model is neither name nor path.
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
    """A model in half precision, where the CPU that it works on has instructions for that, which
    may make it quicker; None elsewhere. It has the same network.
    """
    engine = model.engine
    if engine.device.type != "cpu" or not has_bfloat16():
        return None
    half = TorchEngine(engine.network, half=True, workers=engine.workers)
    return dataclasses.replace(model, engine=half)


def placed(model: LoadedModel, device: str) -> LoadedModel:
    """A model on a device that computes what the CPU does, laid out for speed.

    Args:
        model: on the CPU; its network is moved.
        device: auto, cpu, cuda, cuda:N or mps. Where `auto` finds one that fails, it is the CPU,
            and the log says why.

    Raises:
        ConfigError: no such device, or one that fails, named by the user.
    """
    where = pick_device(device)
    if where.type != "cpu" and (fault := fault_on(where, model.network)) is not None:
        if device != "auto":
            raise ConfigError(
                f"device '{device}' {fault}: use auto or cpu, or another version of torch"
            )
        _LOG.warning("using the CPU, because device '%s' %s", where, fault)
        where = torch.device("cpu")
    return dataclasses.replace(model, network=laid_out(model.network, where))


def open_engine(
    model: LoadedModel, name: EngineName = "auto", *, side_by_side: bool = False
) -> Engine:
    """An engine for a model.

    Args:
        model: its network in evaluation mode, on the device of the work.
        name: `auto` is the fastest in float32: OpenVINO for networks of dense blocks on a CPU,
            where it is installed; torch elsewhere. Half precision and eight bits are taken by
            name alone.
        side_by_side: on a CPU of two or more threads, two frames are worked on at a time, each by
            half of them: what decodes and encodes then holds up one of them, not both. Use it in
            `cores_left_to`.

    Raises:
        ConfigError: unknown engine, or one that does not run on this device.
        ModelError: the model has no graphs in eight bits, or they belong to other weights.
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
        graphs = openvino.convert_levels(network)
    else:
        graphs = openvino.read_graphs(_eight_bit(model))
    return openvino.OpenVinoEngine(network, graphs, name, workers)


def fastest(model: LoadedModel, device: torch.device) -> EngineName:
    """The engine that `auto` stands for: `unsmear bench` measures them."""
    if device.type != "cpu" or importlib.util.find_spec("openvino") is None:
        return "torch"
    # Eight bits are taken by name alone: ranges that lose 0.05 dB on some clips may lose 0.4 on one
    # of other contrast. Dense blocks join thin layers again and again, of which torch makes copies;
    # for plain convolutions it is the match of others, and starts at once.
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
    """What names a model on the command line: its row, or the path of its weights."""
    row = (ZOO | ANCESTORS).get(model.name)
    own = model.weights is None or (row is not None and row.weights == model.weights)
    return model.name if own else shlex.quote(str(model.weights))
