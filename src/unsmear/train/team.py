"""Training in one process or many: processes started by torchrun work as one, on any number of GPUs
or CPU cores.

A batch is drawn in equal shards, each with its own random generators, and the processes share the
shards: the same configuration gives the same training for any number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from unsmear.errors import ConfigError

Item = TypeVar("Item")

# Others wait while one process measures a longer sequence, or the main one writes. If a process
# ends, torchrun ends the others at once.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Team:
    """The processes that train together.

    Attributes:
        rank: of this process. Process 0 is the main one: it reports and writes files.
        size: number of processes. With 1, every method is the identity.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process reports and writes files."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items that this process works on."""
        return items[self.rank :: self.size]

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors, in place, with those of the main process."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, in place, by their means over the team. They are sent in one message:
        between GPUs the number of messages takes the time. DistributedDataParallel would send them
        during the backward pass, which could then not be recorded (`unsmear.train.stepper`) nor be
        summed from parts.
        """
        if self.size == 1 or not tensors:
            return
        message = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(message)
        parts = (message / self.size).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def mean(self, values: Tensor) -> Tensor:
        """Mean of each value over the team."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values / self.size

    def gather(self, own: Sequence[Item]) -> list[Item]:
        """Collect the results of all processes, in the order that `share` divided."""
        if self.size == 1:
            return list(own)
        parts: list[Sequence[Item]] = [()] * self.size
        distributed.all_gather_object(parts, own)
        total = sum(len(part) for part in parts)
        return [parts[index % self.size][index // self.size] for index in range(total)]

    def any(self, said: bool) -> bool:
        """Whether it is true in any process."""
        if self.size == 1:
            return said
        where = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        count = torch.tensor(float(said), device=where)
        distributed.all_reduce(count)
        return bool(count)

    def check_same(self, value: object, what: str, remedy: str) -> None:
        """Raise ConfigError if a value differs between processes, as it may on several machines
        with separate disks.
        """
        values: list[object] = [value] * self.size
        if self.size > 1:
            distributed.all_gather_object(values, value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise ConfigError(
                    f"the processes disagree on {what}: {values[0]} in process 0, {other} in "
                    f"process {rank}; {remedy}"
                )


def launched_team() -> Team:
    """The team that torchrun started, before `join_team`; a single process without torchrun."""
    rank, size = (os.environ.get(name) for name in ("RANK", "WORLD_SIZE"))
    return Team(int(rank or 0), int(size or 1))


def local_team() -> Team:
    """The processes of the team on this machine."""
    rank, size = (os.environ.get(name) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    team = launched_team()
    return Team(int(rank or team.rank), int(size or team.size))


@contextmanager
def join_team(device: torch.device) -> Iterator[tuple[Team, torch.device]]:
    """Connect the processes that torchrun started; a single process without torchrun.

    Args:
        device: where to work; `cuda` without an index becomes each process's own GPU.

    Yields:
        The team and the device of this process.

    Raises:
        ConfigError: there are more processes than GPUs.
    """
    size = launched_team().size
    if size == 1:
        yield Team(), device
        return
    if device.type == "cuda":
        index = local_team().rank
        if index >= torch.cuda.device_count():
            raise ConfigError(
                f"process {index} has no GPU: there are {torch.cuda.device_count()}; start as "
                "many processes as GPUs"
            )
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    yield Team(distributed.get_rank(), size), device
    # Not after an error: NCCL would wait for the other processes, which wait for this one.
    distributed.destroy_process_group()
