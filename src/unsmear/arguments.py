"""Arguments that several verbs of the command line share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token


def _whole_number(_: object, tokens: Sequence[Token]) -> int:
    """Cyclopts would round 1.5."""
    text = tokens[0].value
    if re.fullmatch(r"[+-]?[0-9]+", text) is None:
        raise ValueError(f"'{text}' is not a whole number")
    return int(text)


Whole = Annotated[int, Parameter(converter=_whole_number)]
MaybeWhole = Annotated[int | None, Parameter(converter=_whole_number)]
Device = Annotated[str, Parameter(help="Device to run on: auto, cpu, cuda, cuda:N or mps.")]
Paths = Annotated[list[Path], Parameter(consume_multiple=True, negative="")]


def weights_named(model: str) -> Path | None:
    """The file that a model is given as; None where it is given by name."""
    return Path(model) if model.endswith(".safetensors") else None
