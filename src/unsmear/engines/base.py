"""The interface of all engines, and the one that is always there: torch.

An engine runs the levels of a network, which are convolutions and what a pixel takes from the
context: local, and nearly all of the work. What spans a frame or the window (the descriptors and
their sums) is torch's in every engine, and in float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from unsmear.models.network import DeblurNetwork


class Engine(ABC):
    """Runs the levels of a network.

    Attributes:
        name: as users type it.
        network: whose levels are run; in evaluation mode, on the device of the work.
        memory_format: of the features that it takes without copying.
        own_threads: it does not work in torch's threads.
        workers: that call it at a time.
        threads: of the processor for each of them.
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
        """Where tensors go in and come out."""
        return next(self.network.parameters()).device

    @property
    def identity(self) -> str:
        """Name and version of everything that decides the last bits, but for the network."""
        return f"{self.name} {torch.__version__}"

    @abstractmethod
    def encode_level(self, level: int, x: Tensor) -> Tensor:
        """As `DeblurNetwork.encode_level`."""

    @abstractmethod
    def decode_level(
        self, level: int, features: Tensor, below: Sequence[Tensor], context: Tensor | None
    ) -> Tensor:
        """As `DeblurNetwork.decode_level`; at level 0 followed by `predict`, so that what comes
        out is the change to the frame, (B, 3, H, W).
        """


class TorchEngine(Engine):
    """Runs a network as it is.

    Args:
        network: in evaluation mode.
        half: convolutions in half precision: bfloat16 on a CPU, float16 elsewhere. What leaves a
            level, the attention's softmax and its sums stay in float32, and so do the frames, to
            which the network adds. A gain on CPUs with instructions for it (AMX, AVX-512 BF16);
            others may lose (`unsmear bench` tells). On a GPU it was not measured.
        workers: that call it at a time.
    """

    def __init__(self, network: DeblurNetwork, *, half: bool = False, workers: int = 1) -> None:
        super().__init__(network, workers)
        if self.device.type != "mps":  # see `unsmear.engines.trial.laid_out`
            self.memory_format = torch.channels_last
        self.name = "torch-half" if half else "torch"
        # float16 holds 11 bits of a number, bfloat16 8; but hardly a CPU computes in float16.
        self._dtype = torch.bfloat16 if self.device.type == "cpu" else torch.float16
        self._half = half

    def _precision(self) -> torch.autocast:
        """For one call: it keeps what to go back to, which is another thing in each thread."""
        return torch.autocast(self.device.type, self._dtype, enabled=self._half)

    def encode_level(self, level: int, x: Tensor) -> Tensor:
        """As `DeblurNetwork.encode_level`."""
        with self._precision():
            return self.network.encode_level(level, x).float()

    def decode_level(
        self, level: int, features: Tensor, below: Sequence[Tensor], context: Tensor | None
    ) -> Tensor:
        """As `DeblurNetwork.decode_level`, with `predict` at level 0."""
        with self._precision():
            x = self.network.decode_level(level, features, below, context)
            return (self.network.predict(x) if level == 0 else x).float()


@contextmanager
def cores_left_to(engine: Engine) -> Iterator[None]:
    """Let an engine's workers have the cores. One with threads of its own gets all of them:
    torch, which then only moves tiles about, would have its threads spin beside them after each
    move. For programs whose process is theirs, such as the command line: the number of torch's
    threads is the whole process's.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if engine.own_threads else engine.threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


Runnable = DeblurNetwork | Engine
"""What restores: a network, which torch then runs, or an engine."""


def as_engine(model: Runnable) -> Engine:
    """An engine as it is; a network in torch."""
    return model if isinstance(model, Engine) else TorchEngine(model)
