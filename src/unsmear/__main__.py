"""Entry point of `unsmear` and `python -m unsmear`."""

from __future__ import annotations

import sys

from unsmear.errors import INTERRUPTED


def main() -> None:
    """Entry point. Handles Ctrl-C from the first import on."""
    try:
        from unsmear.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("unsmear: interrupted\n")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
