"""The interface of all engines, and the engine that is always available: torch.

An engine runs the levels of a network: convolutions, and the distribution of the context to each
pixel. These are local, and nearly all of the work. Operations over a frame or the window
(descriptors and their sums) run in torch with every engine, in float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from unsmear.models.network import DeblurNetwork

Network = TypeVar("Network", bound=nn.Module)


class Engine(ABC):
    """Runs the levels of a network.

    Attributes:
        name: as users type it.
        network: network that it runs, in evaluation mode, on the device used for inference.
        memory_format: of features that it takes without copying.
        own_threads: whether it has its own thread pool instead of torch's.
        workers: number of threads that call it concurrently.
        threads: CPU threads for each worker.
    """

    name: str
    own_threads: bool = False
    memory_format: torch.memory_format = torch.contiguous_format

    def __init__(self, network: DeblurNetwork, workers: int = 1) -> None:
        self.network = network
        self.workers = workers
        self.threads = max(torch.get_num_threads() // workers, 1)

    @property
    def device(self) -> torch.device:
        """Device of its inputs and outputs."""
        return next(self.network.parameters()).device

    @property
    def identity(self) -> str:
        """Names and versions of all that affects the exact bits of its results, besides the
        network.
        """
        return f"{self.name} {torch.__version__}"

    @abstractmethod
    def encode_level(self, level: int, x: Tensor) -> Tensor:
        """Same as `DeblurNetwork.encode_level`."""

    @abstractmethod
    def decode_level(
        self, level: int, features: Tensor, below: Sequence[Tensor], context: Tensor | None
    ) -> Tensor:
        """Same as `DeblurNetwork.decode_level`; at level 0 followed by `predict`, so the result is
        the residual to add to the frame, (B, 3, H, W).
        """


class TorchEngine(Engine):
    """Runs a network in torch, in eager mode.

    Args:
        network: in evaluation mode.
        half: convolutions in half precision: bfloat16 on a CPU, float16 elsewhere. The output of
            each level, the softmax and sums of the attention, and the frames to which the residual
            is added stay in float32. Faster on CPUs with instructions for it (AMX, AVX-512 BF16);
            others may be slower (see `unsmear bench`). Not measured on a GPU.
        workers: number of threads that call it concurrently.
    """

    def __init__(self, network: DeblurNetwork, *, half: bool = False, workers: int = 1) -> None:
        super().__init__(network, workers)
        self.memory_format = fastest_format(self.device)
        self.name = "torch-half" if half else "torch"
        # float16 has 11 significant bits, bfloat16 8; but few CPUs compute in float16.
        self._dtype = torch.bfloat16 if self.device.type == "cpu" else torch.float16
        self._half = half

    def _precision(self) -> torch.autocast:
        """A new context for each call, because it stores the state of the thread to restore."""
        return torch.autocast(self.device.type, self._dtype, enabled=self._half)

    def encode_level(self, level: int, x: Tensor) -> Tensor:
        """Same as `DeblurNetwork.encode_level`."""
        with self._precision():
            return self.network.encode_level(level, x).float()

    def decode_level(
        self, level: int, features: Tensor, below: Sequence[Tensor], context: Tensor | None
    ) -> Tensor:
        """Same as `DeblurNetwork.decode_level`, with `predict` at level 0."""
        with self._precision():
            x = self.network.decode_level(level, features, below, context)
            return (self.network.predict(x) if level == 0 else x).float()


@contextmanager
def threads_for(engine: Engine) -> Iterator[None]:
    """Context that sets torch's number of threads for an engine and its workers.

    Each worker gets its share of the cores. If the engine has its own threads, torch gets one: it
    then only copies tiles, and its idle threads would spin and compete for the cores.

    The number of torch's threads is global to the process, so this is for programs that own their
    process, such as the command line.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if engine.own_threads else engine.threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fastest_format(device: torch.device) -> torch.memory_format:
    """The fastest memory format of convolutions on a device."""
    # On Apple's GPUs, convolutions of a slice of the channels of a channels-last tensor were wrong,
    # see pytorch/pytorch#180984.
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def to_device(network: Network, device: torch.device) -> Network:
    """Move a network to a device, in its fastest memory format there. In place."""
    moved: Network = network.to(  # type: ignore[call-overload]
        device, memory_format=fastest_format(device)
    )
    return moved


Runnable = DeblurNetwork | Engine
"""An engine, or a network, which torch then runs."""


def as_engine(model: Runnable) -> Engine:
    """An engine unchanged, or a `TorchEngine` for a network."""
    return model if isinstance(model, Engine) else TorchEngine(model)
