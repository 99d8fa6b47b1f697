"""OpenVINO: on CPUs, in float32 or in eight bits."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unsmear.engines.eight_bit import SavedGraph
from unsmear.engines.graphs import GraphEngine, level_graphs
from unsmear.errors import MissingExtraError, ModelError
from unsmear.models.network import DeblurNetwork

try:
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
except ModuleNotFoundError as error:
    raise MissingExtraError("openvino", "fast", "engine openvino") from error

if TYPE_CHECKING:
    Models = Mapping[str, openvino.Model]


def convert(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
) -> openvino.Model:
    """A torch module as a graph of OpenVINO that takes any height and width.

    The front end is called directly: `openvino.convert_model` does the same and reports its use
    to a server.

    Args:
        module: takes and gives tensors.
        example: inputs that the module is traced with, B = 1.
        inputs: names.
        outputs: names.
    """
    frontend = FrontEndManager().load_by_framework("pytorch")
    given = example if len(example) > 1 else example[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, which the front end stands on
        decoder = TorchScriptPythonDecoder(module, example_input=given)
    model = frontend.convert(frontend.load(decoder))
    for entrance, tensor in zip(model.inputs, example, strict=True):
        shape = [1, tensor.shape[1], -1, -1] if tensor.dim() == 4 else list(tensor.shape)
        entrance.get_node().set_partial_shape(openvino.PartialShape(shape))
    for entrances, names in ((model.inputs, inputs), (model.outputs, outputs)):
        for tensor, name in zip(entrances, names or (), strict=bool(names)):
            tensor.get_tensor().set_names({name})
    model.validate_nodes_and_infer_types()
    return model


def convert_levels(network: DeblurNetwork) -> dict[str, openvino.Model]:
    """All graphs of a network, see `level_graphs`."""
    return {graph.name: convert(graph.module, graph.example) for graph in level_graphs(network)}


def save(model: openvino.Model, path: Path) -> None:
    """A graph as two files, its numbers (.bin) beside its structure (.xml)."""
    openvino.save_model(model, path, compress_to_fp16=False)


def write_graphs(models: Models) -> dict[str, SavedGraph]:
    """Graphs as bytes."""
    saved = {}
    with TemporaryDirectory() as folder:
        for name, model in models.items():
            path = Path(folder) / f"{name}.xml"
            save(model, path)
            saved[name] = SavedGraph(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    return saved


def read_graphs(graphs: Mapping[str, SavedGraph]) -> dict[str, openvino.Model]:
    """What `write_graphs` gave, as graphs again.

    Raises:
        ModelError: OpenVINO cannot read them.
    """
    core = openvino.Core()
    try:
        return {
            name: core.read_model(graph.structure, graph.numbers) for name, graph in graphs.items()
        }
    except RuntimeError as error:
        raise ModelError(
            f"OpenVINO {openvino.get_version()} cannot read the graphs: {error}"
        ) from None


class OpenVinoEngine(GraphEngine):
    """Runs the graphs of a network.

    Args:
        network: that the graphs were made of, on the CPU.
        models: by name, see `convert_levels`; may be quantized.
        name: of the engine.
        workers: that call it at a time.
    """

    own_threads = True

    def __init__(
        self, network: DeblurNetwork, models: Models, name: str = "openvino", workers: int = 1
    ) -> None:
        super().__init__(network, workers)
        self.name = name
        core = openvino.Core()
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # CPUs with bfloat16 would choose it
            # Two workers' threads would be bound to one and the same core.
            "ENABLE_CPU_PINNING": workers == 1,
        }
        self._compiled = {
            key: core.compile_model(model, "CPU", settings) for key, model in models.items()
        }
        self._own = threading.local()  # requests: each worker has its own
        self._first, self._begun = threading.Lock(), False

    @property
    def identity(self) -> str:
        """Name and version of everything that decides the last bits, but for the network."""
        return f"{self.name} {openvino.get_version()} {torch.__version__}"

    def run(self, name: str, inputs: Sequence[Tensor]) -> Tensor:
        """One graph."""
        if self._begun:
            return self._run(name, inputs)
        # Its bindings set things up in the first call; in two at once each waits for what the other
        # holds, for good (OpenVINO 2026.4).
        with self._first:
            out = self._run(name, inputs)
            self._begun = True
        return out

    def _run(self, name: str, inputs: Sequence[Tensor]) -> Tensor:
        requests: dict[str, openvino.InferRequest] = self._own.__dict__
        if name not in requests:
            requests[name] = self._compiled[name].create_infer_request()
        request = requests[name]
        arrays = [tensor.contiguous().numpy() for tensor in inputs]
        # Its own memory is written again by the next call: unshared outputs are copies.
        outputs = request.infer(arrays, share_inputs=True, share_outputs=False)
        return torch.from_numpy(outputs[0])
