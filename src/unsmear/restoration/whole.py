"""Integers of any type (Python, numpy), checked."""

from __future__ import annotations

import operator

from unsmear.errors import ConfigError


def as_integer(value: object) -> int | None:
    """An integer of any type as a Python int, which always serialises in the same way. None for
    anything else: text, fractions, 2.0, and booleans.
    """
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def check_count(name: str, value: object, most: int, *, none: str, unit: str) -> int:
    """Return a count as a Python int.

    Args:
        name: of the setting.
        value: of the setting.
        most: maximum; the minimum is 0.
        none: meaning of 0, for the error message.
        unit: what is counted, likewise.

    Raises:
        ConfigError: it is out of range or not an integer.
    """
    count = as_integer(value)
    if count is None or not 0 <= count <= most:
        raise ConfigError(f"{name} is {value!r}: must be from 0 ({none}) to {most} {unit}")
    return count
