"""Arguments, input checks and error reporting of benchmarks and scripts."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from unsmear.errors import (
    INTERRUPTED,
    USAGE_ERROR,
    ConfigError,
    InputError,
    UnsmearError,
    as_user_error,
)


def run_program(main: Callable[[], int | None]) -> int:
    """Run a program and return its exit code. Errors that a user can fix become one line on
    standard error, with exit code 2. So does Ctrl-C, with the exit code of shells.
    """
    try:
        return main() or 0
    except UnsmearError as error:
        told = error
    except OSError as error:
        told = as_user_error(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    print(" ".join(str(told).split()), file=sys.stderr)
    return USAGE_ERROR


def parser_for(docstring: str | None) -> argparse.ArgumentParser:
    """A parser whose description is the first line of a program's docstring."""
    return argparse.ArgumentParser(description=docstring.splitlines()[0] if docstring else None)


def at_least(least: int, **values: int | None) -> None:
    """Check that numbers are at least `least`. None is allowed.

    Raises:
        ConfigError: one is below.
    """
    for name, value in values.items():
        if value is not None and value < least:
            raise ConfigError(f"{name} is {value}: must be at least {least}")


def refuse_repeated(what: str, names: Iterable[str], remedy: str) -> None:
    """Check that names are unique, because one would replace the other.

    Args:
        what: kind of thing that is named, for the message.
        names: to be checked.
        remedy: what to do, for the message.

    Raises:
        ConfigError: two names are the same.
    """
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(f"more than one {what} is named '{twice[0]}': {remedy}")


def parse_changes(variant: str, text: str) -> dict[str, Any]:
    """`FIELD=JSON,FIELD=JSON` -> values by field.

    Args:
        variant: as given by the user, for the message.
        text: the part of it that holds the changes.

    Raises:
        ConfigError: a value is not JSON.
    """
    changes = {}
    for part in re.split(r",(?=[a-z_]+=)", text):
        key, _, value = part.partition("=")
        try:
            changes[key] = json.loads(value)
        except ValueError:
            raise ConfigError(f"variant '{variant}': '{value}' is no JSON") from None
    return changes


def files_in(folder: Path, pattern: str) -> list[Path]:
    """Files in a folder that match a glob pattern, sorted, at least one.

    Raises:
        InputError: there are none.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise InputError(f"no {pattern} in '{folder}': give a folder that contains some")
    return found
