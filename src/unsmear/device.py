"""Choice of the device; number of cores and threads, memory, CPU features."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from unsmear.errors import ConfigError

if TYPE_CHECKING:
    import torch

_MOST_THREADS = 4096


def usable_cores() -> int:
    """Number of CPU cores that this process may use. Under `taskset`, in containers and under
    schedulers that assign cores, these can be fewer than the machine has.
    """
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_threads(count: int) -> None:
    """Raise ConfigError if a number of CPU threads is not from 1 to 4,096. With far more than the
    system can start, libraries end the process.
    """
    if not 1 <= count <= _MOST_THREADS:
        raise ConfigError(f"threads is {count}: must be from 1 to {_MOST_THREADS:,}")


def use_threads(count: int) -> None:
    """Have torch compute with this many CPU threads.

    Raises:
        ConfigError: see `check_threads`.
    """
    check_threads(count)
    import torch

    torch.set_num_threads(count)


def physical_memory() -> int | None:
    """Memory of the machine in bytes; None if the system does not report it."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no sysconf on Windows; names vary elsewhere
        return None
    return found if found > 0 else None


def has_bfloat16() -> bool:
    """Whether the CPU has bfloat16 instructions (AVX-512 BF16, AMX); False if torch cannot tell."""
    import torch

    told: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.10
    return any(told.get(name) is True for name in ("avx512_bf16", "amx_bf16"))


def pick_device(name: str, *, trains: bool = False) -> torch.device:
    """Resolve `auto`, `cpu`, `cuda`, `cuda:1` or `mps` to an available device.

    `auto` takes a CUDA GPU, otherwise an Apple GPU, otherwise the CPU.

    Args:
        name: of the device.
        trains: for training; `auto` then skips Apple GPUs, where only recent versions of torch have
            all the gradients that are needed.

    Raises:
        ConfigError: unknown name, or no such device on this machine.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        apple = not trains and torch.backends.mps.is_available()
        return torch.device("mps" if apple else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"unknown device '{name}': use auto, cpu, cuda, cuda:N or mps")
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }[device.type]
    if not present:
        raise ConfigError(f"device '{name}' is not available on this machine: use auto or cpu")
    return device
