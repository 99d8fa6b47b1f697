"""Where results may be written, checked before any work starts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from unsmear.errors import ConfigError, InputError, OutputError, reading, writing
from unsmear.outputs import (
    check_folder_of,
    check_free,
    check_named,
    is_free,
    lies_in,
    real_path,
    spelling_key,
)
from unsmear.restoration.settings import Settings
from unsmear.restoration.work import is_publishing
from unsmear.video.encoding import EncodeChoice
from unsmear.video.folder import numbered
from unsmear.video.formats import VIDEO_CONTAINERS
from unsmear.video.images import IMAGE_SUFFIXES
from unsmear.video.writer import check_target

# Suffixes of videos that can be read but not written.
_OTHER_VIDEOS = (
    ".avi", ".mpg", ".mpeg", ".mpe", ".m2v", ".vob", ".mod", ".tod", ".ts", ".mts", ".m2ts", ".wmv",
    ".asf", ".flv", ".3gp", ".3g2", ".ogv", ".mxf", ".dv", ".gif",
)  # fmt: skip
VIDEO_SUFFIXES = frozenset((*VIDEO_CONTAINERS, *_OTHER_VIDEOS))
RESULT_MARK = "sharp"  # in the default name of a result
_RESULT = re.compile(rf"(?P<of>.+)\.{RESULT_MARK}(?:\.compare)?")
_RESULT_FOLDER = re.compile(rf"(?P<of>.+)_{RESULT_MARK}(?:_compare)?")
_OF_FILES = VIDEO_SUFFIXES | IMAGE_SUFFIXES


def compare_path(target: Path) -> Path:
    """Path of the comparison that belongs to a result: sharp.mp4 -> sharp.compare.mp4, folder
    sharp -> sharp_compare.
    """
    if is_folder(target):
        return target.with_name(f"{target.name}_compare")
    return target.with_name(f"{target.stem}.compare{target.suffix}")


def results_among(clips: Sequence[Path]) -> dict[Path, Path]:
    """Find clips whose names mark them as results of other clips given: a.sharp.mp4 and
    a.sharp.compare.mp4 beside a.mov, the folder b_sharp beside b.

    Returns:
        Result -> clip that it was made from.
    """

    def named(clip: Path) -> tuple[bool, Path, str]:
        folder = is_folder(clip)
        return folder, clip.parent, clip.name if folder else clip.stem

    there, results = {named(clip): clip for clip in clips}, {}
    for clip in clips:
        folder, parent, name = named(clip)
        found = (_RESULT_FOLDER if folder else _RESULT).fullmatch(name)
        if found is not None and (source := there.get((folder, parent, found["of"]))) is not None:
            results[clip] = source
    return results


def is_there(targets: Sequence[Path]) -> bool:
    """Whether a result and its comparison, if any, exist and are complete.

    Args:
        targets: of one result, see `targets_of`.

    Raises:
        OutputError: the file system refuses the check.
    """
    with writing(targets[0]):
        return not is_publishing(targets[0]) and not any(is_free(path) for path in targets)


def check_source(source: Path) -> None:
    """Check that a source exists; the contents of a file are not read.

    Raises:
        InputError: there is no such source, or no permission to read it.
    """
    with reading(source):
        if not source.exists():
            raise InputError(f"no such file or folder: '{source}'")
        if source.is_dir():
            next(source.iterdir(), None)


def check_paths(source: Path, target: Path, settings: Settings) -> None:
    """Check source and target before any work starts.

    Raises:
        InputError: there is no such source, or no permission to read it.
        OutputError: the target is the source or inside it, exists, does not fit the source or the
            settings, or cannot be written.
        ConfigError: a setting does not apply to a folder of images, as source or target.
    """
    check_source(source)
    check_kind(source, settings)
    with writing(target):
        check_named(target)
        if settings.encode.lossless and not is_folder(target) and target.suffix.lower() != ".mkv":
            raise OutputError(
                f"'{target}': lossless video (FFV1) needs .mkv: choose '{target.stem}.mkv'"
            )
        overwrite = settings.overwrite or is_publishing(target)
        folder = is_folder(target)
        if folder and target.suffix and not (source.is_dir() or target.exists()):
            check_target(target)  # refuses the suffix: it is probably a typing error
        if folder and (asked := encoding_asked(settings)):
            remedy = "" if source.is_dir() else f", or name a video file, such as '{target}.mkv'"
            raise ConfigError(
                f"'{target}' is a folder of PNG images: leave out {' and '.join(asked)}{remedy}"
            )
        for path in targets_of(target, settings):
            check_output(source, path, folder=folder, overwrite=overwrite)


def check_kind(source: Path, settings: Settings) -> None:
    """Check that the settings apply to the kind of source.

    Raises:
        ConfigError: the source is a folder of images, and a setting is for videos only.
    """
    if source.is_dir() and not settings.span.whole:
        raise ConfigError("--start and --end are times of a video: a folder of images has none")
    if source.is_dir() and settings.deinterlace:
        raise ConfigError(
            f"'{source}' is a folder of images, which are not interlaced: leave out --deinterlace"
        )


def encoding_asked(settings: Settings) -> list[str]:
    """Names of the encoding options that differ from their defaults."""
    usual, asked = EncodeChoice(), settings.encode
    names = (field.name for field in fields(asked))
    given = (name for name in names if getattr(asked, name) != getattr(usual, name))
    return [f"--{name.replace('_', '-')}" for name in given]


def targets_of(target: Path, settings: Settings) -> list[Path]:
    """What is written: the result, and the comparison if the settings ask for one."""
    return [target, compare_path(target)] if settings.compare else [target]


def check_apart(jobs: Sequence[tuple[Path, Sequence[Path]]]) -> None:
    """Check that the jobs of one command do not collide. `check_output` checks each job by itself.

    Args:
        jobs: each clip, and all paths that are written for it.

    Raises:
        OutputError: two clips have the same result, or a result would overwrite another clip.
    """
    sources: dict[object, Path] = {}
    for source, _ in jobs:
        with reading(source):
            sources[_identity(source)] = source
    results: dict[object, tuple[int, Path]] = {}
    for number, (source, targets) in enumerate(jobs):
        for path in targets:
            with writing(path):
                # An image written into a folder of images would become part of that clip.
                shown = path.suffix.lower() in IMAGE_SUFFIXES
                identities = [_identity(place) for place in (path, path.parent)[: 1 + shown]]
            for identity in identities:
                if (other := sources.get(identity)) not in (None, source):
                    raise OutputError(
                        f"'{path}', the result of '{source}', would overwrite or lie in '{other}', "
                        "which is also an input: leave one of them out, or choose another output"
                    )
            first, other = results.setdefault(identities[0], (number, source))
            if first != number:
                raise OutputError(
                    f"'{other}' and '{source}' would both become '{path}': restore each "
                    "into its own folder"
                )


def _identity(path: Path) -> object:
    """A key that all names of a file or folder share: device and inode, or the real path of what
    does not exist yet.
    """
    if path.exists():
        status = path.stat()
        if status.st_ino:  # 0 on file systems without inode numbers
            return status.st_dev, status.st_ino
    return spelling_key(str(real_path(path)))


def check_output(source: Path, path: Path, *, folder: bool, overwrite: bool) -> None:
    """Check that the result of a source may be written to `path`.

    Args:
        source: video file, or folder of images.
        path: of the result.
        folder: whether the result is a folder of images.
        overwrite: whether an existing result may be replaced.

    Raises:
        InputError: there is no such source, or no permission to read it.
        OutputError: the path is the source or inside it, exists, is of the wrong kind (file or
            folder), or cannot be written.
    """
    check_source(source)
    with writing(path):
        check_named(path)
        if source.is_dir() and not folder:
            raise OutputError(
                f"'{source}' is a folder of images and has no frame rate: give a folder, "
                f"such as '{path.with_suffix('')}', not '{path.name}'"
            )
        if lies_in(path, source):
            raise OutputError(f"'{path}' is the input or inside it: choose another output")
        if path.exists() and path.is_dir() != folder:
            raise OutputError(
                f"'{path}' is {'a folder' if path.is_dir() else 'a file'}: choose another output"
            )
        if folder:
            check_folder_of(path)
        else:
            check_target(path)
        if not overwrite:
            check_free(path)


def is_folder(path: Path) -> bool:
    """Whether a path stands for a folder of images: an existing folder, or a name without the
    suffix of a video or an image, such as `sharp` or `v1.0_sharp`.
    """
    return path.is_dir() or path.suffix.lower() not in _OF_FILES


def holds_frames(folder: Path) -> bool:
    """Whether an existing folder holds the frames of a restored video, or will when an interrupted
    run is finished.
    """
    if (folder / numbered(0)).exists():
        return True
    return folder.name not in ("", "..") and is_publishing(folder)  # these names have no work path
