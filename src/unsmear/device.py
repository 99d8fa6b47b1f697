"""Which device to work on, how many cores, and how much memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from unsmear.errors import ConfigError

if TYPE_CHECKING:
    import torch


def usable_cores() -> int:
    """Of a CPU, those that this process may work on: fewer than there are under `taskset`, in
    containers, and where a scheduler hands them out.
    """
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_memory() -> int | None:
    """Bytes that the machine has; None where the system does not say."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no such call, others no such name
        return None
    return found if found > 0 else None


def has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16 (AVX-512 BF16, AMX), as far as torch says."""
    import torch

    told: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 and on
    return any(told.get(name) is True for name in ("avx512_bf16", "amx_bf16"))


def pick_device(name: str, *, trains: bool = False) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1` or `mps` into a device that is there.

    `auto` takes a CUDA GPU, else Apple's, else the CPU.

    Args:
        name: of the device.
        trains: to train on: `auto` then passes over Apple's, on which torch has learned only lately
            to differentiate all that is needed.

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
    except RuntimeError:
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
