"""Whole numbers, whoever's they are."""

from __future__ import annotations

import operator


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
