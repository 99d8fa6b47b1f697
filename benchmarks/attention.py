"""Cost of the paper's attention against that of a dense non-local block.

The dense block (Wang et al. 2018) is a softmax over all pixels of all frames. Both run on the same
features, for one current frame.

    python benchmarks/attention.py --json benchmarks/results/dense-96.json

Every case runs in its own process. Memory is what is used beyond features and weights.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from unsmear.allocator import peak_memory_of
from unsmear.errors import UnsmearError
from unsmear.evaluate.dense import TARGET, Cost, DenseRecord, DenseRow, dense_lines
from unsmear.evaluate.origin import origin_of
from unsmear.evaluate.programs import at_least, parser_for, run_program
from unsmear.evaluate.records import record_as_json
from unsmear.models.attention import FactorizedAttention
from unsmear.outputs import check_file, write_text

MAPS = (8, 4)  # M and N
# T, H, W of the features: first larger sizes at T = 5, then more frames at one size.
SIZES = (
    (5, 16, 16), (5, 23, 23), (5, 32, 32), (5, 45, 45), (5, 64, 64), (5, 90, 90),
    (1, 45, 45), (2, 45, 45), (10, 45, 45), (20, 45, 45),
)  # fmt: skip
KILLED = (-9, 137)  # exit codes after SIGKILL; the second as shells report it
_NO_MEMORY = re.compile(
    "MemoryError|out of memory|allocate memory|not enough memory|bad_alloc", re.IGNORECASE
)


class DenseNonLocal(nn.Module):
    """Each pixel of the current frame attends to all pixels of all frames: T * (H*W)**2 weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.query = nn.Conv2d(channels, inner, kernel_size=1)
        self.key = nn.Conv2d(channels, inner, kernel_size=1)
        self.value = nn.Conv2d(channels, inner, kernel_size=1)
        self.out = nn.Conv2d(inner, channels, kernel_size=1)

    def forward(self, frames: Tensor, current: int) -> Tensor:
        """Features of all frames (T, C, H, W) -> of the current frame (1, C, H, W)."""
        query = self.query(frames[current : current + 1]).flatten(2).transpose(1, 2)  # (1, HW, c)
        key = self.key(frames).transpose(0, 1).flatten(1)[None]  # (1, c, THW)
        value = self.value(frames).transpose(0, 1).flatten(1).T[None]  # (1, THW, c)
        mixed = (query @ key).softmax(dim=-1) @ value  # (1, HW, c)
        return self.out(mixed.transpose(1, 2).unflatten(-1, frames.shape[-2:]))


class Factorized(nn.Module):
    """Eq. 1-6. The descriptors of all frames are computed anew, unlike in a stream."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = FactorizedAttention(channels, *MAPS)

    def forward(self, frames: Tensor, current: int) -> Tensor:
        """Features of all frames (T, C, H, W) -> of the current frame (1, C, H, W)."""
        window = self.attention.describe(frames[None])
        return self.attention.fuse(frames[current : current + 1], window)


KINDS: dict[str, type[DenseNonLocal | Factorized]] = {
    "dense": DenseNonLocal,
    "factorised": Factorized,
}


@torch.no_grad()
def measure(kind: str, frames: int, height: int, width: int, channels: int) -> Cost:
    """Measure one case in this process."""
    torch.manual_seed(0)
    module = KINDS[kind](channels).eval()
    module(torch.rand(2, channels, 4, 4), 0)  # loads libraries and starts threads
    features = torch.rand(frames, channels, height, width)
    taken = peak_memory_of(lambda: module(features, frames // 2))
    seconds: list[float] = []
    deadline = time.monotonic() + 3
    while len(seconds) < 3 or (time.monotonic() < deadline and len(seconds) < 50):
        began = time.perf_counter()
        module(features, frames // 2)
        seconds.append(time.perf_counter() - began)
    return Cost(median(seconds), taken)


def measure_apart(kind: str, size: tuple[int, int, int], channels: int) -> Cost | None:
    """Measure one case in a process of its own; None if it ran out of memory.

    Raises:
        UnsmearError: it failed for another reason.
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
    """Whether a process failed for lack of memory: the kernel killed it, or it says so."""
    return code in KILLED or _NO_MEMORY.search(said) is not None


def rows_of(channels: int) -> Iterator[DenseRow]:
    """Measure both kinds at each of SIZES.

    Raises:
        UnsmearError: there is no memory for the attention, or a case failed for another reason.
    """
    for size in SIZES:
        dense, ours = (measure_apart(kind, size, channels) for kind in KINDS)
        if ours is None:
            raise UnsmearError(f"no memory for the factorised attention at {size}: free some")
        print(f"{size} is measured", file=sys.stderr, flush=True)
        yield DenseRow(*size, ours, dense)


def main() -> None:
    """Measure all sizes, print a table, write the record."""
    parser = parser_for(__doc__)
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--json", type=Path, help="also write the record there")
    parser.add_argument("--case", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        kind, *numbers = arguments.case
        cost = measure(kind, *(int(number) for number in numbers))
        print(json.dumps(vars(cost)))
        return
    channels = arguments.channels
    at_least(2, channels=channels)
    if arguments.json:
        check_file(arguments.json)
    rows = tuple(rows_of(channels))
    if not any(row.dense for row in rows if row.frames == TARGET[0]):
        raise UnsmearError("no memory for the dense block at any size: free some")
    target = measure_apart("factorised", TARGET, channels)
    if target is None:
        raise UnsmearError(f"no memory for the factorised attention at {TARGET}: free some")
    record = DenseRecord(channels, MAPS, rows, target, origin_of(torch.device("cpu")))
    print("\n".join([*dense_lines(record), "", f"Measured by {record.origin.line}."]))
    if arguments.json:
        write_text(arguments.json, record_as_json(record))


if __name__ == "__main__":
    sys.exit(run_program(main))
