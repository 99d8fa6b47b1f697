"""What the factorisation saves: the paper's attention against a dense non-local block (Wang et
al. 2018, softmax over all pixels of all frames) on the same features, for one current frame.

    python benchmarks/attention.py

Every case runs in a process of its own; memory is what it takes beyond its features and weights.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from unsmear.errors import UnsmearError
from unsmear.evaluate.programs import answer, at_least
from unsmear.models.attention import FactorizedAttention

GIB = 1 << 30
# T, H, W of the features: pixels grow at T = 5, then frames at one size.
SIZES = (
    (5, 16, 16), (5, 23, 23), (5, 32, 32), (5, 45, 45), (5, 64, 64), (5, 90, 90),
    (1, 45, 45), (2, 45, 45), (10, 45, 45), (20, 45, 45),
)  # fmt: skip
TARGET = (5, 180, 320)  # a window of five frames of 720p at a quarter of their size

KILLED = (-9, 137)  # by SIGKILL; as a shell tells it
_NO_MEMORY = re.compile(
    "MemoryError|out of memory|allocate memory|not enough memory|bad_alloc", re.IGNORECASE
)


class DenseNonLocal(nn.Module):
    """Every pixel of the current frame weighs every pixel of every frame: T * (H*W)**2 weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.query = nn.Conv2d(channels, inner, kernel_size=1)
        self.key = nn.Conv2d(channels, inner, kernel_size=1)
        self.value = nn.Conv2d(channels, inner, kernel_size=1)
        self.out = nn.Conv2d(inner, channels, kernel_size=1)

    def forward(self, frames: Tensor, current: int) -> Tensor:
        """Features (T, C, H, W) -> of the current frame (1, C, H, W)."""
        query = self.query(frames[current : current + 1]).flatten(2).transpose(1, 2)  # (1, HW, c)
        key = self.key(frames).transpose(0, 1).flatten(1)[None]  # (1, c, THW)
        value = self.value(frames).transpose(0, 1).flatten(1).T[None]  # (1, THW, c)
        mixed = (query @ key).softmax(dim=-1) @ value  # (1, HW, c)
        return self.out(mixed.transpose(1, 2).unflatten(-1, frames.shape[-2:]))


class Factorized(nn.Module):
    """Eq. 1-6 with the descriptors of all frames computed afresh, which a stream never does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = FactorizedAttention(channels, spatial_maps=8, temporal_maps=4)

    def forward(self, frames: Tensor, current: int) -> Tensor:
        """Features (T, C, H, W) -> of the current frame (1, C, H, W)."""
        window = self.attention.describe(frames[None])
        return self.attention.fuse(frames[current : current + 1], window)


KINDS: dict[str, type[DenseNonLocal | Factorized]] = {
    "dense": DenseNonLocal,
    "factorised": Factorized,
}


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes of one application, inference."""

    seconds: float
    bytes: float


def resident(field: str) -> int:
    """Bytes of resident memory of this process: VmRSS now, VmHWM at its peak (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}")


@torch.no_grad()
def measure(kind: str, frames: int, height: int, width: int, channels: int) -> Cost:
    """Run one case in this process."""
    torch.manual_seed(0)
    module = KINDS[kind](channels).eval()
    module(torch.rand(2, channels, 4, 4), 0)  # libraries loaded, threads started
    features = torch.rand(frames, channels, height, width)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = resident("VmRSS")
    module(features, frames // 2)
    taken = resident("VmHWM") - before
    seconds: list[float] = []
    deadline = time.monotonic() + 3
    while len(seconds) < 3 or (time.monotonic() < deadline and len(seconds) < 50):
        began = time.perf_counter()
        module(features, frames // 2)
        seconds.append(time.perf_counter() - began)
    return Cost(sorted(seconds)[len(seconds) // 2], max(taken, 0))


def measure_apart(kind: str, size: tuple[int, int, int], channels: int) -> Cost | None:
    """Run one case in a process of its own; None if it ran out of memory.

    Raises:
        UnsmearError: it failed otherwise.
    """
    command = [sys.executable, __file__, "--case", kind, *map(str, (*size, channels))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return Cost(**json.loads(result.stdout))
    if ran_out_of_memory(result.returncode, result.stderr):
        return None
    sys.stderr.write(result.stderr)
    raise UnsmearError(f"{' '.join(command)} failed with {result.returncode}: it says above why")


def ran_out_of_memory(code: int, said: str) -> bool:
    """Whether that is why a process failed: the kernel killed it, or it says so."""
    return code in KILLED or _NO_MEMORY.search(said) is not None


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Exponent of y = a * x**p by least squares of the logarithms."""
    logs = [(math.log(x), math.log(y)) for x, y in zip(xs, ys, strict=True)]
    mean_x, mean_y = (sum(column) / len(logs) for column in zip(*logs, strict=True))
    above = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return above / sum((x - mean_x) ** 2 for x, _ in logs)


def growth(costs: dict[tuple[int, int, int], Cost], *, pixels: bool) -> str:
    """Fitted exponents over the larger half of the sizes, where fixed costs are small."""
    rows = sorted(
        (h * w if pixels else t, cost)
        for (t, h, w), cost in costs.items()
        if (t == 5 if pixels else (h, w) == (45, 45))
    )[-3:]
    if len(rows) < 2:
        return "too few sizes fit into memory"
    xs = [float(x) for x, _ in rows]
    parts = [f"time ~ x^{slope(xs, [cost.seconds for _, cost in rows]):.2f}"]
    if min(cost.bytes for _, cost in rows) > 4 << 20:  # below, pages and caches are the result
        parts.append(f"memory ~ x^{slope(xs, [cost.bytes for _, cost in rows]):.2f}")
    return ", ".join(parts)


def main() -> None:
    """Measure all sizes and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--case", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        kind, *numbers = arguments.case
        cost = measure(kind, *(int(number) for number in numbers))
        print(json.dumps(vars(cost)))
        return
    channels = arguments.channels
    at_least(2, channels=channels)
    print(f"C = {channels}, M = 8, N = 4, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads, CPU, float32")  # fmt: skip
    print("| T | H x W | dense ms | factorised ms | times less | dense MiB | factorised MiB "
          "| times less |")  # fmt: skip
    print("|" + "---|" * 8)
    costs: dict[str, dict[tuple[int, int, int], Cost]] = {kind: {} for kind in KINDS}
    for size in SIZES:
        for kind in KINDS:
            measured = measure_apart(kind, size, channels)
            if measured is not None:
                costs[kind][size] = measured
        dense, ours = costs["dense"].get(size), costs["factorised"].get(size)
        if ours is None:
            raise UnsmearError(f"no memory for the factorised attention at {size}: free some")
        cells = [str(size[0]), f"{size[1]} x {size[2]}"]
        mib = 1 << 20
        if dense is None:
            cells += ["out of memory", f"{1e3 * ours.seconds:.2f}", "-", "-"]
            cells += [f"{ours.bytes / mib:.1f}", "-"]
        else:
            least = max(ours.bytes, 4096.0)
            cells += [f"{1e3 * dense.seconds:.2f}", f"{1e3 * ours.seconds:.2f}"]
            cells += [f"{dense.seconds / ours.seconds:.0f}", f"{dense.bytes / mib:.1f}"]
            cells += [f"{ours.bytes / mib:.1f}", f"{dense.bytes / least:.0f}"]
        print("| " + " | ".join(cells) + " |", flush=True)
    for kind in KINDS:
        print(f"{kind}: with pixels {growth(costs[kind], pixels=True)}; "
              f"with frames {growth(costs[kind], pixels=False)}")  # fmt: skip
    frames, height, width = TARGET
    largest = max((size for size in costs["dense"] if size[0] == frames), default=None)
    if largest is None:
        raise UnsmearError("no memory for the dense block at any size: free some")
    scale = (height * width) ** 2 / (largest[1] * largest[2]) ** 2
    target = measure_apart("factorised", TARGET, channels)
    if target is None:
        raise UnsmearError(f"no memory for the factorised attention at {TARGET}: free some")
    weights = frames * (height * width) ** 2 * 4 / GIB
    print(
        f"720p / 4, T = {frames}: dense needs {weights:.1f} GiB for its weights alone and, by "
        f"extrapolation, {costs['dense'][largest].seconds * scale:.0f} s; factorised measured "
        f"{1e3 * target.seconds:.0f} ms and {target.bytes / (1 << 20):.0f} MiB"
    )


if __name__ == "__main__":
    sys.exit(answer(main))
