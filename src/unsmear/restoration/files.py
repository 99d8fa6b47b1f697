"""Restore a whole file: a video or a folder of pictures in, the same out.

Decoding, restoring and encoding go frame by frame; memory does not depend on the length. The
result grows in parts (`work.py`) and gets its name when it is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import av
import torch
from torch import Tensor

from unsmear import __version__
from unsmear.clip import ClipInfo, HdrMetadata
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
from unsmear.outputs import check_free
from unsmear.restoration.frames import restore_frames
from unsmear.restoration.overlap import ahead
from unsmear.restoration.paths import check_paths, compare_path, is_folder, targets_of
from unsmear.restoration.settings import Settings
from unsmear.restoration.sinks import FolderSink, Sink, VideoSink, done_before, written_info
from unsmear.restoration.store import FeatureStore, open_store
from unsmear.restoration.stream import (
    Scene,
    Window,
    check_room,
    check_window,
    describe_scenes,
    frames_after,
    load_scenes,
    save_scenes,
)
from unsmear.restoration.stretch import (
    Reader,
    beginning,
    frames_expected,
    frames_from,
    frames_of,
    in_presentation_time,
    open_reader,
)
from unsmear.restoration.work import WorkFolder, fingerprints
from unsmear.video.container import check_container
from unsmear.video.describe import clock
from unsmear.video.encoding import choose_encoding, ticks_of
from unsmear.video.folder import FolderReader
from unsmear.video.orientation import orientation_of, picture_notes
from unsmear.video.reader import VideoReader
from unsmear.video.stills import lost_in_pictures
from unsmear.video.writer import Origin, finest_ticks

_PART_PIXELS = 128 * 1280 * 720  # a part is what a CPU restores in a minute or two
_PART_FRAMES = (16, 128)
# Pixels of a frame. Of a larger one the network takes seconds, beside which decoding and encoding
# are nothing, and a frame more in memory is not.
_LARGEST_OVERLAP = 2560 * 1440


@dataclass(frozen=True)
class Progress:
    """How far a file is.

    Attributes:
        done: frames done with.
        expected: frames in all, None if unknown beforehand.
        info: of the clip.
        doing: `watching` in the first of two passes, where the window is `all`; `restoring`
            when frames are written.
    """

    done: int
    expected: int | None
    info: ClipInfo
    doing: Literal["watching", "restoring"] = "restoring"


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes:
        frames: of the result.
        resumed: of them, made by an earlier run that was broken off.
        untouched: of them, given as they came in, because what the network made of them was
            not plausible.
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
    """Restore a video file or a folder of pictures.

    What a run that was broken off had done is taken up again, if source, network and settings
    are the same; on a CPU the result is then the same to the last bit.

    Args:
        source: video file, or folder of pictures in the order of their names.
        target: video file (.mp4, .mov, .m4v, .mkv, .webm), or a folder (no suffix) for PNG files.
        model: an engine, or a network in evaluation mode, on the device of the work.
        window: frames that contribute to each one, odd, half of which wait in memory; or `all`,
            which reads the source twice.
        settings: everything else.
        on_progress: called before the first frame and after each, in both passes.
        on_note: called with what the user should know: guesses, conversions, damage.

    Raises:
        InputError: the source cannot be used.
        OutputError: the target cannot be written. Nothing is left under its name. What is restored
            is kept in the hidden folder beside it, unless the encoder refuses pictures.
        ConfigError: window is even, below 1 or larger than memory, or refine is asked of a network
            that looks at no neighbours.
    """
    window = check_window(window)
    settings.effort.check(model)
    check_paths(source, target, settings)
    run = _Run(source, target, as_engine(model), window, settings, on_progress, on_note)
    with ExitStack() as stack:
        reader = run.open_reader(stack)
        for note in reader.notes:
            on_note(note)
        expected = frames_expected(reader.info, settings.span)
        width, height = reader.info.width, reader.info.height
        check_room(window, width, height, expected, settings.effort.ensemble)
        job, make_sinks = run.planned(reader)
        work = stack.enter_context(WorkFolder(target, job))
        if not (settings.overwrite or work.publishing):
            for path in targets_of(target, settings):
                check_free(path)
        sinks = make_sinks(work.path)
        try:
            outcome = run.work(reader, work, sinks)
        except BaseException as error:
            settled = isinstance(error, (InputError, ConfigError, EncodeError))
            ends_alike = settled and not isinstance(error, DeviceMemoryError)
            # What is readable up to somewhere can be had by an --end, where none was given and
            # what is done holds for any; a folder once its picture is mended or taken out.
            midway = isinstance(error, MidwayError)
            wants_end = midway and job.get("end", "unheard of") is None
            if ends_alike and not (wants_end or (midway and source.is_dir())):
                raise  # the next run would come to the same
            work.keep()
            if work.kept:
                other = " with that --end" if wants_end else ""
                on_note(f"what is done so far is kept: run the same command{other} to resume")
            raise
        finally:
            for sink in sinks:
                sink.abandon()
    return outcome


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
        span, deinterlace = self.settings.span, self.settings.deinterlace
        return open_reader(
            self.source,
            stack,
            start=span.start,
            deinterlace=deinterlace,
            finest=finest_ticks(self.target.suffix.lower()),
            end=span.end,
        )

    def planned(self, reader: Reader) -> tuple[dict[str, object], Callable[[Path], list[Sink]]]:
        """Everything that decides the result, and how to make its sinks in a folder."""
        info, settings, target = reader.info, self.settings, self.target
        each = self.part_frames(info)
        kinds = (None, settings.compare) if settings.compare else (None,)
        told, made_of = {**asdict(settings), "overwrite": None}, fingerprints(self.source)
        # What a frame becomes then depends on few others, which sinks know.
        separable = isinstance(reader, FolderReader) and self.window != "all"
        job: dict[str, object] = {
            "source": str(self.source.resolve()),
            "pictures" if separable else "of": made_of,
            "settings": told,
            "window": self.window,
            "network": digest_of(self.engine.network),
            "engine": self.engine.identity,
            "part": each,
            "threads": self.engine.threads,
            "device": str(self.engine.device),
            "versions": [__version__, str(torch.__version__), av.__version__],
        }
        if self.window != "all" and not is_folder(target):
            # What frames before an end become does not depend on it; see `WorkFolder`.
            job["end"], job["settings"] = settings.span.end, {**told, "span": settings.span.start}
        if is_folder(target):
            if isinstance(reader, FolderReader):
                dtype, lost, pictures = reader.dtype, [], made_of
            else:
                dtype = torch.uint16 if reader.pixel_format.depth > 8 else torch.uint8
                lost, pictures = lost_in_pictures(reader, target), []
            turn, job["dtype"] = orientation_of(info.display_matrix), str(dtype)
            after = frames_after(self.engine, self.window, settings.effort)
            for note in (*picture_notes(info), *lost):
                self.on_note(note)
            return job, lambda folder: [
                FolderSink(
                    _target_of(target, kind), folder, dtype, each, compare=kind, turn=turn,
                    made_of=pictures, ahead=after,
                )
                for kind in kinds
            ]  # fmt: skip
        assert isinstance(reader, VideoReader)  # check_paths saw to it
        span, suffix = in_presentation_time(self.settings.span, reader), target.suffix.lower()
        written = [written_info(info, kind) for kind in kinds]
        encodings = [
            choose_encoding(
                settings.encode, reader.codec, reader.pixel_format, suffix, (one.width, one.height)
            )
            for one in written
        ]
        for kind, encoding, one in zip(kinds, encodings, written, strict=True):
            check_container(_target_of(target, kind), encoding, one, one.width)
        offset = beginning(span, reader)
        # A whole number of ticks, or two frames could fall on one.
        offset = offset // ticks_of(info) * ticks_of(info)
        origin = Origin.of(reader, suffix, offset, span.end)
        for note in (*encodings[0].notes, *origin.notes):
            self.on_note(note)
        families = {encoding.encoder.family for encoding in encodings}
        if info.hdr != HdrMetadata() and not families <= {"hevc", "av1"}:
            self.on_note("HDR10 metadata is not kept: it needs --codec hevc or av1")
        if offset < 0:
            self.on_note(
                "the video starts before zero: all time stamps were shifted to start at zero"
            )
        elif offset > 0 and span.start is None:
            self.on_note(
                f"the video starts at {clock(float(offset))}: all time stamps were shifted to "
                "start at zero"
            )
        job["encoding"] = [
            [e.encoder.name, dict(e.encoder.options), e.crf, e.pixel_format.name] for e in encodings
        ]
        return job, lambda folder: [
            VideoSink(
                _target_of(target, kind), folder, encoding, info, None if kind else origin,
                offset=offset, compare=kind,
            )
            for kind, encoding in zip(kinds, encodings, strict=True)
        ]  # fmt: skip

    @staticmethod
    def part_frames(info: ClipInfo) -> int:
        least, most = _PART_FRAMES
        return min(max(_PART_PIXELS // (info.width * info.height), least), most)

    def work(self, reader: Reader, work: WorkFolder, sinks: Sequence[Sink]) -> Outcome:
        each = self.part_frames(reader.info)
        if (end := in_presentation_time(self.settings.span, reader).end) is not None:
            for sink in sinks:
                sink.keep_before(end)
        done = done_before(sinks)
        frames = sum(done)
        if not done or done[-1] == each:  # a part that is short is the last
            with ExitStack() as stack:
                scenes, store = self.scenes(stack, work) if self.window == "all" else ((), None)
                frames = self.make(reader, work, sinks, frames, each, scenes, store)
        parts = -(-frames // each)
        if not frames:
            raise InputError(
                f"'{self.source}' has no frames between --start and --end: choose others"
            )
        if isinstance(reader, VideoReader):
            for note in reader.damage.notes():
                self.on_note(note)
        if untouched := work.untouched(parts):
            self.on_note(
                f"{untouched} frames are left unchanged: the results of the network were "
                "implausible"
            )
        try:
            for sink in sinks:
                for note in sink.finish(parts):
                    self.on_note(note)
        except EncodeError as error:  # all frames are there: hours of work, it may be
            work.keep()
            raise EncodeError(
                f"{error}; the restored frames are kept in '{work.path}', and the same command "
                "tries again: if that does not help, remove it and choose an output ending in .mkv"
            ) from None
        work.start_publishing()
        for sink in sinks:
            sink.publish()
        return Outcome(frames, sum(done), untouched)

    def scenes(self, stack: ExitStack, work: WorkFolder) -> tuple[list[Scene], FeatureStore | None]:
        """The first pass over a video whose window is `all`, with features while the stack is
        open; or what an earlier run has of it, which are no features.
        """
        path, store = work.path / "scenes.safetensors", None
        if not path.exists():
            store = open_store(stack, work.path, self.engine.device)
            with ExitStack() as while_watching:
                reader = self.open_reader(while_watching)
                pictures = while_watching.enter_context(closing(self.watched(reader)))
                found = describe_scenes(
                    self.engine,
                    pictures,
                    tiling=self.settings.tiling,
                    ensemble=self.settings.effort.ensemble,
                    store=store,
                )
            with writing(self.target):
                save_scenes(path, found)
        return load_scenes(path, self.engine.device), store

    def watched(self, reader: Reader) -> Generator[Tensor, None, None]:
        """The pictures of the first pass, each reported when it is done with."""
        info, span = reader.info, in_presentation_time(self.settings.span, reader)
        expected = frames_expected(info, self.settings.span)
        self.on_progress(Progress(0, expected, info, "watching"))
        done = 0
        with closing(ahead(frames_from(reader, span))) as decoded:
            for frame in decoded:
                if span.start is not None and frame.pts < span.start:
                    continue
                if span.end is not None and frame.pts >= span.end:
                    break
                yield frame.rgb
                done += 1
                self.on_progress(Progress(done, expected, info, "watching"))

    def make(
        self,
        reader: Reader,
        work: WorkFolder,
        sinks: Sequence[Sink],
        done: int,
        each: int,
        scenes: Sequence[Scene],
        store: FeatureStore | None,
    ) -> int:
        """Make all frames from number `done` on; how many there are then."""
        info, span, untouched = reader.info, in_presentation_time(self.settings.span, reader), 0

        def end_part() -> None:
            work.note_untouched((done - 1) // each, untouched)
            for sink in sinks:
                sink.end()

        expected = frames_expected(info, self.settings.span)
        self.on_progress(Progress(done, expected, info))
        lead, frames = frames_of(reader, span, done, self.engine, self.window, self.settings.effort)
        results = restore_frames(
            self.engine, frames, self.window, scenes=scenes, store=store,
            tiling=self.settings.tiling, effort=self.settings.effort,
            strength=self.settings.strength, first=done - lead, lead=lead,
            overlap=info.width * info.height <= _LARGEST_OVERLAP,
        )  # fmt: skip
        with closing(results):
            for restored in results:
                if span.end is not None and restored.frame.pts >= span.end:
                    break
                for sink in sinks:
                    if done % each == 0:
                        sink.begin(done // each)
                    sink.put(restored)
                done += 1
                untouched += not restored.plausible
                if done % each == 0:
                    end_part()
                    untouched = 0
                del restored  # or it would stay while the next one is made
                self.on_progress(Progress(done, expected, info))
        if done % each:
            end_part()
        return done


def _target_of(target: Path, kind: object) -> Path:
    return compare_path(target) if kind else target
