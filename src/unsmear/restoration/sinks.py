"""Where restored frames go: a video file or a folder of images, written part by part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import torch

from unsmear.clip import ClipInfo, HdrMetadata
from unsmear.errors import writing
from unsmear.outputs import commit_file, commit_text, spelling_key, sync, telling_of
from unsmear.restoration.comparison import compared_images, compared_planes, written_info
from unsmear.restoration.frames import Restored
from unsmear.restoration.paths import targets_of
from unsmear.restoration.settings import Comparison, Settings
from unsmear.restoration.stretch import beginning, in_presentation_time
from unsmear.restoration.work import WHOLE, Fingerprint
from unsmear.video.color import convert_planes
from unsmear.video.container import check_container
from unsmear.video.describe import clock
from unsmear.video.encoding import Encoding, FrameEncoder, choose_encoding, ticks_of
from unsmear.video.folder import FolderReader, numbered, publish_images
from unsmear.video.images import integer_from_unit, write_image
from unsmear.video.orientation import orientation_of, upright
from unsmear.video.reader import VideoReader
from unsmear.video.spool import SpoolWriter, read_spools
from unsmear.video.stills import image_notes
from unsmear.video.writer import Origin, assemble, assemble_what_can_be, publish


class Sink(Protocol):
    """Takes restored frames in parts; a part counts only when it is complete."""

    @property
    def target(self) -> Path:
        """Path of the result."""

    @property
    def identity(self) -> object:
        """All that determines the files besides the frames, as plain values (for JSON)."""

    def frames(self, part: int) -> int | None:
        """Number of frames of a complete part, from this run or an earlier one; otherwise None."""

    def keep_before(self, end: Fraction, *, shortened: bool) -> None:
        """Delete parts of an earlier run from the first one that is shown beyond a presentation
        time, in seconds. `shortened`: parts were made with this end, so none of their frames has to
        be shortened to it.
        """

    def begin(self, part: int) -> None:
        """Start a part, or restart one that is not complete."""

    def put(self, restored: Restored) -> None:
        """Take the next frame."""

    def end(self) -> None:
        """Complete the current part."""

    def abandon(self) -> None:
        """Discard the current part if it is not complete."""

    def finish(self, parts: int) -> list[str]:
        """Assemble all parts, still in the work folder; return notes for the user."""

    def publish(self) -> None:
        """Move the result to its final name; does nothing if that is already done."""


def video_sinks(
    reader: VideoReader,
    target: Path,
    folder: Path,
    settings: Settings,
    on_note: Callable[[str], None],
) -> list[Sink]:
    """Sinks of a video file and, if the settings ask for one, its comparison, in the work folder
    `folder`. Notes for the user go to `on_note`.

    Raises:
        OutputError: no encoder fits all that was asked for, or the container does not accept its
            frames.
    """
    info, suffix = reader.info, target.suffix.lower()
    span = in_presentation_time(settings.span, reader)
    outputs, encodings = _outputs(target, settings), []
    for path, compare in outputs:
        written = written_info(info, compare)
        size = written.width, written.height
        encoding = choose_encoding(settings.encode, reader.codec, reader.pixel_format, suffix, size)
        check_container(path, encoding, written)
        encodings.append(encoding)
    # Rounded to whole ticks; otherwise two frames could get the same time stamp.
    offset = beginning(span, reader) // ticks_of(info) * ticks_of(info)
    origin = Origin.of(reader, suffix, offset, span.end)
    for note in (*encodings[0].notes, *origin.notes):
        on_note(note)
    families = {encoding.encoder.family for encoding in encodings}
    if info.hdr != HdrMetadata() and not families <= {"hevc", "av1"}:
        on_note("HDR10 metadata is not kept: it needs --codec hevc or av1")
    if offset < 0:
        on_note("the video starts before zero: all time stamps were shifted to start at zero")
    elif offset > 0 and span.start is None:
        on_note(
            f"the video starts at {clock(float(offset))}: all time stamps were shifted to "
            "start at zero"
        )
    return [
        VideoSink(
            path, folder, encoding, info, None if compare else origin, offset=offset,
            compare=compare,
        )
        for (path, compare), encoding in zip(outputs, encodings, strict=True)
    ]  # fmt: skip


def folder_sinks(
    reader: VideoReader | FolderReader,
    target: Path,
    folder: Path,
    settings: Settings,
    on_note: Callable[[str], None],
    *,
    sources: Sequence[Fingerprint],
    part_frames: int,
    after: int,
) -> list[Sink]:
    """Likewise of a folder of images; see `FolderSink` for the last arguments."""
    if isinstance(reader, FolderReader):
        dtype, lost = reader.dtype, []
    else:
        dtype = torch.uint16 if reader.pixel_format.depth > 8 else torch.uint8
        lost, sources = image_notes(reader, target), ()
    for note in lost:
        on_note(note)
    turn = orientation_of(reader.info.display_matrix)
    return [
        FolderSink(
            path, folder, dtype, part_frames, compare=compare, turn=turn, sources=sources,
            after=after,
        )
        for path, compare in _outputs(target, settings)
    ]  # fmt: skip


def _outputs(target: Path, settings: Settings) -> list[tuple[Path, Comparison | None]]:
    """Path and kind of what is written: the result and, if asked for, the comparison."""
    return list(zip(targets_of(target, settings), (None, settings.compare), strict=False))


def done_before(sinks: Sequence[Sink]) -> list[int]:
    """Number of frames of each part, from the first on, as far as every sink has it complete."""
    done: list[int] = []
    while None not in (counts := [sink.frames(len(done)) for sink in sinks]):
        done.append(min(count for count in counts if count is not None))
    return done


class VideoSink:
    """Writes a video file with the source's other streams, or a comparison.

    Args:
        target: path of the result.
        folder: the work folder.
        encoding: how to encode.
        info: of the clip.
        origin: where other streams come from; None: write video only.
        offset: presentation time that becomes zero in the result, seconds.
        compare: kind of comparison; None for the restored video.
    """

    def __init__(
        self, target: Path, folder: Path, encoding: Encoding, info: ClipInfo,
        origin: Origin | None, *, offset: Fraction, compare: Comparison | None,
    ) -> None:  # fmt: skip
        self.target = target
        self._folder, self._encoding, self._origin = folder, encoding, origin
        self._offset, self._compare = offset, compare
        self._info = written_info(info, compare)
        self._whole = folder / f"{WHOLE}{compare or 'sharp'}{target.suffix}"
        self._open: tuple[SpoolWriter, FrameEncoder] | None = None  # the current part

    @property
    def identity(self) -> object:
        encoder = self._encoding.encoder
        pixel_format = self._encoding.pixel_format.name
        return [encoder.name, dict(encoder.options), self._encoding.crf, pixel_format]

    def _spool(self, part: int) -> Path:
        return self._folder / f"{self._compare or 'sharp'}-{part:06d}.spool"

    def frames(self, part: int) -> int | None:
        spool = self._spool(part)
        return sum(1 for _ in read_spools([spool], data=False)) if spool.exists() else None

    def keep_before(self, end: Fraction, *, shortened: bool) -> None:
        last, part, beyond = (end - self._offset) / ticks_of(self._info), 0, False
        while (spool := self._spool(part)).exists():
            with closing(read_spools([spool], data=False)) as packets:
                beyond = beyond or any(
                    packet.pts >= last or (not shortened and packet.pts + packet.duration > last)
                    for packet in packets
                )
            if beyond:
                with writing(self.target):
                    spool.unlink()  # closed above: Windows does not delete an open file
            part += 1

    def begin(self, part: int) -> None:
        encoder = FrameEncoder(self._encoding, self._info)
        self._open = SpoolWriter(self._spool(part), self.target), encoder

    def put(self, restored: Restored) -> None:
        before, after = restored.frame.planes, restored.planes
        assert before is not None
        assert after is not None
        assert self._open is not None
        spool, encoder = self._open
        frame = restored.frame
        if self._compare is not None:
            moment = float(frame.pts - self._offset)
            after = compared_planes(before, after, self._info, self._compare, moment)
        picture = convert_planes(after, self._encoding.pixel_format)
        spool.write(encoder.encode(picture, frame.pts - self._offset, frame.duration))

    def end(self) -> None:
        assert self._open is not None
        spool, encoder = self._open
        spool.write(encoder.finish())
        spool.finish()
        self._open = None

    def abandon(self) -> None:
        if self._open is not None:
            self._open[0].abandon()

    def finish(self, parts: int) -> list[str]:
        if self._whole.exists():
            return []
        partial = self._whole.with_stem(f"{self._whole.stem}.part")
        spools = [self._spool(part) for part in range(parts)]
        notes: list[str] = []
        if self._origin is None:
            assemble(partial, spools, self._encoding, self._info, result=self.target)
        else:
            notes = assemble_what_can_be(
                partial, spools, self._encoding, self._info, self._origin, self.target
            )
        with writing(self.target):
            commit_file(partial, self._whole)
        return notes

    def publish(self) -> None:
        if self._whole.exists():
            publish(self._whole, self.target)


class FolderSink:
    """Writes a folder of PNG files, named like the source's images or by number.

    Args:
        target: path of the result.
        folder: the work folder.
        dtype: of the files, uint8 or uint16.
        part_frames: number of frames in a full part.
        compare: kind of comparison; None for the restored images.
        turn: orientation by which images are turned upright, see `orientation.py`.
        sources: fingerprints of the source's images, if it is a folder of images. If one that a
            part depends on has changed, the part does not count as complete.
        after: number of images after a frame on which its result depends.
    """

    def __init__(
        self, target: Path, folder: Path, dtype: torch.dtype, part_frames: int,
        *, compare: Comparison | None, turn: int | None,
        sources: Sequence[Fingerprint], after: int,
    ) -> None:  # fmt: skip
        self.target, self._turn = target, turn
        self._name = compare or "sharp"
        self._folder, self._pictures = folder, folder / f"{self._name}-pictures"
        self._dtype, self._part_frames, self._compare = dtype, part_frames, compare
        self._sources, self._after = sources, after
        self._part = 0
        self._of_part: list[Path] = []

    @property
    def identity(self) -> object:
        return str(self._dtype)

    def _mark(self, part: int) -> Path:
        return self._folder / f"{self._name}-{part:06d}.done"

    def frames(self, part: int) -> int | None:
        mark = self._mark(part)
        if not mark.exists():
            return None
        count, _, seen = mark.read_text().partition(" ")
        return int(count) if seen == self._seen(part) else None

    def _seen(self, part: int) -> str:
        """Digest of the fingerprints of all source images up to the last one on which a part
        depends. It also changes with the number of images if these end before that.
        """
        images = self._sources[: (part + 1) * self._part_frames + self._after]
        return hashlib.sha256(json.dumps(images).encode()).hexdigest() if images else ""

    def keep_before(self, end: Fraction, *, shortened: bool) -> None:
        """Nothing to do: for folders, the end is part of the job, so all parts lie before it."""

    def begin(self, part: int) -> None:
        with writing(self.target):
            self._pictures.mkdir(exist_ok=True)
        self._part, self._of_part = part, []

    def put(self, restored: Restored) -> None:
        rgb = upright(restored.rgb, self._turn)
        if self._compare:
            before = upright(restored.frame.rgb, self._turn)
            rgb = compared_images(before, rgb, self._compare)
        number, name = self._part * self._part_frames + len(self._of_part), restored.frame.name
        path = self._pictures / (numbered(number) if name is None else f"{name}.png")
        with telling_of(self.target / path.name, path):
            write_image(path, integer_from_unit(rgb, self._dtype))
        self._of_part.append(path)

    def end(self) -> None:
        with writing(self.target):
            for picture in self._of_part:
                sync(picture)
            mark = f"{len(self._of_part)} {self._seen(self._part)}".rstrip()
            commit_text(self._mark(self._part), mark)

    def abandon(self) -> None:
        """Nothing to do: images of an incomplete part are overwritten by the next run."""

    def finish(self, parts: int) -> list[str]:  # noqa: ARG002
        """All images are in place; delete those whose source was removed since."""
        if self._sources and self._pictures.exists():
            wanted = {spelling_key(f"{Path(name).stem}.png") for name, *_ in self._sources}
            with writing(self.target):
                for picture in self._pictures.iterdir():
                    if spelling_key(picture.name) not in wanted:
                        picture.unlink()
        return []

    def publish(self) -> None:
        if self._pictures.exists():
            publish_images(self._pictures, self.target)
