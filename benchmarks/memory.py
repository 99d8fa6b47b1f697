"""Peak memory and time of restoring a video, and whether they depend on its length.

Restores clips of several sizes and lengths, each in its own process, and asks the operating system.

    python benchmarks/memory.py                          # 360p to 4K, about half an hour
    python benchmarks/memory.py 1280x720:60 1280x720:600
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from unsmear.arguments import weights_named
from unsmear.deploy.bench import write_panning_clip
from unsmear.deploy.records import ClipRun, MemoryRecord, memory_lines
from unsmear.errors import ConfigError, UnsmearError
from unsmear.evaluate.origin import origin_of
from unsmear.evaluate.programs import parser_for, run_program
from unsmear.evaluate.records import record_as_json
from unsmear.outputs import check_file, write_text

CASES = (
    "640x360:100", "640x360:1000", "1280x720:60", "1280x720:600", "1920x1080:30", "3840x2160:8",
)  # fmt: skip


class Case(NamedTuple):
    """A clip to restore."""

    width: int
    height: int
    frames: int

    @classmethod
    def parse(cls, text: str) -> Case:
        """Parse WIDTHxHEIGHT:FRAMES."""
        match = re.fullmatch(r"(\d+)x(\d+):(\d+)", text)
        if match is None:
            raise argparse.ArgumentTypeError(f"'{text}': use WIDTHxHEIGHT:FRAMES")
        case = cls(*(int(part) for part in match.groups()))
        if min(case) < 1:
            raise argparse.ArgumentTypeError(f"'{text}': at least 1x1:1")
        return case


def mebibytes(peak: int) -> float:
    """Convert the operating system's peak, in KiB (on macOS in bytes), to MiB."""
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def restore(folder: Path, case: Case, options: Sequence[str]) -> ClipRun:
    """Run the command line on a clip, and measure its peak memory and time."""
    source, target = folder / "clip.mp4", folder / "sharp.mp4"
    write_panning_clip(source, case.frames, case.width, case.height)
    command = [sys.executable, "-m", "unsmear", str(source), "-o", str(target), "--overwrite"]
    command += ["--device", "cpu", *options]
    if not hasattr(os, "wait4"):
        raise ConfigError("peak memory cannot be measured on Windows, which has no wait4")
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise UnsmearError(f"{' '.join(command)} failed: it says above why")
    return ClipRun(*case, mebibytes(usage.ru_maxrss), time.monotonic() - began)


def main() -> None:
    """Measure and print a table."""
    parser = parser_for(__doc__)
    parser.add_argument("cases", nargs="*", type=Case.parse, default=[Case.parse(c) for c in CASES])
    parser.add_argument("--model", default="lite")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--ensemble", type=int, default=1, help="views of each frame")
    parser.add_argument("--refine", type=int, default=0, help="times over its own results")
    parser.add_argument("--json", type=Path, help="also write the record there")
    arguments = parser.parse_args()
    if arguments.json:
        check_file(arguments.json, inputs=[weights_named(arguments.model)])
    options = ["-m", arguments.model, "--engine", arguments.engine]
    options += ["--ensemble", str(arguments.ensemble), "--refine", str(arguments.refine)]
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for case in sorted(arguments.cases):  # the shorter clip first
            runs.append(restore(Path(folder), case, options))
            print(runs[-1], file=sys.stderr, flush=True)
    record = MemoryRecord(
        arguments.model, arguments.engine, tuple(runs), origin_of(torch.device("cpu")),
        arguments.ensemble, arguments.refine,
    )  # fmt: skip
    print("\n".join(memory_lines(record)))
    if arguments.json:
        write_text(arguments.json, record_as_json(record))


if __name__ == "__main__":
    sys.exit(run_program(main))
