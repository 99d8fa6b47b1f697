"""Features of the first pass over a video, kept on disk so that the second can reuse them."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

MOST_KEPT = 8 << 30  # bytes: 190 frames of 720p with `core`, 770 of 360p
_SHARE_OF_DISK = 0.25  # of the free space, which the result needs too
# Frames behind the write or read position that may stay in the page cache. Gigabytes would evict
# everything else, and fresh pages are slow on a virtual machine: 28 ms for 10 MB instead of 3.
_CACHED = 3
# Bytes of a frame up to which it is read ahead. One more frame of 4K (398 MB with `core`) would
# matter.
_LARGEST_AHEAD = 128 << 20


@dataclass(frozen=True)
class _Layout:
    """Shape and strides of one tensor in the file."""

    shape: torch.Size
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        return 4 * self.shape.numel()


class FeatureStore:
    """Features of the first frames of a clip, as many as there is room for. Created by `opened`.

    Features come back bit-exact and in the same memory format.

    Args:
        file: open for reading and writing, unbuffered, empty.
        most_bytes: maximum size of the file.
        thread: reads one frame ahead.
    """

    def __init__(self, file: io.FileIO, most_bytes: int, thread: ThreadPoolExecutor) -> None:
        self._file = file
        self._thread = thread
        self._coming: tuple[int, Future[tuple[Tensor, ...] | None]] | None = None
        self._most = most_bytes
        self._layouts: list[tuple[_Layout, ...]] = []  # of the tensors of each frame
        self._offsets = [0]  # where each frame begins in the file, and where the last one ends
        self._full = False

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, most_bytes: int | None = None) -> Iterator[FeatureStore]:
        """Open a store in an unnamed file, which disappears with the process, however it ends.

        Args:
            folder: where the file is created.
            most_bytes: default: `MOST_KEPT`, or a quarter of the free space if that is less.

        Raises:
            OSError: the folder cannot be written to.
        """
        if most_bytes is None:
            most_bytes = min(MOST_KEPT, int(_SHARE_OF_DISK * shutil.disk_usage(folder).free))
        with (
            tempfile.TemporaryFile(dir=folder, buffering=0) as file,
            ThreadPoolExecutor(1, thread_name_prefix="unsmear-store") as thread,
        ):
            yield cls(file, most_bytes, thread)

    def __len__(self) -> int:
        """Number of frames kept: those with numbers below it."""
        return len(self._layouts)

    def put(self, features: Sequence[Tensor]) -> None:
        """Keep the features of the next frame. Once the store or the disk is full, neither this
        frame nor any later one is kept.

        Args:
            features: (B, C, H, W) each, float32, on the CPU.
        """
        features = [x if _is_dense(x) else x.contiguous() for x in features]
        layouts = tuple(_Layout(x.shape, x.stride()) for x in features)
        start = self._offsets[-1]
        end = start + sum(layout.size for layout in layouts)
        if self._full or end > self._most:
            self._full = True
            return
        try:
            self._file.seek(start)
            for x, layout in zip(features, layouts, strict=True):
                left = x.as_strided((layout.shape.numel(),), (1,)).numpy().data.cast("B")
                while left:
                    left = left[self._file.write(left) :]
        except OSError:  # the disk is full: the second pass encodes the rest again
            self._full = True
            return
        self._offsets.append(end)
        self._layouts.append(layouts)
        # On dirty pages, the first call only starts the write; a later one evicts them.
        self._advise("DONTNEED", len(self) - 3 * _CACHED, len(self) - _CACHED)

    def get(self, number: int) -> tuple[Tensor, ...] | None:
        """Features of a frame by its number, from 0; None if they were not kept or cannot be
        read.
        """
        if number >= len(self):
            return None
        coming, self._coming = self._coming, None
        if coming is not None and coming[0] == number:
            found = coming[1].result()
        else:
            if coming is not None:
                coming[1].result()  # wait: the file has a single position
            found = self._read(number)
        if number + 1 < len(self) and self._extent(number + 1, number + 2)[1] <= _LARGEST_AHEAD:
            self._coming = (number + 1, self._thread.submit(self._read, number + 1))
        return found

    def _read(self, number: int) -> tuple[Tensor, ...] | None:
        self._advise("WILLNEED", number + 1, number + 2)
        found = []
        try:
            self._file.seek(self._offsets[number])
            for layout in self._layouts[number]:
                flat = torch.empty(layout.shape.numel(), dtype=torch.float32)
                left = flat.numpy().data.cast("B")
                while left:
                    count = self._file.readinto(left)
                    if not count:
                        return None
                    left = left[count:]
                found.append(flat.as_strided(layout.shape, layout.strides))
        except OSError:
            return None
        self._advise("DONTNEED", number - _CACHED, number + 1)
        return tuple(found)

    def _extent(self, first: int, end: int) -> tuple[int, int]:
        """Offset and size in bytes of frames from `first` to before `end`."""
        start = self._offsets[first]
        return start, self._offsets[end] - start

    def _advise(self, advice: Literal["DONTNEED", "WILLNEED"], first: int, end: int) -> None:
        """Advise the system on its page cache for frames from `first` to before `end`."""
        first, end = max(first, 0), min(end, len(self))
        if first >= end or not hasattr(os, "posix_fadvise"):  # not on macOS and Windows
            return
        start, size = self._extent(first, end)
        with suppress(OSError):
            os.posix_fadvise(self._file.fileno(), start, size, getattr(os, f"POSIX_FADV_{advice}"))


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)


def open_store(stack: ExitStack, folder: Path, device: torch.device) -> FeatureStore | None:
    """Open a store that lives as long as the stack. None if the file cannot be created, and on a
    GPU, which encodes faster than a disk reads.
    """
    if device.type != "cpu":
        return None
    with suppress(OSError):
        return stack.enter_context(FeatureStore.opened(folder))
    return None
