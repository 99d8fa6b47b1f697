"""Integers of any type: Python's or numpy's."""

from __future__ import annotations

import operator

import numpy as np


def as_integer(value: object) -> int | None:
    """An integer of any type as a Python int, which always serialises in the same way. None for
    anything else: text, fractions, 2.0, and booleans.
    """
    if isinstance(value, bool | np.bool_):  # `index` takes that of numpy 1
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
