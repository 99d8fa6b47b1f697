"""Explicit random generators: the same seed gives the same data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass
class Generators:
    """Two explicit random generators: one for choices on the host, one for noise on the device."""

    host: torch.Generator
    device: torch.Generator

    @classmethod
    def seeded(cls, seed: int, device: torch.device) -> Generators:
        """Both generators from one seed."""
        return cls(
            torch.Generator().manual_seed(seed),
            torch.Generator(device=device).manual_seed(seed + 1),
        )

    @classmethod
    def of_shard(cls, seed: int, step: int, shard: int, device: torch.device) -> Generators:
        """The generators of one shard of one training step. Any process can make them any time."""
        host, noise = np.random.SeedSequence((seed, step, shard)).generate_state(2, np.uint64)
        return cls(
            torch.Generator().manual_seed(int(host)),
            torch.Generator(device=device).manual_seed(int(noise)),
        )

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform random numbers on the host."""
        return low + (high - low) * torch.rand(shape, generator=self.host)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Random numbers on the host whose logarithm is uniform; low and high are above 0."""
        return torch.exp(self.uniform(math.log(low), math.log(high), *shape))

    def chance(self, share: float) -> bool:
        """True with the given probability."""
        return bool(torch.rand((), generator=self.host) < share)

    def index(self, count: int) -> int:
        """A random integer from 0 to count - 1."""
        return int(torch.randint(count, (), generator=self.host))
