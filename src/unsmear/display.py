"""What a run shows while it works: a progress bar for people, JSON lines for programs; and that
nobody need listen to the end.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TextIO, cast

from rich.console import Console
from rich.markup import escape

from unsmear.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from unsmear.restoration.files import Outcome, Progress

_FRAMES_BETWEEN_TRIMS = 16
_SECONDS_BETWEEN_LINES = 0.5
_NOBODY_READS = (errno.EPIPE, errno.EINVAL)  # the latter on Windows
# Of the notes, those that are as true of the next clip, and cost it nothing: the reader's guesses.
_OF_ANY_CLIP = "the video does not specify its colour matrix"
out = Console()
err = Console(stderr=True)


class Reporter(Protocol):
    """Takes what happens to one file. A context manager."""

    def progress(self, progress: Progress) -> None:
        """A frame is done with."""

    def note(self, text: str) -> None:
        """Something the user should know; of one file the same is said once."""

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
        said: notes that were given of other files, of the kind that is said once for all.
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
            TextColumn("{task.description}", markup=False),  # a name may hold brackets
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
        said = self._said if text.startswith(_OF_ANY_CLIP) else self._said_here
        if text not in said:
            said.add(text)
            err.print(
                f"[yellow]{escape(self._name)}:[/] {escape(text)}", highlight=False, soft_wrap=True
            )

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
    """One JSON object a line on standard output; `event` says what it is.

    Args:
        source: of the file; None where all that the command does is meant.
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


def show_error(text: str) -> None:
    """One line on standard error."""
    message = escape(" ".join(text.split()))
    err.print(f"[bold red]unsmear:[/] {message}", highlight=False, soft_wrap=True)


class _Nowhere(io.StringIO):
    """Keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)


class LastingStream:
    """A standard stream that may end before the work does: `head` has seen enough, or the disk that
    it goes to is full. What follows is dropped. Characters that it cannot show become escapes.

    Args:
        stream: the text stream that is written to; everything else is asked of it. None, which
            Python gives where there is none: what would go there is dropped from the start.

    Attributes:
        error: why the stream ended, None while it has not.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = _Nowhere() if stream is None else stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write while that can be done."""
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
        """Flush while that can be done."""
        if self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._end(error)

    def _end(self, error: OSError) -> None:
        self.error = error
        # What waits in the stream's buffer is written once more when Python ends: into nothing.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Let standard output and standard error end before the work does.

    Raises:
        OutputError: at the end, where standard output could not be written for another reason than
            that nobody read it any more.
    """
    before = sys.stdout, sys.stderr
    shown, told = LastingStream(sys.stdout), LastingStream(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, shown), cast(TextIO, told)
    try:
        yield
        shown.flush()
        if shown.error is not None and shown.error.errno not in _NOBODY_READS:
            raise OutputError(
                f"cannot write to standard output: {shown.error.strerror or shown.error}"
            )
    finally:
        shown.flush()
        told.flush()
        sys.stdout, sys.stderr = before
