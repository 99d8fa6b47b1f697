"""Where restored frames go: a video file or a folder of images, written part by part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import torch

from unsmear.clip import ClipInfo, YuvPlanes
from unsmear.errors import writing
from unsmear.outputs import commit_file, commit_text, sync, telling_of
from unsmear.restoration.frames import Restored
from unsmear.restoration.settings import Comparison
from unsmear.restoration.work import WHOLE, Fingerprint
from unsmear.video.color import beside, convert_planes, wipe
from unsmear.video.encoding import Encoding, FrameEncoder, ticks_of
from unsmear.video.folder import numbered, publish_images
from unsmear.video.images import integer_from_unit, write_image
from unsmear.video.orientation import UPRIGHT, left_as_shown, orientation_of, upright
from unsmear.video.spool import SpoolWriter, read_spools
from unsmear.video.writer import Origin, assemble, assemble_what_can_be, publish

_WIPE_SECONDS = 4  # each way: the dividing line moves from left to right, then back


class Sink(Protocol):
    """Takes restored frames in parts; a part counts only when it is complete."""

    @property
    def target(self) -> Path:
        """Path of the result."""

    def frames(self, part: int) -> int | None:
        """Number of frames of a complete part, from this run or an earlier one; otherwise None."""

    def keep_before(self, end: Fraction) -> None:
        """Delete parts of an earlier run from the first one that reaches a presentation time, in
        seconds.
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


def done_before(sinks: Sequence[Sink]) -> list[int]:
    """Number of frames of each part, from the first on, as far as every sink has it complete."""
    done: list[int] = []
    while None not in (counts := [sink.frames(len(done)) for sink in sinks]):
        done.append(min(count for count in counts if count is not None))
    return done


def written_info(info: ClipInfo, compare: Comparison | None) -> ClipInfo:
    """Info of a clip with the size of the frames that are written, which comparisons change."""
    if compare != "side":
        return info
    if _is_below(info):
        return replace(info, height=2 * (info.height // 2 * 2))
    return replace(info, width=2 * (info.width // 2 * 2))


def compared(
    before: YuvPlanes, after: YuvPlanes, info: ClipInfo, compare: Comparison, pts: float
) -> YuvPlanes:
    """Before and after in one frame, which keeps the display matrix of the clip: as displayed,
    before is on the left and after on the right; the dividing line of a wipe moves left and right.

    Args:
        before: as decoded.
        after: restored.
        info: of the clip.
        compare: kind of comparison.
        pts: presentation time in the result, seconds.
    """
    below, way = _is_below(info), 1 - abs((pts / _WIPE_SECONDS) % 2 - 1)
    if left_as_shown(orientation_of(info.display_matrix)) in ("right", "bottom"):
        before, after, way = after, before, 1 - way
    if compare == "side":
        return beside(before, after, below=below)
    return wipe(before, after, round(before.y.shape[0 if below else 1] * way), below=below)


def _is_below(info: ClipInfo) -> bool:
    """Whether the display matrix turns left and right as displayed into top and bottom as coded."""
    return left_as_shown(orientation_of(info.display_matrix)) in ("top", "bottom")


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
        self._file: SpoolWriter | None = None
        self._encoder: FrameEncoder | None = None

    def _spool(self, part: int) -> Path:
        return self._folder / f"{self._compare or 'sharp'}-{part:06d}.spool"

    def frames(self, part: int) -> int | None:
        spool = self._spool(part)
        return sum(1 for _ in read_spools([spool], data=False)) if spool.exists() else None

    def keep_before(self, end: Fraction) -> None:
        last, part, beyond = (end - self._offset) / ticks_of(self._info), 0, False
        while (spool := self._spool(part)).exists():
            packets = read_spools([spool], data=False)
            beyond = beyond or any(packet.pts >= last for packet in packets)
            if beyond:
                with writing(self.target):
                    spool.unlink()
            part += 1

    def begin(self, part: int) -> None:
        self._file = SpoolWriter(self._spool(part), self.target)
        self._encoder = FrameEncoder(self._encoding, self._info)

    def put(self, restored: Restored) -> None:
        before, after = restored.frame.planes, restored.planes
        assert before is not None
        assert after is not None
        assert self._file is not None
        assert self._encoder is not None
        frame = restored.frame
        if self._compare is not None:
            moment = float(frame.pts - self._offset)
            after = compared(before, after, self._info, self._compare, moment)
        picture = convert_planes(after, self._encoding.pixel_format)
        packets = self._encoder.encode(picture, frame.pts - self._offset, frame.duration)
        self._file.write(packets)

    def end(self) -> None:
        assert self._file is not None
        assert self._encoder is not None
        self._file.write(self._encoder.finish())
        self._file.finish()
        self._file = self._encoder = None

    def abandon(self) -> None:
        if self._file is not None:
            self._file.abandon()

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
        frames_a_part: number of frames in a full part.
        compare: kind of comparison; None for the restored images.
        turn: orientation by which images are turned upright, see `orientation.py`.
        made_of: fingerprints of the source's images, if it is a folder of images. If one that a
            part depends on has changed, the part does not count as complete.
        ahead: number of images after a frame on which its result depends.
    """

    def __init__(
        self, target: Path, folder: Path, dtype: torch.dtype, frames_a_part: int,
        *, compare: Comparison | None, turn: int | None = UPRIGHT,
        made_of: Sequence[Fingerprint] = (), ahead: int = 0,
    ) -> None:  # fmt: skip
        self.target, self._turn = target, turn
        self._name = compare or "sharp"
        self._folder, self._pictures = folder, folder / f"{self._name}-pictures"
        self._dtype, self._each, self._compare = dtype, frames_a_part, compare
        self._made_of, self._ahead = made_of, ahead
        self._part = self._count = 0
        self._of_part: list[Path] = []

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
        pictures = self._made_of[: (part + 1) * self._each + self._ahead]
        return hashlib.sha256(json.dumps(pictures).encode()).hexdigest() if pictures else ""

    def keep_before(self, end: Fraction) -> None:
        """Nothing to do: for folders, the end is part of the job, so all parts lie before it."""

    def begin(self, part: int) -> None:
        with writing(self.target):
            self._pictures.mkdir(exist_ok=True)
        self._part, self._count, self._of_part = part, part * self._each, []

    def put(self, restored: Restored) -> None:
        rgb = upright(restored.rgb, self._turn)
        if self._compare:
            before = upright(restored.frame.rgb, self._turn)
            if self._compare == "side":
                rgb = torch.cat((before, rgb), -1)
            else:
                half = rgb.shape[-1] // 2
                rgb = torch.cat((before[..., :half], rgb[..., half:]), -1)
        name = restored.frame.name
        path = self._pictures / (numbered(self._count) if name is None else f"{name}.png")
        with telling_of(self.target / path.name, path):
            write_image(path, integer_from_unit(rgb, self._dtype))
        self._of_part.append(path)
        self._count += 1

    def end(self) -> None:
        with writing(self.target):
            for picture in self._of_part:
                sync(picture)
            count = self._count - self._part * self._each
            commit_text(self._mark(self._part), f"{count} {self._seen(self._part)}".rstrip())

    def abandon(self) -> None:
        """Nothing to do: images of an incomplete part are overwritten by the next run."""

    def finish(self, parts: int) -> list[str]:  # noqa: ARG002
        """All images are in place; delete those whose source was removed since."""
        if self._made_of and self._pictures.exists():
            wanted = {f"{Path(name).stem}.png" for name, *_ in self._made_of}
            with writing(self.target):
                for picture in self._pictures.iterdir():
                    if picture.name not in wanted:
                        picture.unlink()
        return []

    def publish(self) -> None:
        if self._pictures.exists():
            publish_images(self._pictures, self.target)
