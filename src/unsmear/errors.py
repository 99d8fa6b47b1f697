"""What can go wrong, as one tree.

    UnsmearError                 anything a user can mend: one line, exit code 2
    ├── InputError               the given clip, folder or data set cannot be used
    │   └── MidwayError          a clip can, up to a time or a picture
    ├── OutputError              the result cannot be written where it was asked for
    │   └── EncodeError          an encoder or a container refuses what it is given
    ├── ModelError               unknown model, or a weights file that does not fit
    ├── ConfigError              contradictory or impossible settings
    │   └── DeviceMemoryError    a GPU's memory does not suffice for them, for now
    ├── MissingExtraError        an optional dependency is not installed
    └── CombinedError            more than one of these, told at once

Each message names the value, what is allowed and the remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

_Result = TypeVar("_Result")
_MOST_TOLD = 10


class UnsmearError(Exception):
    """Base of every error that a user can mend."""


class InputError(UnsmearError):
    """The given clip, folder or data set cannot be used."""


class MidwayError(InputError):
    """A clip goes on in a way that cannot be used. What comes before can: of a video with `--end`,
    of a folder once the picture is mended or taken out.
    """


class OutputError(UnsmearError):
    """The result cannot be written where it was asked for."""


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The disk, or its rights, say no."""
    return OutputError(f"cannot write '{path}': {error.strerror or error}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """While an input is looked at: what the system refuses is an InputError that names it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """While a result is written, or its place looked at: what the system refuses is an OutputError
    that names it.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from None


def mendable(error: OSError) -> UnsmearError:
    """What the system refused where nobody thought of it, as an error of the tree; an error that
    another library made up is raised as it is.
    """
    if error.errno is None:
        raise error
    where = "" if error.filename is None else f"'{error.filename}': "
    return UnsmearError(f"{where}{error.strerror or error}")


def first_line(error: Exception) -> str:
    """What another library says went wrong, without the pages that may follow; its kind where it
    says nothing.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class EncodeError(OutputError):
    """An encoder or a container refuses what it is given: trying again will not help."""


class ModelError(UnsmearError):
    """Unknown model, or a weights file that does not fit its network."""


class ConfigError(UnsmearError, ValueError):
    """Contradictory or impossible settings."""


class DeviceMemoryError(ConfigError):
    """A GPU's memory does not suffice, now: what others need of it may be free later."""


class MissingExtraError(UnsmearError, ImportError):
    """An optional dependency is not installed; the message holds the command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}': pip install 'unsmear[{extra}]'")


class CombinedError(UnsmearError):
    """More than one thing is wrong; the message numbers them."""

    def __init__(self, errors: tuple[UnsmearError, ...]) -> None:
        told = [f"({number}) {error}" for number, error in enumerate(errors[:_MOST_TOLD], start=1)]
        if more := len(errors) - len(told):
            told.append(f"and {more} more")
        super().__init__(f"{len(errors)} mistakes: " + "; ".join(told))
        self.errors = errors


class Mistakes:
    """Collects errors of independent checks, so that all are told at once."""

    def __init__(self) -> None:
        self.errors: list[UnsmearError] = []

    def add(self, error: UnsmearError) -> None:
        """Note one; several count as themselves."""
        self.errors += error.errors if isinstance(error, CombinedError) else (error,)

    def attempt(self, work: Callable[[], _Result]) -> _Result | None:
        """What the work gives; None where it raises an UnsmearError, which is noted."""
        try:
            return work()
        except UnsmearError as error:
            self.add(error)
            return None

    def tell(self) -> None:
        """Raise what was noted: one error as it is, more as `CombinedError`."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise CombinedError(tuple(self.errors))
