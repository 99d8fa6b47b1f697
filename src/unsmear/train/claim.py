"""One run a folder: two would write over each other's state and weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout  # which torch needs too

from unsmear.errors import OutputError, cannot_write, writing

_LOCK = ".lock"


@contextlib.contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made, and removed again if nothing came of it.
    Where the file system knows no locks, as on some clusters, nobody is kept out.

    Raises:
        OutputError: another run is at work there, or the disk or its rights say no.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(
            f"another run is using '{out}': wait for it to finish, or choose another --out"
        ) from None
    except OSError as error:
        raise cannot_write(out, error) from None
    except NotImplementedError:
        pass  # the file system knows no locks
    try:
        yield
    finally:
        # Gone before it is released: whoever comes next must not hold what others cannot find.
        with contextlib.suppress(OSError):
            (out / _LOCK).unlink()
        lock.release()
        with contextlib.suppress(OSError):
            out.rmdir()  # if it is empty
