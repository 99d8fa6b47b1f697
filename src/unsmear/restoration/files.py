"""Restore a whole file: a video or a folder of images in, a video or a folder of images out.

Frames are decoded, restored and encoded one by one, so memory usage does not depend on the length.
The result is written in parts (`work.py`) and gets its name when it is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import av
import cv2
import torch
from torch import Tensor

from unsmear import __version__
from unsmear.clip import ClipInfo
from unsmear.engines.base import Engine, Runnable, as_engine
from unsmear.errors import (
    ConfigError,
    DeviceMemoryError,
    EncodeError,
    InputError,
    MidwayError,
    writing,
)
from unsmear.models.checkpoint import digest_of
from unsmear.models.zoo import load_polish
from unsmear.outputs import check_free
from unsmear.restoration.frames import restore_frames
from unsmear.restoration.overlap import prefetch
from unsmear.restoration.paths import check_paths, is_folder, targets_of
from unsmear.restoration.settings import Settings
from unsmear.restoration.sinks import Sink, done_before, folder_sinks, video_sinks
from unsmear.restoration.store import FeatureStore, open_store
from unsmear.restoration.stream import (
    Scene,
    Window,
    check_memory,
    check_window,
    describe_scenes,
    frames_after,
    load_scenes,
    save_scenes,
)
from unsmear.restoration.stretch import (
    Reader,
    frames_expected,
    frames_from,
    frames_of,
    in_presentation_time,
    open_reader,
)
from unsmear.restoration.work import Fingerprint, WorkFolder, fingerprints, work_path
from unsmear.video.reader import VideoReader
from unsmear.video.writer import finest_ticks

_PART_PIXELS = 128 * 1280 * 720  # of all frames of a part: a minute or two on a CPU
_PART_FRAMES = (16, 128)
# Pixels. For larger frames the network takes seconds: decoding and encoding in parallel gains
# nothing, but the frames in flight take a lot of memory.
_LARGEST_OVERLAP = 2560 * 1440


@dataclass(frozen=True)
class Progress:
    """Progress of one file.

    Attributes:
        done: number of frames processed in this pass.
        expected: number of all frames, None if unknown.
        info: of the clip.
        doing: `watching` in the first pass of the window `all`, `restoring` when frames are
            written.
    """

    done: int
    expected: int | None
    info: ClipInfo
    doing: Literal["watching", "restoring"] = "restoring"


@dataclass(frozen=True)
class Outcome:
    """Result of restoring one file.

    Attributes:
        frames: number of frames in the result.
        resumed: how many of them an earlier, interrupted run restored.
        untouched: how many of them are unchanged, because the network's result was implausible.
    """

    frames: int
    resumed: int = 0
    untouched: int = 0


def restore_file(
    source: Path,
    target: Path,
    model: Runnable,
    window: Window,
    settings: Settings = Settings(),
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Restore a video file or a folder of images.

    Resumes an interrupted run if source, network and settings are the same. On a CPU the result is
    then bit-exact with that of an uninterrupted run.

    Args:
        source: video file, or folder of images in the order of their names.
        target: video file (.mp4, .mov, .m4v, .mkv, .webm), or a folder (no suffix) for PNG files.
        model: an engine, or a network in evaluation mode, on the device to use.
        window: number of frames that contribute to each frame, odd, half of which are buffered; or
            `all`, which reads the source twice.
        settings: everything else.
        on_progress: called before the first frame and after each, in both passes.
        on_note: called with notes for the user: guesses, conversions, damage.

    Raises:
        InputError: the source cannot be used.
        OutputError: the target cannot be written. Nothing is left under its name. Complete parts
            are kept in the hidden folder beside it, unless the encoder refuses a frame.
        ConfigError: the window is even, below 1 or needs more memory than there is; the network
            does not support refine; a setting does not apply to a folder of images; or a GPU runs
            out of memory.
    """
    window = check_window(window)
    settings.quality.check(model)
    check_paths(source, target, settings)
    run = _Run(source, target, as_engine(model), window, settings, on_progress, on_note)
    with ExitStack() as stack:
        reader = run.open_reader(stack)
        for note in reader.notes:
            on_note(note)
        expected = frames_expected(reader.info, settings.span)
        width, height = reader.info.width, reader.info.height
        check_memory(window, width, height, expected, settings.quality.ensemble)
        sources = fingerprints(source)
        sinks = run.open_sinks(reader, sources)
        job = run.job(reader.info, sources, sinks)
        work = stack.enter_context(WorkFolder(target, job))
        if work.discarded:
            on_note(
                "the work of an interrupted run starts again: the input, the model, a setting, a "
                "version or the number of threads has changed"
            )
        if not (settings.overwrite or work.publishing):
            for path in targets_of(target, settings):
                check_free(path)
        try:
            return run.restore(reader, work, sinks)
        except BaseException as error:
            # A video that fails midway can be resumed with an --end, if none was given and parts do
            # not depend on it.
            wants_end = isinstance(error, MidwayError) and "end" in job and job["end"] is None
            if wants_end or not _recurs(error, source):
                work.keep()
                if work.kept:
                    other = " with that --end" if wants_end else ""
                    on_note(f"what is done so far is kept: run the same command{other} to resume")
            raise
        finally:
            for sink in sinks:
                sink.abandon()


def _recurs(error: BaseException, source: Path) -> bool:
    """Whether the next run of the same command would fail in the same way."""
    if isinstance(error, DeviceMemoryError):
        return False
    if isinstance(error, MidwayError) and not source.is_file():
        return False  # once the bad image is repaired or removed, or the folder is there again
    return isinstance(error, (InputError, ConfigError, EncodeError))


@dataclass(frozen=True)
class _Run:
    """One call of `restore_file`."""

    source: Path
    target: Path
    engine: Engine
    window: Window
    settings: Settings
    on_progress: Callable[[Progress], None]
    on_note: Callable[[str], None]

    def open_reader(self, stack: ExitStack) -> Reader:
        return open_reader(
            self.source,
            stack,
            start=self.settings.span.start,
            deinterlace=self.settings.deinterlace,
            finest=finest_ticks(self.target.suffix.lower()),
            end=self.settings.span.end,
        )

    def open_sinks(self, reader: Reader, sources: Sequence[Fingerprint]) -> list[Sink]:
        folder = work_path(self.target)
        if isinstance(reader, VideoReader) and not is_folder(self.target):
            return video_sinks(reader, self.target, folder, self.settings, self.on_note)
        return folder_sinks(
            reader, self.target, folder, self.settings, self.on_note,
            sources=sources, part_frames=_part_frames(reader.info),
            after=frames_after(self.engine, self.window, self.settings.quality),
        )  # fmt: skip

    def job(
        self, info: ClipInfo, sources: Sequence[Fingerprint], sinks: Sequence[Sink]
    ) -> dict[str, object]:
        """All that determines the result."""
        # A result then depends on a limited range of images, which the sinks keep track of.
        separable = self.source.is_dir() and self.window != "all"
        settings = {**asdict(self.settings), "overwrite": None}
        quality = self.settings.quality
        job: dict[str, object] = {
            "source": str(self.source.resolve()),
            "images" if separable else "files": sources,
            "settings": settings,
            "window": self.window,
            "network": digest_of(self.engine.network),
            "polish": digest_of(load_polish(told=quality.reblur)) if quality.polish else None,
            "engine": self.engine.identity,
            "part": _part_frames(info),
            "threads": self.engine.threads,
            "device": str(self.engine.device),
            "versions": [__version__, str(torch.__version__), av.__version__, cv2.__version__],
            "sinks": [sink.identity for sink in sinks],
        }
        if self.window != "all" and not is_folder(self.target):
            # Frames before an end do not depend on it; see `WorkFolder`.
            job["end"] = self.settings.span.end
            settings["span"] = self.settings.span.start
        return job

    def restore(self, reader: Reader, work: WorkFolder, sinks: Sequence[Sink]) -> Outcome:
        if (end := in_presentation_time(self.settings.span, reader).end) is not None:
            for sink in sinks:
                sink.keep_before(end, shortened=not work.continued)
        part_frames = _part_frames(reader.info)
        done = done_before(sinks)
        frames = sum(done)
        if not done or done[-1] == part_frames:  # a shorter part is the last one
            with ExitStack() as stack:
                scenes, store = self.first_pass(stack, work) if self.window == "all" else ((), None)
                frames = self.restore_rest(reader, work, sinks, frames, scenes, store)
        if not frames:
            raise InputError(
                f"'{self.source}' has no frames between --start and --end: choose others"
            )
        if isinstance(reader, VideoReader):
            for note in reader.damage.notes():
                self.on_note(note)
        parts = -(-frames // part_frames)
        if untouched := work.untouched(parts):
            self.on_note(
                f"{untouched} frames are left unchanged: the results of the network were "
                "implausible"
            )
        try:
            for sink in sinks:
                for note in sink.finish(parts):
                    self.on_note(note)
        # All frames are restored, perhaps hours of work: they are kept.
        except InputError as error:  # the source can no longer be read
            work.keep()
            raise InputError(
                f"{error}; the restored frames are kept in '{work.path}': once the video can be "
                "read again, the same command finishes"
            ) from None
        except EncodeError as error:
            work.keep()
            raise EncodeError(
                f"{error}; the restored frames are kept in '{work.path}', and the same command "
                "tries again: if that does not help, remove it and choose an output ending in .mkv"
            ) from None
        work.start_publishing()
        for sink in sinks:
            sink.publish()
        return Outcome(frames, sum(done), untouched)

    def first_pass(
        self, stack: ExitStack, work: WorkFolder
    ) -> tuple[list[Scene], FeatureStore | None]:
        """The first pass of the window `all`: scenes, and a store of features that lives as long as
        the stack. If an earlier run finished the pass, its scenes are loaded; there are no
        stored features then.
        """
        path, store = work.path / "scenes.safetensors", None
        if not path.exists():
            store = open_store(stack, work.path, self.engine.device)
            with ExitStack() as while_watching:
                reader = self.open_reader(while_watching)
                watched = while_watching.enter_context(closing(self.frames_watched(reader)))
                found = describe_scenes(
                    self.engine,
                    watched,
                    tiling=self.settings.tiling,
                    ensemble=self.settings.quality.ensemble,
                    store=store,
                )
            with writing(self.target):
                save_scenes(path, found)
        return load_scenes(path, self.engine.device), store

    def frames_watched(self, reader: Reader) -> Generator[Tensor, None, None]:
        """Frames of the first pass as RGB; progress is reported after each."""
        info, span = reader.info, in_presentation_time(self.settings.span, reader)
        expected = frames_expected(info, self.settings.span)
        self.on_progress(Progress(0, expected, info, "watching"))
        done = 0
        with closing(prefetch(frames_from(reader, span))) as decoded:
            for frame in decoded:
                if span.start is not None and frame.pts < span.start:
                    continue
                if span.end is not None and frame.pts >= span.end:
                    break
                yield frame.rgb
                done += 1
                self.on_progress(Progress(done, expected, info, "watching"))

    def restore_rest(
        self,
        reader: Reader,
        work: WorkFolder,
        sinks: Sequence[Sink],
        done: int,
        scenes: Sequence[Scene],
        store: FeatureStore | None,
    ) -> int:
        """Restore all frames from number `done` on, and return the total number of frames."""
        info, settings = reader.info, self.settings
        span = in_presentation_time(settings.span, reader)
        part_frames, untouched = _part_frames(info), 0

        def end_part() -> None:
            work.note_untouched((done - 1) // part_frames, untouched)
            for sink in sinks:
                sink.end()

        expected = frames_expected(info, settings.span)
        self.on_progress(Progress(done, expected, info))
        lead, frames = frames_of(reader, span, done, self.engine, self.window, settings.quality)
        results = restore_frames(
            self.engine, frames, self.window, scenes=scenes, store=store, tiling=settings.tiling,
            quality=settings.quality, strength=settings.strength, first=done - lead, lead=lead,
            overlap=info.width * info.height <= _LARGEST_OVERLAP,
        )  # fmt: skip
        with closing(results):
            for restored in results:
                if span.end is not None and restored.frame.pts >= span.end:
                    break
                for sink in sinks:
                    if done % part_frames == 0:
                        sink.begin(done // part_frames)
                    sink.put(restored)
                done += 1
                untouched += not restored.plausible
                if done % part_frames == 0:
                    end_part()
                    untouched = 0
                del restored  # or it would stay alive while the next one is computed
                self.on_progress(Progress(done, expected, info))
        if done % part_frames:
            end_part()
        return done


def _part_frames(info: ClipInfo) -> int:
    """Number of frames in a full part."""
    least, most = _PART_FRAMES
    return min(max(_PART_PIXELS // (info.width * info.height), least), most)
