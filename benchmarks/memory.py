"""Does peak memory grow with the length of a video? Restores a short and a long one, each in a
process of its own, and compares what the operating system counted.

    python benchmarks/memory.py                 # 60 and 600 frames of 1280x720
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

from unsmear.clip import ClipInfo, ColorTags
from unsmear.video.color import planes_from_rgb
from unsmear.video.writer import VideoWriter

TAGS = ColorTags(matrix=1, primaries=1, transfer=1, full_range=False)


def write_panning_clip(path: Path, frames: int, width: int, height: int) -> None:
    """A camera that pans over a smooth random picture."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, height // 16, width // 8, generator=generator)
    scene = torch.nn.functional.interpolate(coarse, (height, 2 * width), mode="bicubic")[0]
    info = ClipInfo(
        width=width, height=height, frames=frames, rate=Fraction(30), time_base=Fraction(1, 30),
        tags=TAGS,
    )  # fmt: skip
    with VideoWriter(path, info, width) as writer:
        for index in range(frames):
            left = index * width // frames
            picture = scene[..., left : left + width].clamp(0, 1)
            writer.write(planes_from_rgb(picture, TAGS), Fraction(index, 30))
        writer.commit()


@dataclass(frozen=True)
class Run:
    """One restored video: frames, peak resident memory in MiB, seconds of wall clock."""

    frames: int
    peak: float
    seconds: float


def restore(source: Path, frames: int, model: str) -> Run:
    """Run the command line and ask the operating system for its peak memory."""
    target = source.with_suffix(".sharp.mp4")
    command = [sys.executable, "-m", "unsmear", str(source), "-o", str(target), "-m", model]
    began = time.monotonic()
    process = subprocess.Popen([*command, "--device", "cpu"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return Run(frames, usage.ru_maxrss / 1024, time.monotonic() - began)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, nargs=2, default=(60, 600))
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--model", default="lite")
    arguments = parser.parse_args()
    width, height = (int(value) for value in arguments.size.split("x"))
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in arguments.frames:
            source = Path(folder) / f"{frames}.mp4"
            write_panning_clip(source, frames, width, height)
            runs.append(restore(source, frames, arguments.model))
    print(f"{arguments.model}, {arguments.size}, torch {torch.__version__}, CPU")
    for run in runs:
        print(
            f"{run.frames:>6} frames: peak {run.peak:8.1f} MiB, {run.seconds:7.1f} s, "
            f"{run.frames / run.seconds:.2f} frames/s with start and codec"
        )
    print(f"peak of the long one / peak of the short one: {runs[1].peak / runs[0].peak:.4f}")


if __name__ == "__main__":
    main()
