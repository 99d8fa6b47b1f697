"""Frames of a stretch of a clip, and those around it on which their results depend."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

from unsmear.clip import ClipInfo, Frame
from unsmear.engines.base import Runnable
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.settings import Span
from unsmear.restoration.stream import Window, frames_after, frames_before
from unsmear.video.folder import FolderReader
from unsmear.video.reader import VideoReader

Reader = VideoReader | FolderReader
_LONG = Fraction(3, 2)  # frame durations; time stamps at a constant rate are not exact
_LATE = 10  # seconds; transport streams usually start at a second or two


def open_reader(
    source: Path,
    stack: ExitStack,
    *,
    start: Fraction | None = None,
    deinterlace: bool = False,
    finest: Fraction = Fraction(0),
    end: Fraction | None = None,
) -> Reader:
    """Open a video file or a folder of images; the stack closes it. See `VideoReader`.

    Raises:
        InputError: it cannot be used.
    """
    if source.is_dir():
        return FolderReader(source)
    return stack.enter_context(
        VideoReader(source, start=start, deinterlace=deinterlace, finest=finest, end=end)
    )


def in_presentation_time(span: Span, reader: Reader) -> Span:
    """Convert a stretch from time since the start of the file to presentation time."""
    zero = reader.start if isinstance(reader, VideoReader) else Fraction(0)
    return Span(
        start=None if span.start is None else zero + span.start,
        end=None if span.end is None else zero + span.end,
    )


def beginning(span: Span, reader: VideoReader) -> Fraction:
    """Presentation time, in seconds, that becomes zero in the result.

    That is the start of the stretch (`span`, in presentation time), if it has one. Otherwise a clip
    is shifted only if it begins before zero, which containers do not support, or more than
    `_LATE` seconds late: the clock of a transport stream may start at any time, which would leave
    hours of nothing at the beginning.
    """
    if span.start is not None:
        return span.start
    first = min(reader.start, reader.first_pts)
    return first if first < 0 or first > _LATE else Fraction(0)


def frames_expected(info: ClipInfo, span: Span) -> int | None:
    """Expected number of frames in a stretch (in time since the start of the file); None if
    unknown.
    """
    if info.frames is None or span.whole or not info.rate:
        return info.frames
    first = span.offset * info.rate
    last = Fraction(info.frames) if span.end is None else span.end * info.rate
    return max(round(min(last, Fraction(info.frames)) - first), 1)


def frames_of(
    reader: Reader, span: Span, done: int, model: Runnable, window: Window, quality: QualityOptions
) -> tuple[int, Iterator[Frame]]:
    """Frames to restore a stretch (in presentation time) from its frame number `done` on.

    Returns:
        The number of lead frames, on which the first results depend, and an iterator: lead frames,
        frames of the stretch, and the frames after it on which its last results depend.
    """
    before = frames_before(model, window, quality)
    number = 0
    if span.start is None:
        number = max(done - before, 0)
        reader.skip(number)
    held: deque[Frame] = deque(maxlen=before)
    frames = frames_from(reader, span)
    for frame in frames:
        if number == done and not (span.start is not None and frame.pts < span.start):
            after = 0 if window == "all" else frames_after(model, window, quality)
            rest = _until(chain((frame,), frames), reader, span.end, after)
            return len(held), chain(held, rest)
        inside = span.start is None or frame.pts >= span.start
        number += inside
        if inside or window != "all":  # the first pass of `all` starts at the stretch
            held.append(frame)
    return 0, iter(())


def frames_from(reader: Reader, span: Span) -> Iterator[Frame]:
    """Frames of a reader. A long frame that is on screen at the start of the stretch (in
    presentation time) is moved to the start, for the rest of its duration. At a constant frame rate
    no frame is long enough.
    """
    start = span.start
    for frame in reader:
        if start is not None and frame.duration and frame.pts < start:
            rest = frame.pts + frame.duration - start
            if rest > _LONG * _usual_duration(reader):
                yield replace(frame, pts=start, duration=rest)
                continue
        yield frame


def _usual_duration(reader: Reader) -> Fraction:
    """Duration of a frame at the mean rate, or of the shortest one so far if that is less; seconds.
    It counts frames that were skipped too, so it does not depend on where a run began.
    """
    mean = 1 / (reader.info.rate or Fraction(25))
    shortest = reader.shortest if isinstance(reader, VideoReader) else None
    return mean if shortest is None else min(mean, shortest)


def _until(
    frames: Iterable[Frame], reader: Reader, end: Fraction | None, after: int
) -> Iterator[Frame]:
    """Frames up to a presentation time, and `after` more. A long frame that is on screen at the end
    is shortened to it, but to no less than the usual duration. At a constant frame rate no frame is
    shortened: MP4 derives the mean rate from the sum of durations, which would be off.
    """
    for frame in frames:
        if end is not None and frame.pts >= end:
            if after == 0:
                return
            after -= 1
        elif end is not None and frame.duration:
            usual = _usual_duration(reader)
            rest = max(end - frame.pts, usual)
            if frame.duration > max(rest, _LONG * usual):
                frame = replace(frame, duration=rest)
        yield frame
