"""What a frame costs by the length of the window that contributes to it.

python benchmarks/windows.py                # 300 frames of 640x360, windows 1 5 31 301 all
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from unsmear.engines.choice import open_model
from unsmear.restoration.stream import Window, describe_scenes, parse_window, restore_stream


def panning_frames(count: int, width: int, height: int) -> list[Tensor]:
    """Views of a smooth random picture, (3, H, W) each, sharing its memory."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, height // 16, width // 8, generator=generator)
    scene = torch.nn.functional.interpolate(coarse, (height, 2 * width), mode="bicubic")[0]
    lefts = [index * width // count for index in range(count)]
    return [scene[..., left : left + width].clamp(0, 1) for left in lefts]


def seconds_of(model: str, frames: Sequence[Tensor], window: Window) -> tuple[float, float]:
    """Seconds a frame of the first pass (0 where there is none) and of the restoring one."""
    network = open_model(model, "cpu", "torch").network
    began = time.perf_counter()
    scenes = describe_scenes(network, frames) if window == "all" else ()
    watched = time.perf_counter()
    for _ in restore_stream(network, frames, window, scenes=scenes):
        pass
    done = time.perf_counter()
    return (watched - began) / len(frames), (done - watched) / len(frames)


def main() -> None:
    """Measure and print a table, ratios to the first window."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("windows", nargs="*", type=parse_window, default=[1, 5, 31, 301, "all"])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--model", default="lite")
    arguments = parser.parse_args()
    width, height = (int(value) for value in arguments.size.split("x"))
    frames = panning_frames(arguments.frames, width, height)
    print(f"{arguments.model}, {arguments.frames} frames of {arguments.size}, torch "
          f"{torch.__version__}, {torch.get_num_threads()} threads, CPU")  # fmt: skip
    print("| window | first pass ms a frame | restoring ms a frame | in all, times the first row |")
    print("|---|---|---|---|")
    base: float | None = None
    for window in arguments.windows:
        watching, restoring = seconds_of(arguments.model, frames, window)
        base = base or watching + restoring
        print(f"| {window} | {1e3 * watching:.0f} | {1e3 * restoring:.0f} "
              f"| {(watching + restoring) / base:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
