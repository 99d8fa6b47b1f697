"""One run per folder: two would overwrite each other's state and weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout  # a dependency of torch too

from unsmear.errors import OutputError, cannot_write, writing
from unsmear.outputs import NO_LOCKS

_LOCK = ".lock"


@contextlib.contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Lock a folder against other runs. It is created, and removed again if it stays empty. On file
    systems without locks, as on some clusters, nothing is locked.

    Raises:
        OutputError: another run uses the folder, or it cannot be written to.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / _LOCK, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(
            f"another run is using '{out}': wait for it to finish, or choose another --out"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise cannot_write(out, error) from None
    try:
        yield
    finally:
        # Unlinked before it is released: otherwise the next run could lock a file that is gone.
        with contextlib.suppress(OSError):
            (out / _LOCK).unlink()
        lock.release()
        with contextlib.suppress(OSError):
            out.rmdir()  # if it is empty
