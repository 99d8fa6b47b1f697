"""The plan of one command: which clip becomes which result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unsmear.errors import ConfigError, InputError, OutputError, reading, writing
from unsmear.video.formats import VIDEO_CONTAINERS

_PREVIEW = ".preview.png"
_NAMED = 5  # maximum number of skipped files that a note names
Job = tuple[Path, Path]


@dataclass(frozen=True)
class Plan:
    """The plan of one command.

    Attributes:
        jobs: pairs of clip and result.
        folder: for the results, if they go into one.
        several: whether several clips or a folder of videos were given; clips whose results exist
            are then skipped.
        results: clips that are skipped because they are results of other clips given: result ->
            clip that it was made from.
        unknown: for each folder given, its files that are skipped because they are not clips.
    """

    jobs: list[Job]
    folder: Path | None
    several: bool
    results: dict[Path, Path]
    unknown: dict[Path, Sequence[Path]]


def plan_jobs(
    clips: Sequence[Path],
    output: Path | None,
    *,
    inside: bool = False,
    preview: bool = False,
    lossless: bool = False,
    overwrite: bool = False,
) -> Plan:
    """Decide which clip becomes which result.

    Args:
        clips: videos, folders of images, folders of videos.
        output: as given by the user; None: beside each clip.
        inside: whether `output` was given with a trailing slash.
        preview: results are images.
        lossless: results are .mkv.
        overwrite: existing results are replaced.

    Raises:
        InputError: a folder cannot be read, holds both videos and images, or only other files; a
            clip is a single image.
        OutputError: one file is named for several results.
        ConfigError: the output of a preview does not end in .png.
    """
    from unsmear.restoration.paths import is_folder, results_among

    sources: list[Path] = []
    results: dict[Path, Path] = {}
    unknown: dict[Path, Sequence[Path]] = {}
    for clip in clips:
        found, others = clips_in(clip)
        if others:
            unknown[clip] = others
        if found != [clip]:
            results |= results_among(found)
        sources += found
    many = len(sources) > 1 or sources[0] != clips[0]
    if output is None and not (preview or overwrite):  # *.mp4 also matches results of the last run
        results |= results_among(sources)
    sources = [source for source in sources if source not in results]
    if many and output is not None:
        with writing(output):
            if not is_folder(output):
                given = f"{len(sources)} clips are" if len(sources) > 1 else "a folder of clips is"
                raise OutputError(f"'{output}' is a file name, but {given} given: name a folder")
    into = many
    if output is not None and not many:
        with writing(output):
            into = _takes_in(output, sources[0], inside=inside, preview=preview)
        if preview and not into and output.suffix.lower() != ".png":
            raise ConfigError(f"output is '{output}': must end in .png, as a preview is an image")
    jobs = []
    for source in sources:
        if output is None or into:
            if not preview:
                _check_moving(source)
            target = _default_output(source, output, preview=preview, lossless=lossless)
        else:
            target = output
        jobs.append((source, target))
    return Plan(jobs, output if into else None, many, results, unknown)


def clips_in(clip: Path) -> tuple[list[Path], list[Path]]:
    """The clip itself, or the videos of a folder; and files of the folder that are skipped.

    Raises:
        InputError: a folder cannot be read, holds both videos and images, or only other files.
    """
    from unsmear.restoration.paths import VIDEO_SUFFIXES
    from unsmear.video.images import IMAGE_SUFFIXES, list_images

    with reading(clip):
        if not clip.is_dir():
            return [clip], []
        there = (path for path in clip.iterdir() if not path.name.startswith("."))
        files = sorted(path for path in there if path.is_file())
        videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
        previews = {f"{video.stem}{_PREVIEW}" for video in videos}
        pictures = [file for file in list_images(clip) if file.name not in previews]
    others = [file for file in files if file.suffix.lower() not in VIDEO_SUFFIXES | IMAGE_SUFFIXES]
    if pictures and all(video.suffix.lower() == ".gif" for video in videos):
        return [clip], videos  # beside images, a GIF (animated or not) does not count as a clip
    if others and not (pictures or videos):
        raise InputError(
            f"'{clip}' contains no images, and no files with the suffix of a video: if some are "
            "videos, give them by name"
        )
    if not videos:
        return [clip], []
    if pictures:
        raise InputError(f"'{clip}' contains videos and images: give the videos by name")
    return videos, others


def told_skipped(files: Sequence[Path]) -> str:
    """A note on files of a folder that are skipped because they are not clips."""
    names = [f"'{file.name}'" for file in files[:_NAMED]]
    if more := len(files) - len(names):
        names.append(f"{more} more")
    return f"skipped: {', '.join(names)}; if one of these is a video, give it by name"


def _takes_in(output: Path, source: Path, *, inside: bool, preview: bool) -> bool:
    """Whether the result of a single clip goes into the folder `output`, under the name of the clip
    (so that `*.mp4 -o sharp/` means the same if only one clip matches), or becomes `output` itself.
    """
    from unsmear.restoration.paths import holds_frames, is_folder

    if preview:
        return output.suffix.lower() != ".png" and (inside or output.is_dir())
    if source.is_dir() or not is_folder(output):
        return False
    return inside or (output.is_dir() and not holds_frames(output))


def _check_moving(source: Path) -> None:
    """Raise InputError if a clip that is to become a video is a single image."""
    from unsmear.video.headers import read_header
    from unsmear.video.images import IMAGE_SUFFIXES

    with reading(source):
        if source.suffix.lower() not in IMAGE_SUFFIXES or not source.is_file():
            return
        if not read_header(source).multi_image:
            raise InputError(
                f"'{source}' is an image: put images into a folder, and give the folder"
            )


def _default_output(source: Path, folder: Path | None, *, preview: bool, lossless: bool) -> Path:
    from unsmear.outputs import real_path
    from unsmear.restoration.paths import RESULT_MARK, is_folder

    # A link keeps its own name and folder; `.` and `..` have to be resolved to get one.
    named = real_path(source) if source.name in ("", "..") else source
    where = named.parent if folder is None else folder
    name = named.name if source.is_dir() else source.stem
    if preview:
        return where / f"{name}{_PREVIEW}"
    if source.is_dir():
        with writing(where / name):
            marked = folder is None or not is_folder(where / name)  # images in a folder `clip.avi`
        return where / (f"{name}_{RESULT_MARK}" if marked else name)
    held = source.suffix.lower() in VIDEO_CONTAINERS and not lossless
    suffix = source.suffix if held else ".mkv"
    return where / (f"{name}.{RESULT_MARK}{suffix}" if folder is None else f"{name}{suffix}")
