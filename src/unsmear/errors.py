"""Exit codes, and the exception tree.

    UnsmearError                 anything that a user can fix: one line, exit code 2
    ├── InputError               the given clip, folder or data set cannot be used
    │   └── MidwayError          a clip can be used only up to a time or an image
    ├── OutputError              the result cannot be written to the given place
    │   └── EncodeError          an encoder or a container refuses its input
    ├── ModelError               unknown model, or a weights file that does not fit
    ├── ConfigError              contradictory or impossible settings
    │   └── DeviceMemoryError    a GPU runs out of memory with these settings
    ├── MissingExtraError        an optional dependency is not installed
    └── CombinedError            several of these, reported together

Each message names the value, what is allowed and the remedy.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

# Exit codes. The second is what shells report of a program that SIGINT ended.
USAGE_ERROR = 2
INTERRUPTED = 130

_Result = TypeVar("_Result")
_MOST_TOLD = 10


class UnsmearError(Exception):
    """Base of every error that a user can fix."""


class InputError(UnsmearError):
    """The given clip, folder or data set cannot be used."""


class MidwayError(InputError):
    """A clip cannot be used from some point on. What comes before can: of a video with `--end`, of
    a folder once the image is repaired or removed.
    """


class OutputError(UnsmearError):
    """The result cannot be written to the given place."""


def cannot_write(path: Path, error: OSError) -> OutputError:
    """An OutputError for what the system refused, such as a full disk or missing permission."""
    return OutputError(f"cannot write '{path}': {error.strerror or error}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert an OSError while an input is read into an InputError that names it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert an OSError while a result is written, or its path checked, into an OutputError that
    names it.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from None


def as_user_error(error: OSError) -> UnsmearError:
    """Convert an OSError that no other code handled into an UnsmearError. One without an error
    number, which is from a library and not the system, is raised unchanged.
    """
    if error.errno is None:
        raise error
    where = "" if error.filename is None else f"'{error.filename}': "
    return UnsmearError(f"{where}{error.strerror or error}")


def quoted(path: Path) -> str:
    """A path as an argument of a command that a message names, for the shells of the system. Those
    of Windows take double quotes, which names do not contain there.
    """
    return f'"{path}"' if sys.platform == "win32" else shlex.quote(str(path))


def first_line(error: Exception) -> str:
    """First line of another library's error message; the type of the error if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class EncodeError(OutputError):
    """An encoder or a container refuses its input; trying again does not help."""


class ModelError(UnsmearError):
    """Unknown model, or a weights file that does not fit its network."""


class ConfigError(UnsmearError, ValueError):
    """Contradictory or impossible settings."""


class DeviceMemoryError(ConfigError):
    """A GPU runs out of memory. Trying again may help, as other programs may have used some."""


class MissingExtraError(UnsmearError, ImportError):
    """An optional dependency is not installed; the message holds the command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        install = f'pip install "unsmear[{extra}]"'  # Windows' cmd takes no single quotes
        super().__init__(f"{purpose} needs the package '{package}': {install}")
        self._given = (package, extra, purpose)

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        return type(self), self._given  # to cross processes; exceptions pass on their message


class CombinedError(UnsmearError):
    """Several errors at once; the message numbers them.

    Attributes:
        errors: all of them; the message shows at most ten.
    """

    def __init__(self, errors: tuple[UnsmearError, ...]) -> None:
        told = [f"({number}) {error}" for number, error in enumerate(errors[:_MOST_TOLD], start=1)]
        if more := len(errors) - len(told):
            told.append(f"and {more} more")
        super().__init__(f"{len(errors)} mistakes: " + "; ".join(told))
        self.errors = errors

    def __reduce__(self) -> tuple[type[CombinedError], tuple[tuple[UnsmearError, ...]]]:
        return type(self), (self.errors,)  # to cross processes; exceptions pass on their message


class Mistakes:
    """Collects errors of independent checks, to report them together.

    Attributes:
        errors: noted so far.
    """

    def __init__(self) -> None:
        self.errors: list[UnsmearError] = []

    def add(self, error: UnsmearError) -> None:
        """Note an error; a CombinedError is split into its parts."""
        self.errors += error.errors if isinstance(error, CombinedError) else (error,)

    def attempt(self, work: Callable[[], _Result]) -> _Result | None:
        """Return the result of `work`; None if it raises an UnsmearError, which is noted."""
        try:
            return work()
        except UnsmearError as error:
            self.add(error)
            return None

    def tell(self) -> None:
        """Raise what was noted, if anything: one error as it is, several as `CombinedError`."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise CombinedError(tuple(self.errors))
