"""ONNX: conversion to graphs, and the ONNX Runtime engine."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import Parameter, signature

import torch
from torch import Tensor, nn

from unsmear.engines.graphs import GraphEngine, level_graphs
from unsmear.errors import MissingExtraError
from unsmear.models.network import DeblurNetwork

try:
    import onnxruntime
    import onnxscript  # noqa: F401  torch.onnx needs it
except ModuleNotFoundError as error:
    raise MissingExtraError(str(error.name), "onnx", "ONNX") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings and log messages of torch.onnx and onnxscript, such as those on missing
    packages or constants that are not folded.
    """
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def convert(
    module: nn.Module,
    example: Sequence[Tensor],
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
) -> bytes:
    """Convert a torch module to a serialised ONNX graph that takes any height and width.

    Args:
        module: takes and returns tensors.
        example: example inputs for tracing, B = 1.
        inputs: names of the inputs.
        outputs: names of the outputs.
    """
    dynamic = torch.export.Dim.DYNAMIC
    shapes: tuple[object, ...] = tuple(
        {2: dynamic, 3: dynamic} if x.dim() == 4 else {} for x in example
    )
    named = signature(module.forward).parameters
    own = sum(parameter.kind is not Parameter.VAR_POSITIONAL for parameter in named.values())
    if len(example) > own:  # torch.export takes the shapes of *others as one tuple
        shapes = (*shapes[:own], shapes[own:])
    with _quiet():
        program = torch.onnx.export(
            module.eval(), tuple(example), dynamo=True, dynamic_shapes=shapes, verbose=False,
            input_names=inputs, output_names=outputs,
        )  # fmt: skip
    assert program is not None
    return program.model_proto.SerializeToString()


def convert_levels(network: DeblurNetwork) -> dict[str, bytes]:
    """Convert all graphs of a network, see `level_graphs`; by name."""
    return {graph.name: convert(graph.module, graph.example) for graph in level_graphs(network)}


def open_session(graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Load a graph into ONNX Runtime, to run on the given number of CPU threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Each level has its own session and threads; idle ones would spin while another level runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class OnnxEngine(GraphEngine):
    """Runs the graphs of a network in ONNX Runtime.

    Args:
        network: network of the graphs, on the CPU.
        graphs: by name, see `convert_levels`.
        workers: number of threads that call it concurrently.
    """

    name = "onnxruntime"
    own_threads = True

    def __init__(
        self, network: DeblurNetwork, graphs: Mapping[str, bytes], workers: int = 1
    ) -> None:
        super().__init__(network, workers)
        self._sessions = {key: open_session(graph, self.threads) for key, graph in graphs.items()}
        self._inputs = {
            key: [entrance.name for entrance in session.get_inputs()]
            for key, session in self._sessions.items()
        }

    @property
    def identity(self) -> str:
        """Names and versions of all that affects the exact bits of its results, besides the
        network.
        """
        return f"{self.name} {onnxruntime.__version__} {torch.__version__}"

    def run(self, name: str, inputs: Sequence[Tensor]) -> Tensor:
        """Run one graph."""
        arrays = (tensor.contiguous().numpy() for tensor in inputs)
        feed = dict(zip(self._inputs[name], arrays, strict=True))
        (out,) = self._sessions[name].run(None, feed)
        return torch.from_numpy(out)
