"""The OpenVINO engine: on CPUs, in float32 or in 8 bits."""

from __future__ import annotations

import errno
import functools
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
from unsmear.errors import MissingExtraError, ModelError, first_line
from unsmear.models.network import DeblurNetwork

try:
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
except ModuleNotFoundError as error:
    raise MissingExtraError("openvino", "fast", "engine openvino") from error

if TYPE_CHECKING:
    Models = Mapping[str, openvino.Model]


@functools.cache
def shared_core() -> openvino.Core:
    """The runtime of the process.

    One for all graphs: on Linux each core gives the thread that makes it a stack for signals, and
    takes it back when it is released. If two are not released in reverse order, the thread is left
    with a stack that is gone, and the next signal, such as Ctrl-C, ends the process (2026.4).
    """
    return openvino.Core()


def convert(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
) -> openvino.Model:
    """Convert a torch module to an OpenVINO graph that takes any height and width.

    The front end is called directly, because `openvino.convert_model`, which does the same, sends
    telemetry.

    Args:
        module: takes and returns tensors.
        example: example inputs for tracing, B = 1.
        inputs: names of the inputs.
        outputs: names of the outputs.
    """
    frontend = FrontEndManager().load_by_framework("pytorch")
    given = example if len(example) > 1 else example[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from torch.jit, which the front end uses
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
    """Convert all graphs of a network, see `level_graphs`; by name."""
    return {graph.name: convert(graph.module, graph.example) for graph in level_graphs(network)}


def save(model: openvino.Model, path: Path) -> None:
    """Save a graph as two files: structure (`path`, .xml) and weights (beside it, .bin).

    Raises:
        OSError: the disk is full, or permission is missing.
    """
    try:
        openvino.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:  # "iostream error"
        said = f"OpenVINO failed ({first_line(error)}); is the disk full?"
        raise OSError(errno.EIO, said, str(path)) from None


def write_graphs(models: Models) -> dict[str, SavedGraph]:
    """Serialise graphs to bytes."""
    saved = {}
    with TemporaryDirectory() as folder:
        for name, model in models.items():
            path = Path(folder) / f"{name}.xml"
            save(model, path)
            saved[name] = SavedGraph(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    return saved


def read_graphs(graphs: Mapping[str, SavedGraph]) -> dict[str, openvino.Model]:
    """Inverse of `write_graphs`.

    Raises:
        ModelError: OpenVINO cannot read them.
    """
    core = shared_core()
    try:
        return {
            name: core.read_model(graph.structure, graph.numbers) for name, graph in graphs.items()
        }
    except RuntimeError as error:
        raise ModelError(
            f"OpenVINO {openvino.get_version()} cannot read the graphs: {error}"
        ) from None


class OpenVinoEngine(GraphEngine):
    """Runs the graphs of a network in OpenVINO.

    Args:
        network: network of the graphs, on the CPU.
        models: graphs by name, see `convert_levels`; may be quantised.
        name: of the engine.
        workers: number of threads that call it concurrently.
        digest: of the graphs, if they do not follow from the network.
    """

    own_threads = True

    def __init__(
        self,
        network: DeblurNetwork,
        models: Models,
        name: str = "openvino",
        workers: int = 1,
        digest: str = "",
    ) -> None:
        super().__init__(network, workers)
        self.name, self._digest = name, digest
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # the default is bfloat16 on CPUs that have it
            # With two workers, pinning would bind the threads of both to the same cores.
            "ENABLE_CPU_PINNING": workers == 1,
        }
        self._compiled = {
            key: shared_core().compile_model(model, "CPU", settings)
            for key, model in models.items()
        }
        self._own = threading.local()  # inference requests of each worker
        self._first, self._begun = threading.Lock(), False

    @property
    def identity(self) -> str:
        """Names and versions of all that affects the exact bits of its results, besides the
        network.
        """
        versions = f"{openvino.get_version()} {torch.__version__}"
        return f"{self.name} {versions} {self._digest}".rstrip()

    def run(self, name: str, inputs: Sequence[Tensor]) -> Tensor:
        """Run one graph."""
        if self._begun:
            return self._run(name, inputs)
        # The bindings initialise in the first call; two concurrent first calls deadlock (OpenVINO
        # 2026.4).
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
        # Outputs must be copies: the next call overwrites the memory of the request.
        outputs = request.infer(arrays, share_inputs=True, share_outputs=False)
        return torch.from_numpy(outputs[0])
