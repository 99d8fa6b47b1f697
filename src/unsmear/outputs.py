"""Where a file may be written, said before any work is done; and files that appear when whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from unsmear.errors import OutputError, writing

PLOT_SUFFIXES = (".png", ".svg", ".pdf")
_LONGEST_NAME = 255  # bytes, on nearly every file system


def hidden_name(name: str, ending: str) -> str:
    """`.NAME` and the ending. Where that is longer than names can be, the end of NAME makes way for
    a digest of it: another name gives another one, the same name the same.
    """
    whole = f".{name}{ending}"
    if len(os.fsencode(whole)) <= _LONGEST_NAME:
        return whole
    import hashlib

    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    room = _LONGEST_NAME - len(os.fsencode(f".-{digest}{ending}"))
    return f".{os.fsencode(name)[:room].decode(errors='ignore')}-{digest}{ending}"


def give_name(partial: Path, path: Path) -> None:
    """Give a whole file its name, once the disk has all of it: after a power cut there is either
    the whole file under the name, or what was there before.

    Raises:
        OSError: the disk or its rights say no.
    """
    sync(partial)
    os.replace(partial, path)


def name_text(path: Path, text: str) -> None:
    """Write a short text of one's own work folder, whole under its name or not there; it grows
    under NAME.part.

    Raises:
        OSError: the disk or its rights say no.
    """
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    give_name(partial, path)


def sync(path: Path) -> None:
    """Wait until the disk has all of a file.

    Raises:
        OSError: the disk or its rights say no.
    """
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def growing_file(path: Path) -> Iterator[Path]:
    """A hidden name beside `path`, of the same suffix, to write to. What is there at the end gets
    the name; after an error nothing is left. What is no file, such as /dev/stdout, is written to
    as it is.

    Raises:
        OutputError: the disk or its rights say no.
    """
    with writing(path):
        if path.exists() and not path.is_file():
            yield path
            return
        partial = path.with_name(hidden_name(path.stem, f".{os.getpid()}.part{path.suffix}"))
        try:
            with telling_of(path, partial):
                yield partial
            give_name(partial, path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


@contextlib.contextmanager
def telling_of(path: Path, partial: Path) -> Iterator[None]:
    """What goes wrong with a file under its hidden name, which says little, is told of `path`."""
    try:
        yield
    except OutputError as error:
        raise OutputError(str(error).replace(str(partial), str(path))) from None


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8; the file appears, or is replaced, when it is whole.

    Raises:
        OutputError: the disk or its rights say no.
    """
    with growing_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_file(
    path: Path,
    *,
    inputs: Iterable[Path | None] = (),
    suffixes: Collection[str] = (),
    overwrite: bool = True,
) -> None:
    """Whether a file may be written there.

    Args:
        path: of the file.
        inputs: what the command reads: files, and folders that it takes everything from; none may
            be written over or into.
        suffixes: those that can be written, in lower case; none: any.
        overwrite: a file that exists may be replaced.

    Raises:
        OutputError: it may not.
    """
    with writing(path):
        check_named(path)
        if suffixes and path.suffix.lower() not in suffixes:
            raise OutputError(
                f"cannot write '{path}': the suffix must be one of {', '.join(suffixes)}"
            )
        if path.is_dir():
            raise OutputError(f"'{path}' is a folder: give the name of a file")
        check_folder_of(path)
        for source in inputs:
            if source is not None and lies_in(path, source):
                raise OutputError(
                    f"'{path}' is the input '{source}' or inside it: choose another output"
                )
        if not overwrite:
            check_free(path)


def check_named(path: Path) -> None:
    """Raise OutputError where a path says in which folder, and not what is to be there; or is a
    link to what is not there.
    """
    if path.name in ("", ".."):
        raise OutputError(f"'{path}' is a folder: add the name of the output")
    if path.is_symlink() and not path.exists():
        raise OutputError(f"'{path}' is a broken link: remove it, or choose another output")


def check_folder_of(path: Path) -> None:
    """Raise OutputError where the folder that a path lies in is missing or cannot be written."""
    if not path.parent.is_dir():
        raise OutputError(f"cannot write '{path}': there is no folder '{path.parent}'")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write '{path}': no permission to write to '{path.parent}'")


def check_free(path: Path) -> None:
    """Raise OutputError if something stands there; an empty folder does not."""
    if not is_free(path):
        raise OutputError(f"'{path}' already exists: choose another output, or add --overwrite")


def is_free(path: Path) -> bool:
    """Whether nothing stands there, or an empty folder.

    Raises:
        OSError: the system does not say.
    """
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def lies_in(path: Path, source: Path) -> bool:
    """Whether a path is an input, by whatever name, or lies in a folder that is one."""
    if path.exists() and source.exists() and path.samefile(source):
        return True
    place = real_path(source)
    return place in (real := real_path(path), *real.parents)


def real_path(path: Path) -> Path:
    """Without links; unlike `Path.resolve` it takes those that lead in a circle."""
    return Path(os.path.realpath(path))
