"""Records of measurements as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any


def record_as_json(record: Any, *, indent: int = 2) -> str:
    """A record as JSON, with a newline at the end. Numbers that are not finite become strings, see
    `finite`.

    Args:
        record: a dataclass of plain values, or plain values.
        indent: spaces of indentation.
    """
    plain = dataclasses.asdict(record) if dataclasses.is_dataclass(record) else record  # type: ignore[arg-type]
    return json.dumps(finite(plain), indent=indent, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """Replace floats that JSON lacks by the strings "inf", "-inf" and "nan", which `float` parses.
    The PSNR of equal frames is infinite; a network that overflows may give all three.
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
