"""Origin of a measurement: machine, versions, command and date, stored with every result."""

from __future__ import annotations

import datetime
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from unsmear import __version__


@dataclass(frozen=True, kw_only=True)
class Origin:
    """How and where something was measured.

    Attributes:
        machine: GPU, or processor and number of threads.
        versions: versions of Unsmear, torch and Python.
        command: the command, without absolute paths, see `portable_command`.
        date: YYYY-MM-DD.
    """

    machine: str
    versions: str
    command: str
    date: str

    @property
    def line(self) -> str:
        """All in one line of Markdown, for reports."""
        return f"`{self.command}`, {self.date}, {self.machine}, {self.versions}"


def origin_of(device: torch.device, command: Sequence[str] | None = None) -> Origin:
    """The origin of measurements of this process.

    Args:
        device: device that they run on.
        command: program and arguments; default: those of this process.
    """
    return Origin(
        machine=_machine(device),
        versions=f"Unsmear {__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        command=portable_command(sys.argv if command is None else command),
        date=datetime.date.today().isoformat(),
    )


def portable_command(command: Sequence[str]) -> str:
    """A command quoted for a shell, with absolute paths reduced to their last part, so that records
    do not reveal the folders of a user.
    """
    parts = list(command)
    if parts and Path(parts[0]).is_absolute() and Path(parts[0]).suffix != ".py":
        parts[0] = Path(parts[0]).name
    if parts and Path(parts[0]).parts[-2:] == ("unsmear", "__main__.py"):
        parts[0] = "unsmear"
    return shlex.join(_without_folders(part) for part in parts)


def _without_folders(word: str) -> str:
    """A word of a command; of an absolute path, also in `--option=PATH` and `-oPATH`, only the last
    part.
    """
    value = re.sub(r"^(--[^=]*=|-[^-]=?)", "", word)
    return word.removesuffix(value) + Path(value).name if Path(value).is_absolute() else word


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        for line in cpu_info.read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"
