from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from unsmear.errors import ConfigError

PROGRAM = """
import sys
from unsmear.allocator import return_freed_pages

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

blocks = [bytearray(60_000) for _ in range(4000)]  # below every threshold: on the heap
for block in blocks:
    block[::4096] = bytes(len(block[::4096]))
kept = blocks[-1]  # the top stays in use, so that nothing goes back by itself
del blocks[:-1], block
before = resident()
return_freed_pages()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is tuned on Linux alone")
def test_freed_pages_go_back_although_the_top_of_the_heap_is_in_use():
    from unsmear import allocator

    if getattr(allocator.ctypes.CDLL(None), "malloc_trim", None) is None:
        pytest.skip("this C library has no malloc_trim")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) > 100_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_peak_counts_what_is_given_back():
    from unsmear.allocator import peak_memory_of

    size = 40_000_000

    def work():
        # Not from the heap, which may hold as much memory that earlier tests have freed.
        with mmap.mmap(-1, size) as pages:
            for start in range(0, size, mmap.PAGESIZE):
                pages[start] = 1

    assert size - 2_000_000 < peak_memory_of(work) < size + 4_000_000
    assert peak_memory_of(lambda: None) < 2_000_000


def test_where_the_peak_is_not_told_it_is_said(monkeypatch):
    from unsmear import allocator

    monkeypatch.setattr(allocator, "Path", lambda _: Path("nowhere"))
    with pytest.raises(ConfigError, match="measured on Linux"):
        allocator.peak_memory_of(lambda: None)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_is_touched(monkeypatch, platform):
    from unsmear import allocator

    monkeypatch.setattr(allocator.sys, "platform", platform)
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # calling it would fail
    allocator.return_freed_memory()
    allocator.keep_freed_memory()
    allocator.return_freed_pages()
