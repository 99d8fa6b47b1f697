"""Windows, as far as it can be imitated: a file that is open or mapped, or lies in a folder that is
renamed, can be neither removed nor renamed nor replaced.

Python opens files without FILE_SHARE_DELETE, and a mapped file is in use even after it is closed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

_OWN = Path("/proc/self")


def files_in_use() -> set[str]:
    """Real paths of all files that this process has open or mapped."""
    found = set()
    for link in (_OWN / "fd").iterdir():
        with suppress(OSError):  # that of the folder itself
            found.add(str(link.readlink()))
    mapped = (line.split(maxsplit=5) for line in (_OWN / "maps").read_text().splitlines())
    return {path for path in found if Path(path).is_file()} | {words[-1] for words in mapped}


def refuse_files_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `os` refuse what Windows refuses. Lock files are left out: filelock knows the system."""
    if sys.platform != "linux":
        pytest.skip("what is open is read from /proc")

    def checked(usual: Callable[..., None]) -> Callable[..., None]:
        def call(*paths: str | Path, dir_fd: int | None = None, **options: int) -> None:
            above = Path() if dir_fd is None else (_OWN / "fd" / str(dir_fd)).readlink()
            for path in (above / path for path in paths):
                real = os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118
                used = (file for file in files_in_use() if not file.endswith(".lock"))
                if any(file == real or file.startswith(f"{real}/") for file in used):
                    raise PermissionError(13, "used by another process", str(path))
            usual(*paths, **options, **({} if dir_fd is None else {"dir_fd": dir_fd}))

        return call

    for name in ("unlink", "rmdir", "rename", "replace"):
        monkeypatch.setattr(os, name, checked(getattr(os, name)))
