"""Where a result may go, said before any work is done."""

from __future__ import annotations

from pathlib import Path

from unsmear.errors import ConfigError, InputError, OutputError
from unsmear.restoration.settings import Settings
from unsmear.restoration.work import is_publishing
from unsmear.video.writer import check_target


def compare_path(target: Path) -> Path:
    """Where the comparison of a result goes: sharp.mp4 -> sharp.compare.mp4, and the folder
    sharp -> sharp_compare.
    """
    if is_folder(target):
        return target.with_name(f"{target.name}_compare")
    return target.with_name(f"{target.stem}.compare{target.suffix}")


def check_paths(source: Path, target: Path, settings: Settings) -> None:
    """Whether source and target make sense, before any work is done.

    Raises:
        InputError: there is no such source.
        OutputError: the target is the source, exists, or cannot be written.
        ConfigError: a setting that makes no sense for a folder of pictures.
    """
    if not source.exists():
        raise InputError(f"no such file or folder: '{source}'")
    if source.is_dir() and not settings.span.whole:
        raise ConfigError("start and end are times of a video: a folder of pictures has none")
    if target.suffix.lower() not in ("", ".mkv") and settings.encode.lossless:
        raise OutputError(
            f"'{target}': lossless video (FFV1) goes into .mkv: choose '{target.stem}.mkv'"
        )
    overwrite = settings.overwrite or is_publishing(target)
    for path in targets_of(target, settings):
        check_output(source, path, folder=is_folder(target), overwrite=overwrite)


def targets_of(target: Path, settings: Settings) -> list[Path]:
    """What is written: the result, and its comparison where one is wanted."""
    return [target, compare_path(target)] if settings.compare else [target]


def check_output(source: Path, path: Path, *, folder: bool, overwrite: bool) -> None:
    """Whether a result of a source may go there, as a folder or as a file.

    Raises:
        OutputError: the path is the source, exists, or cannot be written.
    """
    if source.is_dir() and not folder:
        raise OutputError(
            f"'{source}' is a folder of pictures and has no frame rate: give a folder, "
            f"such as '{path.with_suffix('')}', not '{path.name}'"
        )
    inside = source.is_dir() and source.resolve() in path.resolve().parents
    if inside or (path.exists() and path.samefile(source)):
        raise OutputError(f"'{path}' is (in) the input: choose another output")
    if path.exists() and path.is_dir() != folder:
        raise OutputError(
            f"'{path}' is {'a folder' if path.is_dir() else 'a file'}: choose another"
        )
    if folder:
        if not path.parent.is_dir():
            raise OutputError(f"cannot write '{path}': there is no folder '{path.parent}'")
    else:
        check_target(path)
    if not overwrite:
        check_free(path)


def check_free(path: Path) -> None:
    """Raise OutputError if something stands there; an empty folder does not."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise OutputError(f"'{path}' exists: choose another output, or add --overwrite")


def is_folder(path: Path) -> bool:
    """Whether a result there is a folder of pictures."""
    return path.is_dir() or path.suffix == ""
