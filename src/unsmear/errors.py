"""What can go wrong, as one tree.

    UnsmearError                 anything a user can mend: one line, exit code 2
    ├── InputError               the given clip, folder or data set cannot be used
    ├── OutputError              the result cannot be written where it was asked for
    │   └── EncodeError          an encoder or a container refuses what it is given
    ├── ModelError               unknown model, or a weights file that does not fit
    ├── ConfigError              contradictory or impossible settings
    └── MissingExtraError        an optional dependency is not installed

Each message names the value, what is allowed and the remedy.
"""

from __future__ import annotations

from pathlib import Path


class UnsmearError(Exception):
    """Base of every error that a user can mend."""


class InputError(UnsmearError):
    """The given clip, folder or data set cannot be used."""


class OutputError(UnsmearError):
    """The result cannot be written where it was asked for."""


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The disk, or its rights, say no."""
    return OutputError(f"cannot write '{path}': {error.strerror or error}")


class EncodeError(OutputError):
    """An encoder or a container refuses what it is given: trying again will not help."""


class ModelError(UnsmearError):
    """Unknown model, or a weights file that does not fit its network."""


class ConfigError(UnsmearError, ValueError):
    """Contradictory or impossible settings."""


class MissingExtraError(UnsmearError, ImportError):
    """An optional dependency is not installed; the message holds the command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}': pip install 'unsmear[{extra}]'")
