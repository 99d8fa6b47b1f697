"""Arguments that several commands share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from cyclopts import Parameter, Token, convert


def _whole_number(_: object, tokens: Sequence[Token]) -> int:
    """Refuse 1.5, which Cyclopts would round."""
    text = tokens[0].value
    if re.fullmatch(r"[+-]?[0-9]+", text) is None:
        raise ValueError(f"'{text}' is not a whole number")
    return int(text)


def strict(kind: Any, tokens: Sequence[Token]) -> Any:
    """Convert as Cyclopts does, but refuse 1.5 for a whole number. For the fields of a dataclass
    whose module does without Cyclopts.
    """
    whole = int in (kind, *get_args(kind))
    return _whole_number(kind, tokens) if whole else convert(kind, tokens)


Whole = Annotated[int, Parameter(converter=_whole_number)]
MaybeWhole = Annotated[int | None, Parameter(converter=_whole_number)]
Device = Annotated[str, Parameter(help="Device to run on: auto, cpu, cuda, cuda:N or mps.")]
Paths = Annotated[list[Path], Parameter(consume_multiple=True, negative="")]


def weights_named(model: str) -> Path | None:
    """The path of a model's weights file; None if the model is given by name."""
    return Path(model) if model.endswith(".safetensors") else None
