"""Arguments that several verbs of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:N or mps")]
Paths = Annotated[list[Path], Parameter(consume_multiple=True, negative="")]
