"""Where a result may go, said before any work is done."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from unsmear.errors import ConfigError, InputError, OutputError, reading, writing
from unsmear.outputs import check_folder_of, check_free, check_named, is_free, lies_in, real_path
from unsmear.restoration.settings import Settings
from unsmear.restoration.work import is_publishing
from unsmear.video.encoding import EncodeChoice
from unsmear.video.folder import numbered
from unsmear.video.formats import VIDEO_CONTAINERS
from unsmear.video.images import IMAGE_SUFFIXES
from unsmear.video.writer import check_target

# Of videos that can be read, and not written as well.
OTHER_VIDEOS = (
    ".avi", ".mpg", ".mpeg", ".mpe", ".m2v", ".vob", ".mod", ".tod", ".ts", ".mts", ".m2ts", ".wmv",
    ".asf", ".flv", ".3gp", ".3g2", ".ogv", ".mxf", ".dv", ".gif",
)  # fmt: skip
VIDEO_SUFFIXES = frozenset((*VIDEO_CONTAINERS, *OTHER_VIDEOS))
RESULT_MARK = "sharp"  # in the name of a result, where no other is given
_RESULT = re.compile(rf"(?P<of>.+)\.{RESULT_MARK}(?:\.compare)?")
_RESULT_FOLDER = re.compile(rf"(?P<of>.+)_{RESULT_MARK}(?:_compare)?")
_OF_FILES = VIDEO_SUFFIXES | IMAGE_SUFFIXES


def compare_path(target: Path) -> Path:
    """Where the comparison of a result goes: sharp.mp4 -> sharp.compare.mp4, and the folder
    sharp -> sharp_compare.
    """
    if is_folder(target):
        return target.with_name(f"{target.name}_compare")
    return target.with_name(f"{target.stem}.compare{target.suffix}")


def results_among(clips: Sequence[Path]) -> dict[Path, Path]:
    """Clips that are results of others among them, as their names say: a.sharp.mp4 and
    a.sharp.compare.mp4 beside a.mov, the folder b_sharp beside b. Each with the one that it is of.
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
    """Whether a result, and all that is written with it, is there and whole.

    Raises:
        OutputError: the system does not say.
    """
    with writing(targets[0]):
        return not is_publishing(targets[0]) and not any(is_free(path) for path in targets)


def check_source(source: Path) -> None:
    """Whether there is something to read; a file's contents are not looked at.

    Raises:
        InputError: there is no such source, or no right to read it.
    """
    with reading(source):
        if not source.exists():
            raise InputError(f"no such file or folder: '{source}'")
        if source.is_dir():
            next(source.iterdir(), None)


def check_paths(source: Path, target: Path, settings: Settings) -> None:
    """Whether source and target make sense, before any work is done.

    Raises:
        InputError: there is no such source, or no right to read it.
        OutputError: the target is the source, exists, or cannot be written.
        ConfigError: a setting that makes no sense for a folder of pictures, read or written.
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
            check_target(target)  # of a video: a suffix that is none of a file is a slip
        if folder and (asked := encoding_asked(settings)):
            remedy = "" if source.is_dir() else f", or name a video file, such as '{target}.mkv'"
            raise ConfigError(
                f"'{target}' is a folder of PNG images: leave out {' and '.join(asked)}{remedy}"
            )
        for path in targets_of(target, settings):
            check_output(source, path, folder=folder, overwrite=overwrite)


def check_kind(source: Path, settings: Settings) -> None:
    """Whether what is asked for can be done to a video, or to a folder of pictures.

    Raises:
        ConfigError: it cannot.
    """
    if source.is_dir() and not settings.span.whole:
        raise ConfigError("--start and --end are times of a video: a folder of images has none")
    if source.is_dir() and settings.deinterlace:
        raise ConfigError(
            f"'{source}' is a folder of images, which are not interlaced: leave out --deinterlace"
        )


def encoding_asked(settings: Settings) -> list[str]:
    """Options that say how a video is to be written, those that were given."""
    usual, asked = EncodeChoice(), settings.encode
    names = (field.name for field in fields(asked))
    given = (name for name in names if getattr(asked, name) != getattr(usual, name))
    return [f"--{name.replace('_', '-')}" for name in given]


def targets_of(target: Path, settings: Settings) -> list[Path]:
    """What is written: the result, and its comparison where one is wanted."""
    return [target, compare_path(target)] if settings.compare else [target]


def check_apart(jobs: Sequence[tuple[Path, Sequence[Path]]]) -> None:
    """Whether all that one command does can be done: no result takes the place of another, or of a
    clip that is given. What becomes of one clip alone is for `check_output`.

    Args:
        jobs: each clip, and all that is written of it.

    Raises:
        OutputError: one does.
    """
    sources: dict[object, Path] = {}
    for source, _ in jobs:
        with reading(source):
            sources[_identity(source)] = source
    results: dict[object, tuple[int, Path]] = {}
    for number, (source, targets) in enumerate(jobs):
        for path in targets:
            with writing(path):
                # A picture in a folder of pictures would be one more of them.
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
    """The same for all names of one file or folder; what does not exist yet has its place alone."""
    if path.exists():
        status = path.stat()
        if status.st_ino:  # some file systems number nothing
            return status.st_dev, status.st_ino
    return real_path(path)


def check_output(source: Path, path: Path, *, folder: bool, overwrite: bool) -> None:
    """Whether a result of a source may go there, as a folder or as a file.

    Raises:
        InputError: there is no such source, or no right to read it.
        OutputError: the path is the source, exists, or cannot be written.
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
    """Whether a result there is a folder of pictures: one that exists, or a name without the suffix
    of a video or a picture, such as `sharp` and `v1.0_sharp`.
    """
    return path.is_dir() or path.suffix.lower() not in _OF_FILES


def holds_frames(folder: Path) -> bool:
    """Whether a folder that is there holds the pictures of a video that was restored into it, or is
    about to.
    """
    if (folder / numbered(0)).exists():
        return True
    return folder.name not in ("", "..") and is_publishing(folder)  # no result is called so
