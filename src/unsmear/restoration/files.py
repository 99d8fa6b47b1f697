"""Restore a whole file: a video or a folder of pictures in, the same out.

Decoding, restoring and encoding go frame by frame; memory does not depend on the length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

import torch
from torch import Tensor

from unsmear.clip import ClipInfo, Frame, YuvPlanes
from unsmear.errors import InputError, OutputError
from unsmear.models.network import DeblurNetwork
from unsmear.restoration.stream import (
    Scene,
    Window,
    check_window,
    describe_scenes,
    restore_stream,
)
from unsmear.restoration.tiles import Tiling
from unsmear.video.color import add_change, beside
from unsmear.video.folder import FolderReader, FolderWriter
from unsmear.video.reader import VideoReader
from unsmear.video.writer import VideoWriter, check_target


@dataclass(frozen=True)
class Restored:
    """A frame before and after.

    Attributes:
        frame: as decoded.
        rgb: restored, (3, H, W) float32, 0..1, on the CPU.
        planes: restored, in the codec's own format, where the clip is a video.
    """

    frame: Frame
    rgb: Tensor
    planes: YuvPlanes | None


def restore_frames(
    network: DeblurNetwork,
    frames: Iterable[Frame],
    window: Window,
    *,
    scenes: Sequence[Scene] = (),
    tiling: Tiling = "auto",
) -> Iterator[Restored]:
    """Restore decoded frames one after the other; see `restore_stream`."""
    pending: deque[Frame] = deque()

    def pictures() -> Iterator[Tensor]:
        for frame in frames:
            pending.append(frame)
            yield frame.rgb

    for out in restore_stream(network, pictures(), window, scenes=scenes, tiling=tiling):
        frame, rgb = pending.popleft(), out.cpu()
        planes = None if frame.planes is None else add_change(frame.planes, rgb - frame.rgb)
        yield Restored(frame, rgb, planes)


class Sink(Protocol):
    """Where restored frames go. A context manager: what is not committed is gone."""

    def put(self, restored: Restored) -> None:
        """Take the next frame."""

    def commit(self) -> None:
        """All frames came: make the result visible under its name."""

    def __enter__(self) -> Sink: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class _VideoSink:
    """Into a video file: restored with the source's audio, or before and after side by side."""

    def __init__(self, path: Path, reader: VideoReader, *, compare: bool) -> None:
        self._reader, self._compare = reader, compare
        width = reader.info.width
        self._writer = VideoWriter(
            path,
            reader.info,
            2 * (width // 2 * 2) if compare else width,
            rotation=reader.rotation,
            copied=() if compare else reader.copied,
            metadata=reader.metadata,
        )

    def put(self, restored: Restored) -> None:
        before, after = restored.frame.planes, restored.planes
        assert before is not None
        assert after is not None
        self._writer.write(beside(before, after) if self._compare else after, restored.frame.pts)
        self._pass_on()

    def commit(self) -> None:
        self._pass_on()
        self._writer.commit()

    def _pass_on(self) -> None:
        if not self._compare:
            for packet in self._reader.take_packets():
                self._writer.copy(packet)

    def __enter__(self) -> _VideoSink:
        self._writer.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, trace)


class _FolderSink:
    """Into a folder of PNG files, named as they came or by their number."""

    def __init__(self, writer: FolderWriter, *, compare: bool) -> None:
        self._writer, self._compare, self._count = writer, compare, 0

    def put(self, restored: Restored) -> None:
        rgb = torch.cat((restored.frame.rgb, restored.rgb), -1) if self._compare else restored.rgb
        self._writer.write(rgb, restored.frame.name or f"{self._count:06d}")
        self._count += 1

    def commit(self) -> None:
        self._writer.commit()

    def __enter__(self) -> _FolderSink:
        self._writer.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, trace)


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


def compare_path(target: Path) -> Path:
    """Where the side-by-side version of a result goes: sharp.mp4 -> sharp.compare.mp4, and
    the folder sharp -> sharp_compare.
    """
    if _is_folder(target):
        return target.with_name(f"{target.name}_compare")
    return target.with_name(f"{target.stem}.compare{target.suffix}")


def check_paths(source: Path, target: Path, *, compare: bool, overwrite: bool) -> None:
    """Whether source and target make sense, before any work is done.

    Raises:
        InputError: there is no such source.
        OutputError: the target is the source, exists, or cannot be written.
    """
    if not source.exists():
        raise InputError(f"no such file or folder: '{source}'")
    folder = _is_folder(target)
    for path in (target, compare_path(target)) if compare else (target,):
        check_output(source, path, folder=folder, overwrite=overwrite)


def check_output(source: Path, path: Path, *, folder: bool, overwrite: bool) -> None:
    """Whether results of a source may go there, as a folder or as a file.

    Raises:
        OutputError: the path is the source, exists, or cannot be written.
    """
    if source.is_dir() and not folder:
        raise OutputError(
            f"'{source}' is a folder of pictures and has no frame rate: give a folder, "
            f"such as '{path.with_suffix('')}', not '{path.name}'"
        )
    if path.exists():
        if path.samefile(source) or (
            source.is_dir() and source.resolve() in path.resolve().parents
        ):
            raise OutputError(f"'{path}' is (in) the input: choose another output")
        if path.is_dir() != folder:
            raise OutputError(
                f"'{path}' is {'a folder' if path.is_dir() else 'a file'}: choose another"
            )
        if not overwrite and not (folder and not any(path.iterdir())):
            raise OutputError(f"'{path}' exists: choose another output, or add --overwrite")
    if folder:
        if not path.parent.is_dir():
            raise OutputError(f"cannot write '{path}': there is no folder '{path.parent}'")
    else:
        check_target(path)


def _is_folder(path: Path) -> bool:
    return path.is_dir() or path.suffix == ""


def restore_file(
    source: Path,
    target: Path,
    network: DeblurNetwork,
    window: Window,
    *,
    tiling: Tiling = "auto",
    compare: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> int:
    """Restore a video file or a folder of pictures.

    Args:
        source: video file, or folder of pictures in the order of their names.
        target: video file (.mp4, .mov, .m4v, .mkv, .webm), or a folder (no suffix) for PNG files.
        network: in evaluation mode, on the device of the work.
        window: frames that contribute to each one, odd; or `all`, which reads the source twice.
        tiling: see `unsmear.restoration.tiles.Tiler`.
        compare: also write a version with before and after side by side, see `compare_path`.
        overwrite: replace a result that exists.
        on_progress: called before the first frame and after each, in both passes.

    Returns:
        Number of frames written, all that the source has.

    Raises:
        InputError: the source cannot be used.
        OutputError: the target cannot be written. Nothing is left under its name.
        ConfigError: window is even or below 1.
    """
    check_window(window)
    check_paths(source, target, compare=compare, overwrite=overwrite)
    scenes: Sequence[Scene] = ()
    if window == "all":
        with ExitStack() as stack:
            reader = open_reader(source, stack)
            scenes = describe_scenes(network, _watched(reader, on_progress), tiling=tiling)
    with ExitStack() as stack:
        reader = open_reader(source, stack)
        targets = [(target, False)] + ([(compare_path(target), True)] if compare else [])
        folder = _is_folder(target)
        sinks = [
            stack.enter_context(_open_sink(path, reader, folder=folder, compare=both))
            for path, both in targets
        ]
        results = restore_frames(network, reader, window, scenes=scenes, tiling=tiling)
        done = 0
        on_progress(Progress(0, reader.info.frames, reader.info))
        for restored in results:
            for sink in sinks:
                sink.put(restored)
            done += 1
            on_progress(Progress(done, reader.info.frames, reader.info))
        for sink in sinks:
            sink.commit()
    return done


def open_reader(source: Path, stack: ExitStack) -> VideoReader | FolderReader:
    """A reader for a file or a folder; the stack closes it."""
    if source.is_dir():
        return FolderReader(source)
    return stack.enter_context(VideoReader(source))


def _watched(
    reader: VideoReader | FolderReader, on_progress: Callable[[Progress], None]
) -> Iterator[Tensor]:
    """The pictures of the first pass, each reported when it is done with."""
    info = reader.info
    on_progress(Progress(0, info.frames, info, "watching"))
    for done, frame in enumerate(reader, start=1):
        yield frame.rgb
        on_progress(Progress(done, info.frames, info, "watching"))


def _open_sink(
    path: Path, reader: VideoReader | FolderReader, *, folder: bool, compare: bool
) -> Sink:
    if folder:
        dtype = reader.dtype if isinstance(reader, FolderReader) else torch.uint8
        return _FolderSink(FolderWriter(path, dtype), compare=compare)
    assert isinstance(reader, VideoReader)  # check_paths saw to it
    return _VideoSink(path, reader, compare=compare)
