"""Settings of the memory allocator for the two kinds of long work. The command line makes them:
the process is ours to tune there, which it is not when Unsmear is used as a library. And how much
memory a piece of work takes.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

from unsmear.errors import ConfigError


def hand_memory_back() -> None:
    """Have glibc give the largest features of a frame back as soon as they are freed.

    Left alone it raises its threshold to 32 MB, and blocks of changing age fragment the heap:
    the peak then creeps up with the length of the video. A lower threshold than this costs
    speed: at 1 MB a third of the time goes into page faults. What lies free at the end of the heap
    is kept, up to a limit, or each tile would fault its pages in anew. All threads share one heap:
    what a worker frees the other takes.
    """
    _tune(mmap_threshold=16 << 20, trim_threshold=128 << 20, most_heaps=1)


def return_freed_pages() -> None:
    """Give back to the system whatever pages of the heap lie free between blocks in use.

    Called every few frames it keeps fragmentation from growing with the length of a video; it
    takes milliseconds.
    """
    if sys.platform == "linux":
        malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if malloc_trim is not None:
            malloc_trim(0)


def keep_freed_memory() -> None:
    """Have glibc keep what it has: training frees and takes the same blocks at every step, and
    page faults would take a quarter of its time on a CPU. Measuring is no different.
    """
    _tune(mmap_threshold=32 << 20, trim_threshold=1 << 30)  # the most it takes


def peak_taken(work: Callable[[], object]) -> int:
    """Bytes of resident memory that work takes at its peak beyond what this process has before it;
    best called in a process of its own.

    Raises:
        ConfigError: the system is not Linux, and does not tell.
    """
    own = Path("/proc/self")
    if not (own / "clear_refs").exists():
        raise ConfigError(
            "peak memory can be measured on Linux only: there is no /proc/self/clear_refs"
        )
    (own / "clear_refs").write_text("5")  # the peak counts from here

    def resident(name: str) -> int:
        lines = (own / "status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

    before = resident("VmRSS")
    work()
    return max(resident("VmHWM") - before, 0)


def _tune(*, mmap_threshold: int, trim_threshold: int, most_heaps: int | None = None) -> None:
    """Set glibc's thresholds in bytes and how many heaps threads have, where there is glibc."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8  # malloc.h
        mallopt(m_mmap_threshold, mmap_threshold)
        mallopt(m_trim_threshold, trim_threshold)
        if most_heaps is not None:
            mallopt(m_arena_max, most_heaps)
