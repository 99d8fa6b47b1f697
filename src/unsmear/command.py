"""`unsmear clip.mp4`: the main command, for one or more clips."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from unsmear.arguments import Device, MaybeWhole, Whole
from unsmear.display import Bar, JsonLines, Reporter
from unsmear.engines import EngineName
from unsmear.errors import (
    USAGE_ERROR,
    ConfigError,
    OutputError,
    UnsmearError,
    as_user_error,
    writing,
)
from unsmear.models import DEFAULT_MODEL
from unsmear.outputs import results_folder
from unsmear.planning import Job, Plan, plan_jobs, told_skipped
from unsmear.restoration import DEFAULT_BURST

if TYPE_CHECKING:
    from unsmear.engines.choice import OpenedModel
    from unsmear.restoration.settings import Settings
    from unsmear.restoration.stream import Window

_SLASHES = tuple(slash for slash in (os.sep, os.altsep) if slash)  # `Path` drops a trailing one


def restore(
    *clips: Path,
    output: Annotated[str | None, Parameter(alias="-o")] = None,
    model: Annotated[str, Parameter(alias="-m")] = DEFAULT_MODEL,
    device: Device = "auto",
    engine: EngineName = "auto",
    window: str | None = None,
    tile: str = "auto",
    ensemble: Whole = 1,
    refine: Whole = 0,
    burst: Whole = DEFAULT_BURST,
    polish: Annotated[bool, Parameter(negative="")] = False,
    reblur: Annotated[bool, Parameter(negative="")] = False,
    strength: float = 1.0,
    start: str | None = None,
    end: str | None = None,
    codec: Literal["auto", "h264", "hevc", "vp9", "av1", "prores", "ffv1"] = "auto",
    crf: MaybeWhole = None,
    pixel_format: str | None = None,
    lossless: Annotated[bool, Parameter(negative="")] = False,
    deinterlace: Annotated[bool, Parameter(negative="")] = False,
    compare: Literal["side", "wipe"] | None = None,
    preview: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Restore videos, or folders of images in the order of their names.

    Every frame keeps its time stamp; audio, subtitles, chapters and metadata are kept. If a run is
    interrupted, the same command resumes it; of several clips, those with existing results are
    skipped.

    Args:
        clips: Video files, folders of images, or folders of videos.
        output: A video file (.mp4, .mov, .m4v, .mkv, .webm), a folder for the results (existing,
            or ending in `/`), or a folder of PNG images to create (no suffix). Default: the
            input's name with `.sharp` before the suffix.
        model: Name of a model (see `unsmear models`), or path of a .safetensors file.
        device: Where to run.
        engine: Inference engine. `auto` picks the fastest one installed that computes in float32.
        window: Number of frames that contribute to each frame: an odd number, or `all` for the
            whole scene (reads the video twice). Larger numbers need more memory. Default: the
            model's own.
        tile: Tile size for large frames: WIDTHxHEIGHT, `auto` or `off`. Smaller tiles need less
            memory; the result is the same, up to rounding.
        ensemble: Average over this many rotated or mirrored views of each frame: 1, 2, 4 or 8.
            Slightly sharper; the time grows in proportion.
        refine: Number of additional passes, 0 to 3, that restore each frame again with its restored
            neighbours. The first helps blurry clips and costs sharp ones a little; each adds
            over 50 % to the time.
        burst: Number of restored neighbours on each side, 0 to 4, from which each frame takes
            sharper detail. 0 is fastest.
        polish: Correct each frame after that with a small second network.
        reblur: Correct each frame at the end so that, blurred again along the camera's path, it
            looks like the input.
        strength: How much of the change to apply, from 0 (none) to 1.
        start: Start time, in seconds (90.5) or minutes (1:30).
        end: End time, exclusive.
        codec: Codec of the output. `auto` keeps the input's where possible.
        crf: Constant rate factor, lower is better: 0 to 51 (h264, hevc) or 0 to 63 (vp9, av1).
        pixel_format: Pixel format of the output, such as yuv420p or yuv420p10le. Default: the
            input's.
        lossless: Encode losslessly, as FFV1 in .mkv.
        deinterlace: Deinterlace the video before restoring it.
        compare: Also write a before/after video, side by side or with a moving dividing line. Its
            name has `.compare` before the suffix.
        preview: Restore only a few frames, and write them before and after as one image.
        overwrite: Overwrite existing results.
        json: Report progress, results and errors as JSON lines on standard output.
    """
    if not clips:
        raise ConfigError(
            "no clip given: try `unsmear clip.mp4 -o sharp.mp4`, or see `unsmear --help`"
        )
    from unsmear.allocator import return_freed_memory
    from unsmear.engines.base import threads_for
    from unsmear.engines.choice import open_model
    from unsmear.restoration.quality import QualityOptions
    from unsmear.restoration.settings import Settings, Span, parse_time
    from unsmear.restoration.stream import parse_window
    from unsmear.restoration.tiles import parse_tiling
    from unsmear.video.encoding import EncodeChoice
    from unsmear.video.formats import parse_pixel_format

    return_freed_memory()
    settings = Settings(
        tiling=parse_tiling(tile),
        quality=QualityOptions(
            ensemble=ensemble, refine=refine, burst=burst, polish=polish, reblur=reblur
        ),
        strength=strength,
        span=Span(
            start=None if start is None else parse_time(start),
            end=None if end is None else parse_time(end),
        ),
        encode=EncodeChoice(
            codec=codec,
            crf=crf,
            pixel_format=None if pixel_format is None else parse_pixel_format(pixel_format),
            lossless=lossless,
        ),
        deinterlace=deinterlace,
        compare=compare,
        overwrite=overwrite,
    )
    chosen: Window | None = None if window is None else parse_window(window)
    said: set[str] = set()

    def reporter_of(source: Path) -> Reporter:
        return JsonLines(source) if json else Bar(source.name or str(source), said)

    plan = plan_jobs(
        clips,
        None if output is None else Path(output),
        inside=output is not None and output.endswith(_SLASHES),
        preview=preview,
        lossless=lossless,
        overwrite=overwrite,
    )
    if plan.folder is not None:
        _check_folder(plan.folder)
    with contextlib.nullcontext() if plan.folder is None else results_folder(plan.folder):
        done = _check_jobs(plan, settings, preview=preview)
        for path, note in _skip_notes(plan, done, settings):
            reporter_of(path).note(note)
        jobs = [job for job in plan.jobs if job not in done]
        if not jobs:
            return
        opened = open_model(model, device, engine, side_by_side=True)
        failures = 0
        for source, target in jobs:
            with reporter_of(source) as reporter, threads_for(opened.engine):
                try:
                    _restore_one(
                        source, target, opened, chosen, settings, reporter, preview=preview
                    )
                except UnsmearError as error:
                    if len(plan.jobs) == 1 and not json:
                        raise
                    reporter.error(str(error))
                    failures += 1
    if failures:
        sys.exit(USAGE_ERROR)


def _check_folder(folder: Path) -> None:
    """Raise OutputError if the folder for the results does not exist and cannot be created."""
    with writing(folder):
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"'{folder}' is a file: name a folder for the results")
        if not folder.parent.is_dir():
            raise OutputError(f"cannot write '{folder}': there is no folder '{folder.parent}'")


def _check_jobs(plan: Plan, settings: Settings, *, preview: bool) -> list[Job]:
    """Check all jobs before any work starts. Return those to skip, whose results exist already."""
    from unsmear.outputs import check_named
    from unsmear.restoration.paths import check_apart, check_paths, is_there, targets_of
    from unsmear.restoration.preview import check_preview

    for _, target in plan.jobs:
        check_named(target)
    written = [[to] if preview else targets_of(to, settings) for _, to in plan.jobs]
    check_apart([(source, to) for (source, _), to in zip(plan.jobs, written, strict=True)])
    done = []
    for job, targets in zip(plan.jobs, written, strict=True):
        asked = settings
        if plan.several and not settings.overwrite and is_there(targets):
            done.append(job)
            asked = replace(settings, overwrite=True)  # it is skipped, but all other checks apply
        (check_preview if preview else check_paths)(*job, asked)
    return done


def _skip_notes(plan: Plan, done: Sequence[Job], settings: Settings) -> Iterator[tuple[Path, str]]:
    """Notes for the user: which clips and files are skipped, and why."""
    from unsmear.restoration.paths import targets_of

    for folder, files in plan.unknown.items():
        yield folder, told_skipped(files)
    for source, target in done:
        there = f"'{target}' already exists, perhaps from other settings"
        yield source, f"skipped: {there}; use --overwrite to restore it again"
    targets = {path for _, target in plan.jobs for path in targets_of(target, settings)}
    for result, source in plan.results.items():
        if result not in targets:
            named = f"its name marks it as a result of '{source.name}'"
            yield result, f"skipped: {named}; to restore it again, give it on its own"


def _restore_one(
    source: Path,
    target: Path,
    model: OpenedModel,
    window: Window | None,
    settings: Settings,
    reporter: Reporter,
    *,
    preview: bool,
) -> None:
    from unsmear.restoration.files import restore_file
    from unsmear.restoration.preview import write_preview

    chosen = model.window if window is None else window
    try:
        if preview:
            outcome = write_preview(
                source, target, model.engine, chosen, settings, on_note=reporter.note
            )
        else:
            outcome = restore_file(
                source, target, model.engine, chosen, settings,
                on_progress=reporter.progress, on_note=reporter.note,
            )  # fmt: skip
    except OSError as error:
        raise as_user_error(error) from None
    reporter.result(target, outcome)
