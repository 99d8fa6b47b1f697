"""torch.compile: fewer passes over memory, for seconds of compiling at the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from unsmear.engines.graphs import GraphEngine, level_graphs
from unsmear.errors import ConfigError, first_line
from unsmear.models.network import DeblurNetwork


class CompiledEngine(GraphEngine):
    """Runs the graphs of a network as `torch.compile` makes them, for any height and width.

    Args:
        network: in evaluation mode.
        backend: of `torch.compile`; inductor needs a C++ compiler on a CPU, Triton on a GPU.
    """

    name = "torch-compile"
    memory_format = torch.channels_last

    def __init__(
        self, network: DeblurNetwork, backend: str | Callable[..., Any] = "inductor"
    ) -> None:
        super().__init__(network)
        # Weights are constants: convolutions may lay them out as they like.
        options: dict[str, str | int | bool | Callable[..., Any]] = {"freezing": True}
        self._graphs = {
            graph.name: torch.compile(
                graph.module,
                dynamic=True,
                backend=backend,
                options=options if backend == "inductor" else None,
            )
            for graph in level_graphs(network)
        }

    def run(self, name: str, inputs: Sequence[Tensor]) -> Tensor:
        """One graph."""
        try:
            out: Tensor = self._graphs[name](*inputs)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            raise ConfigError(
                "engine torch-compile cannot compile here (a CPU needs a C++ compiler, a GPU needs "
                f"Triton): use another engine; {first_line(error)}"
            ) from None
        return out
