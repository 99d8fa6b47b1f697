"""A stretch of a clip: its frames, and those around it that decide what they become."""

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
from unsmear.restoration.effort import Effort
from unsmear.restoration.settings import Span
from unsmear.restoration.stream import Window, frames_after, frames_before
from unsmear.video.folder import FolderReader
from unsmear.video.reader import VideoReader

Reader = VideoReader | FolderReader
_LONG = Fraction(3, 2)  # frames: time stamps of a constant rate are not exact
_LATE = 10  # seconds; transport streams begin a second or two late


def open_reader(
    source: Path,
    stack: ExitStack,
    *,
    start: Fraction | None = None,
    deinterlace: bool = False,
    finest: Fraction = Fraction(0),
    end: Fraction | None = None,
) -> Reader:
    """Open a video file or a folder of pictures; the stack closes it. See `VideoReader`.

    Raises:
        InputError: it cannot be used.
    """
    if source.is_dir():
        return FolderReader(source)
    return stack.enter_context(
        VideoReader(source, start=start, deinterlace=deinterlace, finest=finest, end=end)
    )


def in_presentation_time(span: Span, reader: Reader) -> Span:
    """A stretch given in a file's own time, which begins where the file begins."""
    zero = reader.start if isinstance(reader, VideoReader) else Fraction(0)
    return Span(
        start=None if span.start is None else zero + span.start,
        end=None if span.end is None else zero + span.end,
    )


def beginning(span: Span, reader: VideoReader) -> Fraction:
    """Presentation time that becomes zero in the result, seconds, of a stretch in presentation
    time. Containers have no time before zero: what begins there is moved. So is what begins late:
    clocks of transport streams may stand at any time of day, which in other containers would be
    hours of nothing.
    """
    if span.start is not None:
        return span.start
    first = min(reader.start, reader.first_pts)
    return first if first < 0 or first > _LATE else Fraction(0)


def frames_expected(info: ClipInfo, span: Span) -> int | None:
    """How many frames a stretch of a clip, in the file's own time, should have; None if nobody
    knows.
    """
    if info.frames is None or span.whole or not info.rate:
        return info.frames
    first = span.offset * info.rate
    last = Fraction(info.frames) if span.end is None else span.end * info.rate
    return max(round(min(last, Fraction(info.frames)) - first), 1)


def frames_of(
    reader: Reader, span: Span, done: int, model: Runnable, window: Window, effort: Effort
) -> tuple[int, Iterator[Frame]]:
    """Frames from number `done` of the stretch on, after as many as decide what it becomes, and
    how many those are. After the end of the stretch follow those that its last frames look at.
    """
    before = frames_before(model, window, effort)
    number = 0
    if span.start is None:
        number = max(done - before, 0)
        reader.skip(number)
    held: deque[Frame] = deque(maxlen=before)
    frames = frames_from(reader, span)
    for frame in frames:
        if number == done and not (span.start is not None and frame.pts < span.start):
            after = 0 if window == "all" else frames_after(model, window, effort)
            rest = _until(chain((frame,), frames), span.end, after, _usual(reader))
            return len(held), chain(held, rest)
        inside = span.start is None or frame.pts >= span.start
        number += inside
        if inside or window != "all":  # whose first pass saw nothing before the stretch
            held.append(frame)
    return 0, iter(())


def frames_from(reader: Reader, span: Span) -> Iterator[Frame]:
    """Frames of a reader. One before the start of a stretch, in presentation time, that is still
    shown long after it is there at the start, for the rest of its time. At a constant rate, where
    the next one comes before a frame's time is over, that is none.
    """
    start, usual = span.start, _usual(reader)
    for frame in reader:
        if start is not None and frame.duration and frame.pts < start:
            rest = frame.pts + frame.duration - start
            usual = min(usual, frame.duration)
            if rest > _LONG * usual:
                yield replace(frame, pts=start, duration=rest)
                continue
        yield frame


def _usual(reader: Reader) -> Fraction:
    """How long a frame is on by the mean rate, seconds."""
    return 1 / (reader.info.rate or Fraction(25))


def _until(
    frames: Iterable[Frame], end: Fraction | None, after: int, usual: Fraction
) -> Iterator[Frame]:
    """Frames up to a presentation time, and so many after it. One that is on long beyond it ends
    there, but lasts as long as is usual (seconds). At a constant rate, that is none: were the last
    shorter than all others, the mean rate, which MP4 has from the sum of them, would be wrong.
    """
    for frame in frames:
        if end is not None and frame.pts >= end:
            if after == 0:
                return
            after -= 1
        elif end is not None and frame.duration:
            usual = min(usual, frame.duration)
            rest = max(end - frame.pts, usual)
            if frame.duration > max(rest, _LONG * usual):
                frame = replace(frame, duration=rest)
        yield frame
