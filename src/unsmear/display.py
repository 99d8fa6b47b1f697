"""What a run shows while it works: a progress bar for people, JSON lines for programs."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from pathlib import Path

    from unsmear.restoration.files import Outcome, Progress

_FRAMES_BETWEEN_TRIMS = 16
_SECONDS_BETWEEN_LINES = 0.5
out = Console()
err = Console(stderr=True)


class Reporter(Protocol):
    """Takes what happens to one file. A context manager."""

    def progress(self, progress: Progress) -> None:
        """A frame is done with."""

    def note(self, text: str) -> None:
        """Something the user should know; the same is said once."""

    def result(self, target: Path, outcome: Outcome) -> None:
        """The file is done."""

    def error(self, text: str) -> None:
        """The file could not be done."""

    def __enter__(self) -> Reporter: ...

    def __exit__(self, *exit_info: object) -> None: ...


def _trim(progress: Progress) -> None:
    from unsmear.allocator import return_freed_pages

    if progress.done % _FRAMES_BETWEEN_TRIMS == 0:
        return_freed_pages()


class Bar:
    """Frames, frames a second, time left; silent where nobody watches.

    Args:
        name: of the file.
        said: notes that were given before, of this file or others.
    """

    def __init__(self, name: str, said: set[str] | None = None) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._name, self._said = name, set() if said is None else said
        self._task = self._bar.add_task(name, total=None, speed="")
        self._doing = ""

    def progress(self, progress: Progress) -> None:
        """Take a report; each pass over a file has the bar to itself."""
        _trim(progress)
        if progress.doing != self._doing:
            self._doing = progress.doing
            label = self._name if self._doing == "restoring" else f"{self._name}, first pass"
            self._bar.reset(self._task, description=label, total=None, completed=progress.done)
        task = self._bar.tasks[0]
        speed = f"{task.speed:.2f} frames/s" if task.speed else ""
        total = max(progress.expected, progress.done) if progress.expected else None
        self._bar.update(self._task, completed=progress.done, total=total, speed=speed)

    def note(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            err.print(
                f"[yellow]{escape(self._name)}:[/] {escape(text)}", highlight=False, soft_wrap=True
            )

    def result(self, target: Path, outcome: Outcome) -> None:
        resumed = f" ({outcome.resumed} by an earlier run)" if outcome.resumed else ""
        out.print(
            f"{outcome.frames} frames restored{resumed}: {escape(str(target))}",
            highlight=False,
            soft_wrap=True,
        )

    def error(self, text: str) -> None:
        show_error(text)

    def __enter__(self) -> Bar:
        self._bar.__enter__()
        return self

    def __exit__(self, *exit_info: object) -> None:
        self._bar.stop()


class JsonLines:
    """One JSON object a line on standard output; `event` says what it is.

    Args:
        source: of the file.
    """

    def __init__(self, source: Path) -> None:
        self._source = str(source)
        self._began = self._last = time.monotonic()

    def _say(self, event: str, **values: object) -> None:
        line = json.dumps({"event": event, "input": self._source, **values})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def progress(self, progress: Progress) -> None:
        _trim(progress)
        now = time.monotonic()
        ends = progress.done in (0, progress.expected)
        if ends or now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            self._say(
                "progress", doing=progress.doing, done=progress.done, expected=progress.expected
            )

    def note(self, text: str) -> None:
        self._say("note", text=text)

    def result(self, target: Path, outcome: Outcome) -> None:
        self._say(
            "result",
            output=str(target),
            frames=outcome.frames,
            resumed=outcome.resumed,
            untouched=outcome.untouched,
            seconds=round(time.monotonic() - self._began, 3),
        )

    def error(self, text: str) -> None:
        self._say("error", text=text)

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *exit_info: object) -> None:
        pass


def show_error(text: str) -> None:
    """One line on standard error."""
    message = escape(" ".join(text.split()))
    err.print(f"[bold red]unsmear:[/] {message}", highlight=False, soft_wrap=True)
