"""Cost of a frame by the size of the window that contributes to it.

python benchmarks/windows.py                # 300 frames of 640x360, windows 1 5 31 301 all
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from unsmear.allocator import return_freed_memory
from unsmear.arguments import weights_named
from unsmear.deploy.bench import panning_frames
from unsmear.deploy.records import WindowRecord, WindowTime, window_lines
from unsmear.engines import EngineName
from unsmear.engines.base import threads_for
from unsmear.engines.choice import open_model
from unsmear.errors import ConfigError
from unsmear.evaluate.origin import origin_of
from unsmear.evaluate.programs import at_least, parser_for, run_program
from unsmear.evaluate.records import record_as_json
from unsmear.outputs import check_file, write_text
from unsmear.restoration.store import open_store
from unsmear.restoration.stream import Window, describe_scenes, parse_window, restore_stream


def measured(
    model: str, engine: EngineName, frames: Sequence[Tensor], window: Window
) -> WindowTime:
    """Restore the frames with a window, as the command line does."""
    ready = open_model(model, "cpu", engine, side_by_side=True).engine
    with ExitStack() as stack:
        stack.enter_context(threads_for(ready))
        began = time.perf_counter()
        # On the output disk, as in `unsmear`: the temporary folder may be in memory.
        store = open_store(stack, Path.cwd(), ready.device) if window == "all" else None
        scenes = describe_scenes(ready, frames, store=store) if window == "all" else ()
        watched = time.perf_counter()
        for _ in restore_stream(ready, frames, window, scenes=scenes, store=store):
            pass
        done = time.perf_counter()
    return WindowTime(window, (watched - began) / len(frames), (done - watched) / len(frames))


def parse_size(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT.

    Raises:
        ConfigError: it has another form, or a side is 0.
    """
    match = re.fullmatch(r"([0-9]+)x([0-9]+)", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise ConfigError(f"size is '{text}': use WIDTHxHEIGHT, such as 640x360")
    return int(match[1]), int(match[2])


def main() -> None:
    """Measure and print a table."""
    parser = parser_for(__doc__)
    parser.add_argument("windows", nargs="*", default=["1", "5", "31", "301", "all"])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--model", default="lite")
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--json", type=Path, help="also write the record there")
    arguments = parser.parse_args()
    windows = [parse_window(text) for text in arguments.windows]
    width, height = parse_size(arguments.size)
    at_least(1, frames=arguments.frames)
    if arguments.json:
        check_file(arguments.json, inputs=[weights_named(arguments.model)])
    return_freed_memory()
    frames = panning_frames(arguments.frames, width, height)
    rows = [measured(arguments.model, arguments.engine, frames, w) for w in windows]
    record = WindowRecord(
        arguments.model, arguments.engine, width, height, len(frames), tuple(rows),
        origin_of(torch.device("cpu")),
    )  # fmt: skip
    print("\n".join(window_lines(record)))
    if arguments.json:
        write_text(arguments.json, record_as_json(record))


if __name__ == "__main__":
    sys.exit(run_program(main))
