"""Retrain a row of the zoo with one command: all of its training runs, one after the other.

    python scripts/retrain.py lite --data DATA/train --val DATA/val --out runs/lite
    python scripts/retrain.py pro --data DATA/train GOPRO/train --val DATA/val --processes 8

After an interruption (Ctrl-C and SIGTERM wait until the run has saved its state), the same command
resumes.
`--print` only shows the commands. The weights are those of the last run,
OUT/runN/weights.safetensors; for `lite` they are a mixture of its start and its result
(`scripts/mix_weights.py`), OUT/weights.safetensors. The last runs of `core` and `lite` start from
such mixtures. Measure the weights with `scripts/model_card.py`.

Where the runs start:

- `pro`: from random weights. It has the most runs, since it grew from smaller networks.
- `plus`: from the most important part of the released `pro`; `core`: from that of `plus`; `lite`:
  from that of `core`. `plus` is the teacher of the last two runs of `lite` and of the last one of
  `paper`, `pro` that of the last ones of `plus` and `core`.
- `paper`: from random weights. `unsmear train --preset paper` follows the schedule of the article.

The released weights were trained differently where the code has changed since:

- `pro`: in the first four runs, gradient clipping and synthesis differed (model_cards/LADDER.md).
  The fifth had three clips per step.
- Since 2026-11-26 layers with long blur have more sub-frames, so seeds give other clips.
- `pro`: the last run but one trained a `pro` with fewer blocks at half of the size and more at
  coarser levels. `plus` started from that one.
- `core` started from the first run of `plus`, `lite` from the first run of `core`.
- The teacher of the third run of `lite` was `plus` after its second run.
- Until 2026-11-28 bfloat16, in which `plus`, `core` and `lite` were trained, also rounded the
  motion of neighbours. It is slow on a CPU without instructions for it.

The last two runs of `pro` took a GPU seven minutes each; on two cores each takes weeks.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from unsmear.evaluate.programs import at_least, parser_for, run_program
from unsmear.models.zoo import ZOO
from unsmear.train.config import preset
from unsmear.train.state import WEIGHTS_FILE

_MIXER = Path(__file__).with_name("mix_weights.py")

# Settings for presets as they were before these options were added.
_UNCODED = ("--coder-share", "0")
_FLAT = ("--relief-share", "0")
_BY_DAY = ("--night-share", "0")
_HALF = ("--precision", "bfloat16")

# The preset of each run, and its changes; each run starts from the one before.
RECIPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "core": (
        ("core", "--weights", "plus", "--steps", "6600", "--seed", "16", *_BY_DAY, *_HALF),
        ("core", "--steps", "4400", "--learning-rate", "3e-4", "--seed", "23", *_HALF),
        ("core", "--teacher", "pro", "--teacher-weight", "2", "--steps", "1300",
         "--learning-rate", "2e-4", "--seed", "34", *_HALF),
    ),
    "lite": (
        ("lite", "--weights", "core", "--steps", "6000", "--stop-after", "793", "--seed", "17",
         *_BY_DAY, *_HALF),
        ("lite", "--steps", "5200", "--seed", "18", *_HALF),
        ("lite", "--teacher", "plus", "--teacher-weight", "2", "--steps", "2500",
         "--learning-rate", "4e-4", "--seed", "29", *_HALF),
        ("lite", "--teacher", "plus", "--teacher-weight", "2", "--steps", "2200",
         "--learning-rate", "2.5e-4", "--seed", "35", *_HALF),
    ),
    "paper": (
        ("paper-quick", "--steps", "3000", "--stop-after", "2674", "--seed", "22", *_HALF),
        ("paper-quick", "--teacher", "plus", "--teacher-weight", "2", "--steps", "1600",
         "--learning-rate", "6e-4", "--seed", "36", *_HALF),
    ),
    "plus": (
        ("plus", "--weights", "pro", "--steps", "2100", "--seed", "15", *_BY_DAY, *_HALF),
        ("plus", "--steps", "3000", "--learning-rate", "3e-4", "--seed", "28", *_HALF),
        ("plus", "--teacher", "pro", "--teacher-weight", "2", "--steps", "1300",
         "--learning-rate", "2e-4", "--seed", "33", *_HALF),
    ),
    "pro": (
        ("plain", "--steps", "2000", "--learning-rate", "1e-3", "--loss", "psnr"),
        ("plain", "--steps", "3500", "--loss", "charbonnier"),
        ("plain", "--steps", "2000", "--learning-rate", "3e-4", "--loss", "charbonnier"),
        ("plain", "--steps", "5000"),
        ("trail", "--steps", "1200", *_UNCODED, *_FLAT, *_BY_DAY),
        ("trail", "--seed", "7", "--steps", "6000", "--stop-after", "2000",
         *_UNCODED, *_FLAT, *_BY_DAY),
        ("trail", "--seed", "8", "--steps", "3000", *_FLAT, *_BY_DAY),
        ("trail", "--seed", "9", "--steps", "3400", *_FLAT, *_BY_DAY),
        ("align", "--steps", "3000", "--seed", "10", *_FLAT, *_BY_DAY),
        ("pro", "--steps", "6000", "--seed", "14", *_BY_DAY),
        ("pro", "--steps", "5200", "--stop-after", "5154", "--learning-rate", "3e-4",
         "--seed", "25"),
    ),
}  # fmt: skip

# Of some runs, by number, a mixture goes on: this share of their result, the rest of their start.
SHARES = {"core": {2: 0.33}, "lite": {3: 0.5, 4: 0.75}}


def commands(
    row: str,
    data: Sequence[Path],
    out: Path,
    *,
    val: Path | None = None,
    shake: Sequence[Path] = (),
    processes: int = 1,
    options: Sequence[str] = (),
) -> list[list[str]]:
    """The command of each run, in order.

    Args:
        row: of the zoo.
        data: folders of training data.
        out: folder of all runs.
        val: folder of paired sequences.
        shake: orientation logs.
        processes: maximum number of processes for each run.
        options: further options of `unsmear train`, for all runs.
    """
    found: list[list[str]] = []
    start: Path | None = None
    for number, (name, *changes) in enumerate(RECIPES[row], start=1):
        line = [sys.executable, *_team(name, processes), "-m", "unsmear", "train"]
        line += ["--preset", name, "--data", *map(str, data)]
        line += ["--val", str(val)] if val else []
        line += ["--shake", *map(str, shake)] if shake else []
        line += ["--out", str(out / f"run{number}"), *changes]
        line += ["--weights", str(start)] if start else []
        found.append([*line, *options])
        result = out / f"run{number}" / WEIGHTS_FILE
        if share := SHARES.get(row, {}).get(number):
            last = number == len(RECIPES[row])
            mixed = out / WEIGHTS_FILE if last else out / f"mixed{number}.safetensors"
            mixer = [sys.executable, str(_MIXER), str(start), str(result), str(mixed)]
            found.append([*mixer, "--share", str(share), "--overwrite"])
            result = mixed
        start = result
    return found


def _team(name: str, processes: int) -> list[str]:
    """Arguments that start as many processes as can share the shards of a preset's batches."""
    shards = preset(name).shards
    size = max(count for count in range(1, processes + 1) if shards % count == 0)
    if size == 1:
        return []
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]


def run(line: Sequence[str]) -> int:
    """Run a command and return its exit code. Ctrl-C in a terminal reaches the command too, which
    needs time to save its state: wait for it, where `subprocess` would kill it after a quarter of
    a second. SIGTERM may reach only this script, so it is passed on.
    """
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    early: list[int] = []  # signals that came before there was a process to pass them on to
    # Not SIG_IGN, which the command would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda number, _: early.append(number))
    try:
        with subprocess.Popen(line) as process:
            signal.signal(signal.SIGTERM, lambda *_: process.terminate())
            if early:
                process.terminate()
            return process.wait()
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def main() -> None:
    """Run the commands, or print them."""
    parser = parser_for(__doc__)
    parser.add_argument("row", choices=list(ZOO))
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--val", type=Path, help="paired sequences")
    parser.add_argument("--shake", type=Path, nargs="*", default=[], help="orientation logs")
    parser.add_argument("--out", type=Path, help="default: runs/ROW")
    parser.add_argument("--processes", type=int, default=1, help="GPUs, or parts of a CPU")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--print", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    at_least(1, processes=arguments.processes)
    lines = commands(
        arguments.row,
        arguments.data,
        arguments.out or Path("runs") / arguments.row,
        val=arguments.val,
        shake=arguments.shake,
        processes=arguments.processes,
        options=("--device", arguments.device),
    )
    for line in lines:
        print(shlex.join(line), flush=True)
        if not arguments.print and (code := run(line)):
            # If a signal ended the command, use the code of shells: 128 plus its number.
            raise SystemExit(code if code > 0 else 128 - code)


if __name__ == "__main__":
    sys.exit(run_program(main))
