"""Checks of where a file may be written, before any work starts; and atomic writing of files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import sys
import time
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from unsmear.errors import OutputError, writing

# Errors of locking a file on file systems without locks, as on some clusters and network drives. A
# file whose existence is the lock is no substitute: a run killed on another machine leaves it.
NO_LOCKS = frozenset((errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP))
_LONGEST_NAME = 255  # bytes, on nearly every file system
_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds


def hidden_name(name: str, ending: str) -> str:
    """`.NAME` and the ending. If that is too long for a file name, the end of NAME is replaced by a
    digest of NAME, so the result stays unique and deterministic.
    """
    whole = f".{name}{ending}"
    if len(os.fsencode(whole)) <= _LONGEST_NAME:
        return whole
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    room = _LONGEST_NAME - len(os.fsencode(f".-{digest}{ending}"))
    return f".{os.fsencode(name)[:room].decode(errors='ignore')}-{digest}{ending}"


def hidden_folder(path: Path) -> Path:
    """Create an empty hidden folder beside `path`, under a name of its own. Unlike that of
    `tempfile.mkdtemp` it has the usual permissions, which on Windows files keep when they leave it.

    Raises:
        OSError: it cannot be created.
    """
    folder = path.with_name(hidden_name(path.name, f".{secrets.token_hex(4)}"))
    folder.mkdir()
    return folder


@contextlib.contextmanager
def results_folder(folder: Path) -> Iterator[None]:
    """Create a folder for results, and its parents, where they are missing; remove on exit those
    that are new and stay empty.

    Raises:
        OutputError: it cannot be created.
    """
    with writing(folder):
        new = [path for path in (folder, *folder.parents) if not path.is_dir()]
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()


def spelling_key(name: str) -> str:
    """A key that two names or paths share if they may stand for one file: on macOS and Windows,
    where `A.png` is `a.png`. An é may be one character or two on disks of macOS.
    """
    capitals_count = sys.platform not in ("darwin", "win32")
    return name if capitals_count else unicodedata.normalize("NFC", name).casefold()


def rename_over(path: Path, place: Path) -> None:
    """Like `os.replace`. On Windows, where it is refused while another program, such as a virus
    scanner, has one of the files open, try again for some seconds.

    Raises:
        OSError: it is refused.
    """
    for seconds in _PAUSES if sys.platform == "win32" else ():
        with contextlib.suppress(PermissionError):
            os.replace(path, place)
            return
        time.sleep(seconds)
    os.replace(path, place)


def commit_file(partial: Path, path: Path) -> None:
    """Sync a complete file to disk, then rename it. After a power cut, the name stands for either
    the complete file or what was there before.

    Raises:
        OSError: the disk is full, or permission is missing.
    """
    sync(partial)
    rename_over(partial, path)


def commit_text(path: Path, text: str) -> None:
    """Write a short text file of a work folder atomically, by way of NAME.part.

    Raises:
        OSError: the disk is full, or permission is missing.
    """
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    commit_file(partial, path)


def sync(path: Path) -> None:
    """Wait until a file is on disk (fsync).

    Raises:
        OSError: the disk is full, or permission is missing.
    """
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write a file atomically: yields a hidden path beside `path`, with the same suffix, which is
    renamed on exit. After an error nothing is left. If `path` exists and is not a regular file,
    such as /dev/stdout, it is yielded itself.

    Raises:
        OutputError: the disk is full, or permission is missing.
    """
    with writing(path):
        if _is_device(path):
            yield path
            return
        partial = path.with_name(hidden_name(path.stem, f".{os.getpid()}.part{path.suffix}"))
        try:
            with telling_of(path, partial):
                yield partial
            commit_file(partial, path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


@contextlib.contextmanager
def telling_of(path: Path, partial: Path) -> Iterator[None]:
    """Replace the hidden name in the messages of OutputErrors by `path`, which the user knows."""
    try:
        yield
    except OutputError as error:
        raise OutputError(str(error).replace(str(partial), str(path))) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; it appears, or is replaced, only when it is complete. Bytes of
    file names that are not valid text (lone surrogates in Python) are written as escapes.

    Raises:
        OutputError: the disk is full, or permission is missing.
    """
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def check_file(
    path: Path,
    *,
    inputs: Iterable[Path | None] = (),
    suffixes: Collection[str] = (),
    overwrite: bool = True,
) -> None:
    """Check that a file may be written.

    Args:
        path: of the file.
        inputs: files and folders that the command reads, which must not be overwritten or written
            into; None is skipped.
        suffixes: allowed ones, in lower case; empty: any.
        overwrite: whether an existing file may be replaced.

    Raises:
        OutputError: the file may not be written.
    """
    with writing(path):
        check_named(path)
        if suffixes and path.suffix.lower() not in suffixes:
            raise OutputError(
                f"cannot write '{path}': the suffix must be one of {', '.join(suffixes)}"
            )
        if path.is_dir():
            raise OutputError(f"'{path}' is a folder: give the name of a file")
        if path.is_file() and path.parent == Path("/dev"):  # such as /dev/stdout, redirected
            raise OutputError(f"'{path}' leads to a file: give the name of that file")
        if not _is_device(path):
            check_folder_of(path)
        for source in inputs:
            if source is not None and lies_in(path, source):
                raise OutputError(
                    f"'{path}' is the input '{source}' or inside it: choose another output"
                )
        if not overwrite:
            check_free(path)


def _is_device(path: Path) -> bool:
    """Whether a path exists and is not a regular file, such as /dev/stdout."""
    return path.exists() and not path.is_file()


def check_named(path: Path) -> None:
    """Raise OutputError if a path does not end in a name (`.`, `..`, `/`), or is a broken link."""
    if path.name in ("", ".."):
        raise OutputError(f"'{path}' is a folder: add the name of the output")
    if path.is_symlink() and not path.exists():
        raise OutputError(f"'{path}' is a broken link: remove it, or choose another output")


def check_folder_of(path: Path) -> None:
    """Raise OutputError if the parent folder of a path is missing or not writable."""
    if not path.parent.is_dir():
        raise OutputError(f"cannot write '{path}': there is no folder '{path.parent}'")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write '{path}': no permission to write to '{path.parent}'")


def check_free(path: Path) -> None:
    """Raise OutputError if a path exists; an empty folder is allowed."""
    if not is_free(path):
        raise OutputError(f"'{path}' already exists: choose another output, or add --overwrite")


def is_free(path: Path) -> bool:
    """Whether a path does not exist, or is an empty folder.

    Raises:
        OSError: the file system refuses the check.
    """
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def lies_in(path: Path, source: Path) -> bool:
    """Whether a path is an input, also by another name (a link, other capitals where these do not
    count), or lies inside it.
    """
    place, real = real_path(source), real_path(path)
    return any(above == place or _same(above, source) for above in (real, *real.parents))


def _same(path: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):  # one of them does not exist
        status = path.stat()  # without inode numbers (0) all files would seem to be one
        return status.st_ino != 0 and os.path.samestat(status, other.stat())
    return False


def real_path(path: Path) -> Path:
    """Resolve links; unlike `Path.resolve`, without an error for a loop of links."""
    return Path(os.path.realpath(path))
