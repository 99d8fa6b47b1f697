"""Records of measurements as JSON, written in one way."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any


def record_as_json(record: Any, *, indent: int = 2) -> str:
    """A record as a text in JSON that ends its last line.

    Args:
        record: a dataclass of plain values, or plain values.
        indent: spaces.
    """
    plain = dataclasses.asdict(record) if dataclasses.is_dataclass(record) else record  # type: ignore[arg-type]
    return json.dumps(finite(plain), indent=indent, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """JSON has no infinity, which is the PSNR of equal frames: it becomes the text "inf"; what a
    network that overflows gives becomes "nan" and "-inf". `float` reads all three.
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
