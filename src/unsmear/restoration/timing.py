"""Time to restore a clip on this machine, measured on its first frames."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

from torch import Tensor

from unsmear.engines.choice import OpenedModel
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.stream import frames_after, restore_stream
from unsmear.restoration.stretch import open_reader

_TIMED = 4  # frames
_PATIENCE = 15.0  # seconds; after that, fewer frames are timed


@dataclass(frozen=True)
class TimeEstimate:
    """Time to restore a clip on this machine, with decoding, without encoding.

    Attributes:
        per_frame: seconds, of the fastest and the slowest frame timed.
        total: seconds for all frames, likewise; None if their number is unknown.
    """

    per_frame: tuple[float, float]
    total: tuple[float, float] | None


def expected_time(
    source: Path, model: OpenedModel, frames: int | None, *, deinterlace: bool = False
) -> TimeEstimate:
    """Restore the first few frames of a clip at full size, with default quality, and time them.

    Args:
        source: video file, or folder of images.
        model: on the device to use.
        frames: number of frames in the whole clip, None if unknown.
        deinterlace: deinterlace the video first.

    Raises:
        InputError: the source cannot be read.
    """
    # In frames; after that, each input frame yields one result.
    latency = frames_after(model.engine, model.window, QualityOptions())
    began = time.perf_counter()
    taken = 0
    stamps: list[tuple[int, float]] = []
    with ExitStack() as stack:
        reader = open_reader(source, stack, deinterlace=deinterlace)

        def pictures() -> Iterator[Tensor]:
            nonlocal taken
            for frame in islice(reader, latency + 1 + _TIMED):
                taken += 1
                yield frame.rgb

        stream = restore_stream(model.engine, pictures(), model.window, quality=QualityOptions())
        for restored in stream:
            restored.cpu()  # waits for the GPU
            stamps.append((taken, time.perf_counter()))
            if len(stamps) > 1 and time.perf_counter() - began > _PATIENCE:
                break
    steady = [
        after - before for (had, before), (have, after) in pairwise(stamps) if have == had + 1
    ]
    steady = steady or [(stamps[-1][1] - began) / len(stamps)]  # a clip of a few frames
    each = (min(steady), max(steady))
    return TimeEstimate(each, None if frames is None else (frames * each[0], frames * each[1]))
