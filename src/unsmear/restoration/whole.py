"""Whole numbers, whoever's they are."""

from __future__ import annotations

import operator

from unsmear.errors import ConfigError


def whole_number(value: object) -> int | None:
    """A whole number, numpy's too, as Python's own, which every process writes alike; None for
    anything else: text, fractions, 2.0, and True, which counts nothing.
    """
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def check_count(name: str, value: object, most: int, *, none: str, unit: str) -> int:
    """Return a number from 0 on, as Python's own.

    Args:
        name: of the setting.
        value: of it.
        most: largest that can be.
        none: what 0 means.
        unit: what is counted.

    Raises:
        ConfigError: it is out of bounds, or no whole number.
    """
    count = whole_number(value)
    if count is None or not 0 <= count <= most:
        raise ConfigError(f"{name} is {value!r}: must be from 0 ({none}) to {most} {unit}")
    return count
