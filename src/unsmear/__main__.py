"""`unsmear` and `python -m unsmear`."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Entry point. Ctrl-C is answered from the first import on, before there is a command line."""
    try:
        from unsmear.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("unsmear: interrupted\n")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
