"""Settings of the memory allocator for long videos and for training; measurement of peak memory.

Only programs change these settings (the command line, comparisons, benchmarks). They affect the
whole process, which is not ours when Unsmear is used as a library.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

from unsmear.errors import ConfigError


def return_freed_memory() -> None:
    """Have glibc return the largest features of a frame to the system as soon as they are freed.

    By default glibc raises its mmap threshold to 32 MB, and blocks of different lifetimes fragment
    the heap: peak memory then grows with the length of the video. A lower threshold than this one
    costs speed: at 1 MB a third of the time is spent on page faults. Free memory at the end of the
    heap is kept, up to a limit; otherwise each tile would fault in its pages again. All threads
    share one heap, so workers reuse each other's memory.
    """
    _tune(mmap_threshold=16 << 20, trim_threshold=128 << 20, most_heaps=1)


def return_freed_pages() -> None:
    """Return free pages of the heap, also those between blocks in use, to the system.

    Called every few frames, this stops fragmentation from growing with the length of the video. It
    takes milliseconds.
    """
    if malloc_trim := _of_glibc("malloc_trim"):
        malloc_trim(0)


def keep_freed_memory() -> None:
    """Have glibc keep freed memory: training frees and allocates the same blocks in every step, and
    page faults would take a quarter of its time on a CPU. The same holds for evaluation.
    """
    _tune(mmap_threshold=32 << 20, trim_threshold=1 << 30)  # 32 MiB: the maximum of glibc


def peak_memory_of(work: Callable[[], object]) -> int:
    """Peak resident memory of `work`, in bytes, beyond what the process uses before; best called in
    a process of its own.

    Raises:
        ConfigError: the system is not Linux.
    """
    own = Path("/proc/self")
    if not (own / "clear_refs").exists():
        raise ConfigError(
            "peak memory can be measured on Linux only: there is no /proc/self/clear_refs"
        )
    (own / "clear_refs").write_text("5")  # resets the peak, VmHWM

    def resident(name: str) -> int:
        lines = (own / "status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

    before = resident("VmRSS")
    work()
    return max(resident("VmHWM") - before, 0)


def _tune(*, mmap_threshold: int, trim_threshold: int, most_heaps: int | None = None) -> None:
    """Set glibc's thresholds in bytes and its maximum number of heaps; no effect elsewhere."""
    if mallopt := _of_glibc("mallopt"):
        m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8  # malloc.h
        mallopt(m_mmap_threshold, mmap_threshold)
        mallopt(m_trim_threshold, trim_threshold)
        if most_heaps is not None:
            mallopt(m_arena_max, most_heaps)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None where the C library lacks it, such as musl, and beyond Linux."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
