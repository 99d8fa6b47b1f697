"""How benchmarks and scripts end where they cannot go on, and what they check before they begin."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from unsmear.data.pairs import PairedSequence, find_pairs
from unsmear.errors import ConfigError, InputError, UnsmearError, mendable

BAD_INPUT = 2


def answer(main: Callable[[], int | None]) -> int:
    """Run a program; the exit code. What a user can mend is one line on standard error."""
    try:
        return main() or 0
    except UnsmearError as error:
        told = error
    except OSError as error:
        told = mendable(error)
    print(" ".join(str(told).split()), file=sys.stderr)
    return BAD_INPUT


def at_least(least: int, **values: int | None) -> None:
    """Raise ConfigError where a number is below the least that makes sense; None passes."""
    for name, value in values.items():
        if value is not None and value < least:
            raise ConfigError(f"{name} is {value}: must be at least {least}")


def refuse_repeated(what: str, names: Iterable[str], remedy: str) -> None:
    """Raise ConfigError where two of the names are the same: one would take the other's place."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(f"more than one {what} is named '{twice[0]}': {remedy}")


def some_pairs(folder: Path) -> list[PairedSequence]:
    """Paired sequences of a folder, at least one.

    Raises:
        InputError: there are none, or the sides of one differ.
    """
    found = find_pairs(folder)
    if not found:
        raise InputError(
            f"no paired sequences found below '{folder}': expected folders blur and sharp"
        )
    return found


def weights_among(models: Iterable[str]) -> list[Path]:
    """The files among models that are named as `unsmear.models.zoo.load_model` takes them."""
    return [Path(model) for model in models if model.endswith(".safetensors")]


def files_in(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder whose names match, sorted, at least one.

    Raises:
        InputError: there are none.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise InputError(f"no {pattern} in '{folder}': give a folder that contains some")
    return found
