"""torch.compile: fewer passes over memory, after some seconds of compilation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from unsmear.engines.graphs import GraphEngine, level_graphs
from unsmear.errors import ConfigError, first_line
from unsmear.models.network import DeblurNetwork


class CompiledEngine(GraphEngine):
    """Runs the graphs of a network compiled by `torch.compile`, for any height and width.

    Args:
        network: in evaluation mode.
        backend: backend of `torch.compile`; inductor needs a C++ compiler on a CPU, Triton on a
            GPU.
    """

    name = "torch-compile"
    memory_format = torch.channels_last

    def __init__(
        self, network: DeblurNetwork, backend: str | Callable[..., Any] = "inductor"
    ) -> None:
        super().__init__(network)
        # Weights become constants, which allows other memory layouts for convolutions.
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
        """Run one graph. The first call of each compiles it.

        Raises:
            ConfigError: the backend cannot compile here.
        """
        try:
            out: Tensor = self._graphs[name](*inputs)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            raise ConfigError(
                "engine torch-compile cannot compile here (a CPU needs a C++ compiler, a GPU needs "
                f"Triton): use another engine; {first_line(error)}"
            ) from None
        return out
