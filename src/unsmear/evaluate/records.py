"""Records of measurements as JSON, and back."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import repeat
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from unsmear.errors import InputError

_Record = TypeVar("_Record")


def record_as_json(record: Any, *, indent: int = 2) -> str:
    """A record as JSON, with a newline at the end. Numbers that are not finite become strings, see
    `finite`.

    Args:
        record: plain values, and dataclasses of them.
        indent: spaces of indentation.
    """
    return json.dumps(finite(record), indent=indent, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """Replace floats that JSON lacks by the strings "inf", "-inf" and "nan", which `float` parses.
    The PSNR of equal frames is infinite; a network that overflows may give all three. Dataclasses
    become dicts.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def record_from_json(kind: type[_Record], text: str) -> _Record:
    """Inverse of `record_as_json`.

    Args:
        kind: a dataclass. Its fields are annotated with numbers, strings, other such dataclasses,
            tuples and dicts of these, or one of these and None.
        text: the record as JSON. It may lack fields that have a default.

    Raises:
        InputError: the text is not such a record.
    """
    try:
        record: _Record = _as_annotated(kind, json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"not a {kind.__name__} written by a benchmark: {error}") from None
    return record


def _as_annotated(kind: Any, value: Any) -> Any:
    """A value parsed from JSON, converted to the type of its field."""
    if dataclasses.is_dataclass(kind):
        kinds = get_type_hints(kind)
        return kind(**{name: _as_annotated(kinds[name], item) for name, item in value.items()})  # type: ignore[operator]
    if kind is float:
        return float(value)  # it may be a string, see `finite`
    outer, inner = get_origin(kind), get_args(kind)
    if outer is tuple:
        each = repeat(inner[0]) if inner[-1] is Ellipsis else inner
        return tuple(map(_as_annotated, each, value))
    if outer is dict:
        return {key: _as_annotated(inner[1], item) for key, item in value.items()}
    if outer is UnionType and inner[1:] == (NoneType,):
        return None if value is None else _as_annotated(inner[0], value)
    return value
