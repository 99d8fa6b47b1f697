"""Output of a run: a progress bar for people, JSON lines for programs, and standard streams that
may close before the run ends.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TextIO, cast

from rich.console import Console
from rich.markup import escape

from unsmear.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from unsmear.restoration.files import Outcome, Progress

_FRAMES_BETWEEN_TRIMS = 16
_SECONDS_BETWEEN_LINES = 0.5
_READER_GONE = (errno.EPIPE, errno.EINVAL)  # EINVAL on Windows
# Start of notes shown once per run, not once per clip: such notes recur, and report no loss.
_ONCE_PER_RUN = "the video does not specify its colour matrix"
# Without emoji: a file may be named `my:car:.mp4`.
out = Console(emoji=False)
err = Console(stderr=True, emoji=False)


class Reporter(Protocol):
    """Receives the events of one clip. A context manager."""

    def progress(self, progress: Progress) -> None:
        """Report progress, after each frame."""

    def note(self, text: str) -> None:
        """Report something that the user should know."""

    def result(self, target: Path, outcome: Outcome) -> None:
        """Report that the clip is restored."""

    def error(self, text: str) -> None:
        """Report that the clip could not be restored."""

    def __enter__(self) -> Reporter: ...

    def __exit__(self, *exit_info: object) -> None: ...


def _trim(progress: Progress) -> None:
    from unsmear.allocator import return_freed_pages

    if progress.done % _FRAMES_BETWEEN_TRIMS == 0:
        return_freed_pages()


class Bar:
    """Progress bar with frames, frames per second and time left; hidden if standard error is not a
    terminal. A note is shown once per clip.

    Args:
        name: of the clip.
        said: notes of the kind that is shown once per run, collected over all clips.
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
            TextColumn("{task.description}", markup=False),  # names may contain brackets
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._name, self._said = name, set() if said is None else said
        self._said_here: set[str] = set()
        self._task = self._bar.add_task(name, total=None, speed="")
        self._doing = ""

    def progress(self, progress: Progress) -> None:
        """Update the bar; it restarts for each pass over the clip."""
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
        said = self._said if text.startswith(_ONCE_PER_RUN) else self._said_here
        if text not in said:
            said.add(text)
            show_note(self._name, text)

    def result(self, target: Path, outcome: Outcome) -> None:
        resumed = f" ({outcome.resumed} by an earlier run)" if outcome.resumed else ""
        frames = "1 frame" if outcome.frames == 1 else f"{outcome.frames} frames"
        out.print(
            f"{frames} restored{resumed}: {escape(str(target))}",
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
    """Writes one JSON object per line to standard output; `event` is its kind.

    Args:
        source: path of the clip; None for events of the whole command.
    """

    def __init__(self, source: Path | None) -> None:
        self._source = None if source is None else str(source)
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


def say(text: str, *, wrap: bool = False) -> None:
    """Print text on standard output as it is: brackets are no markup, numbers get no colour.

    Args:
        text: one line or several.
        wrap: break lines at the width of the terminal. Not for paths, which users copy.
    """
    out.print(text, highlight=False, markup=False, soft_wrap=not wrap)


def listed(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table as a list with a line for each value, for terminals that are too narrow for it."""
    from rich.table import Table

    table = Table.grid(padding=(0, 1, 0, 0))
    for _ in range(2):
        table.add_column(overflow="fold")
    for row in rows:
        for heading, cell in zip(headings, row, strict=True):
            table.add_row(heading, escape(cell))
        table.add_row()
    return table


def show_note(name: str, text: str) -> None:
    """Print a note on a clip as one line on standard error."""
    err.print(f"[yellow]{escape(name)}:[/] {escape(text)}", highlight=False, soft_wrap=True)


def show_error(text: str) -> None:
    """Print an error as one line on standard error."""
    message = escape(" ".join(text.split()))
    err.print(f"[bold red]unsmear:[/] {message}", highlight=False, soft_wrap=True)


class _Nowhere(io.StringIO):
    """Discards everything."""

    def write(self, text: str) -> int:
        return len(text)


class ResilientStream:
    """Wraps a standard stream that may fail before the run ends, such as a pipe that `head` closes
    or a file on a full disk. After that, output is dropped. Characters that its encoding lacks are
    written as escapes.

    Args:
        stream: text stream to write to; all other attributes are delegated to it. None, as Python
            has it if there is no such stream: all output is dropped.

    Attributes:
        error: why the stream failed; None if it did not.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = _Nowhere() if stream is None else stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or drop the text after a failure."""
        if self.error is None:
            try:
                return self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
            except OSError as error:
                self._end(error)
        return len(text)

    def flush(self) -> None:
        """Flush, unless the stream has failed."""
        if self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._end(error)

    def _end(self, error: OSError) -> None:
        self.error = error
        # Python flushes the stream's buffer on exit; redirect that to the null device.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextlib.contextmanager
def resilient_streams() -> Iterator[None]:
    """Let the run continue if standard output or standard error fails.

    Raises:
        OutputError: at the end, if standard output failed for any reason but a closed pipe.
    """
    before = sys.stdout, sys.stderr
    shown, told = ResilientStream(sys.stdout), ResilientStream(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, shown), cast(TextIO, told)
    try:
        yield
        shown.flush()
        if shown.error is not None and shown.error.errno not in _READER_GONE:
            raise OutputError(
                f"cannot write to standard output: {shown.error.strerror or shown.error}"
            )
    finally:
        shown.flush()
        told.flush()
        sys.stdout, sys.stderr = before
