"""Entry point of `unsmear` and `python -m unsmear`."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from unsmear.errors import INTERRUPTED


def main() -> None:
    """Entry point. Handles Ctrl-C from the first import on."""
    answered = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # it may be ignored
    if answered:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from unsmear.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("unsmear: interrupted\n")
        sys.exit(INTERRUPTED)
    finally:
        if answered:  # another one, while Python exits, ends the process without a traceback
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, or end the process at once while torch is being imported: its C++
    code drops what is raised while it imports numpy, so the run would go on, and elsewhere aborts.
    """
    torch = sys.modules.get("torch")
    if getattr(getattr(torch, "__spec__", None), "_initializing", False):
        sys.stderr.write("unsmear: interrupted\n")
        sys.stderr.flush()
        os._exit(INTERRUPTED)
    signal.default_int_handler(number, frame)


if __name__ == "__main__":
    main()
