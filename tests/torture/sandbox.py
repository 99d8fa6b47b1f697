"""Run the command line in a child process that may hang, crash, exhaust memory or be killed."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from unsmear.cli import main
from unsmear.restoration import files

PAGE = os.sysconf("SC_PAGE_SIZE")
# Children are forked from a process that has imported everything but computed nothing: if threads
# have run before a fork, those of the child may wait for them forever.
_CLEAN = multiprocessing.get_context("forkserver")
_CLEAN.set_forkserver_preload(
    ["tests.torture.sandbox", "unsmear.engines.choice", "unsmear.restoration.files"]
)


@dataclass(frozen=True)
class Ended:
    """How a child process ended.

    Attributes:
        code: exit status; negative: the signal that ended it.
        seconds: wall-clock time.
        peak: largest resident memory, bytes.
        shown: its standard output and standard error.
    """

    code: int
    seconds: float
    peak: int
    shown: str


def run(
    arguments: list[str],
    log: Path,
    *,
    limit: float,
    kill_after: float | None = None,
    ripe: Callable[[], bool] = lambda: True,
    part: int | None = None,
) -> Ended:
    """Run `unsmear` with arguments in a child process.

    Args:
        arguments: of the command line.
        log: file for its output.
        limit: seconds after which it counts as hanging and is killed.
        kill_after: seconds after which it is killed on purpose.
        ripe: the seconds of `kill_after` count from when this returns true.
        part: frames in a part of a result; None: the default.
    """
    began, peak = time.monotonic(), 0
    ripened: float | None = None
    child = _CLEAN.Process(target=_child, args=(arguments, log, part))
    child.start()
    assert child.pid is not None
    while child.is_alive():
        peak = max(peak, _resident(child.pid))
        now = time.monotonic()
        if kill_after is not None and ripened is None and ripe():
            ripened = now
        killed = ripened is not None and kill_after is not None and now - ripened >= kill_after
        if killed or now - began > limit:
            child.kill()
            break
        time.sleep(0.002 if kill_after is not None else 0.01)
    child.join()
    assert child.exitcode is not None
    shown = log.read_text(errors="replace") if log.exists() else ""
    return Ended(child.exitcode, time.monotonic() - began, peak, shown)


def _child(arguments: list[str], log: Path, part: int | None) -> None:
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # pytest replaces them with objects of its own.
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    torch.set_num_threads(1)
    if part is not None:
        files._PART_FRAMES = (part, part)
    try:
        main(arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0
