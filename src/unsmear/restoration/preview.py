"""Preview: a few frames of a clip, before and after, in one image."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import torch
from av.container import InputContainer

from unsmear.clip import Frame
from unsmear.engines.base import Runnable
from unsmear.errors import ConfigError, InputError
from unsmear.outputs import atomic_file, check_file
from unsmear.restoration.comparison import before_after_picture
from unsmear.restoration.files import Outcome
from unsmear.restoration.frames import Restored, restore_frames
from unsmear.restoration.paths import check_kind, check_source, encoding_asked
from unsmear.restoration.settings import Settings
from unsmear.restoration.stream import Window, check_memory, frames_after
from unsmear.restoration.stretch import frames_from, in_presentation_time, open_reader
from unsmear.video.damage import written_end
from unsmear.video.describe import counts_from_zero, measured_length
from unsmear.video.images import list_images, write_image
from unsmear.video.orientation import orientation_of, upright
from unsmear.video.reader import VideoReader

_PLACES = (Fraction(1, 6), Fraction(1, 2), Fraction(5, 6))
_DEFAULT_WINDOW = 5
_GAP = 6


def check_preview(source: Path, target: Path, settings: Settings) -> None:
    """Check a preview before any work starts.

    Raises:
        InputError: there is no such source, or no permission to read it.
        OutputError: the target is the source or inside it, is not a .png, exists, or cannot be
            written.
        ConfigError: a setting does not apply to an image, or to a folder of images as source.
    """
    check_source(source)
    check_kind(source, settings)
    asked = [*(["--compare"] if settings.compare else []), *encoding_asked(settings)]
    if asked:
        raise ConfigError(f"a preview is an image: leave out {' and '.join(asked)}, or --preview")
    check_file(target, inputs=[source], suffixes=(".png",), overwrite=settings.overwrite)


def write_preview(
    source: Path,
    target: Path,
    model: Runnable,
    window: Window,
    settings: Settings,
    *,
    on_note: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Restore three frames, spread over the clip, and draw them before and after; fewer if the
    clip is shorter.

    Args:
        source: video file, or folder of images.
        target: .png file.
        model: an engine, or a network in evaluation mode, on the device to use.
        window: number of frames that contribute to each frame; `all` is replaced by 5.
        settings: all but `encode` and `compare`, which must be left at their defaults.
        on_note: called with notes for the user.

    Raises:
        InputError: the source cannot be used.
        ConfigError: the network does not support refine, the window needs more memory than there
            is, or a GPU runs out of memory; see also `check_preview`.
        OutputError: see `check_preview`.
    """
    settings.quality.check(model)
    check_preview(source, target, settings)
    near = _DEFAULT_WINDOW if window == "all" else window
    rows, untouched = [], 0
    shown: set[Fraction] = set()
    noted: set[str] = set()  # the clip is opened once for each frame

    def note_once(text: str) -> None:
        if text not in noted:
            noted.add(text)
            on_note(text)

    for moment in _moments(source, settings):
        restored = _restore_at(source, moment, model, near, settings, note_once)
        if restored.frame.pts in shown:
            continue
        shown.add(restored.frame.pts)
        untouched += not restored.plausible
        rows.append(before_after_picture(restored.frame.rgb, restored.rgb))
    gap = torch.full((3, _GAP, rows[0].shape[-1]), 255, dtype=torch.uint8)
    parts = [part for row in rows for part in (row, gap)][:-1]
    with atomic_file(target) as partial:
        write_image(partial, torch.cat(parts, dim=1))
    return Outcome(len(rows), untouched=untouched)


def _moments(source: Path, settings: Settings) -> list[Fraction]:
    """Positions to show: seconds from the start of a video, or indices of images."""
    if source.is_dir():
        count = len(list_images(source))
        return [Fraction(int(count * place)) for place in _PLACES]
    with VideoReader(source, deinterlace=settings.deinterlace) as reader:
        first = max(reader.first_pts - reader.start, Fraction(0))
        last = first + (_length(reader) or measured_length(source))
    span = settings.span
    begin = max(span.offset, first)
    end = last if span.end is None else min(span.end, last)
    return [begin + max(end - begin, Fraction(0)) * place for place in _PLACES]


def _length(reader: VideoReader) -> Fraction:
    """Duration of the video stream in seconds (the sound may be longer); 0 if the file does not
    specify it.
    """
    stream = reader.stream
    container = stream.container
    assert isinstance(container, InputContainer)
    if not reader.joints and counts_from_zero(container, reader.first_pts):
        return Fraction(0)
    if reader.joints or len(container.streams) == 1:
        return reader.duration
    if stream.duration:
        return stream.duration * (stream.time_base or Fraction(0))
    return written_end(stream) or Fraction(0)


def _restore_at(
    source: Path,
    moment: Fraction,
    model: Runnable,
    window: Window,
    settings: Settings,
    on_note: Callable[[str], None],
) -> Restored:
    """Restore the first frame at or after a moment, or the last frame of the stretch."""
    # For speed, scene cuts are detected from these few frames only.
    around = frames_after(model, window, settings.quality)
    held: deque[Frame] = deque(maxlen=around + 1)  # the last one is shown
    with ExitStack() as stack:
        reader = open_reader(
            source, stack, start=moment, deinterlace=settings.deinterlace, end=settings.span.end
        )
        if isinstance(reader, VideoReader):
            moment += reader.start
        else:
            reader.skip(max(int(moment) - around, 0))
        for note in reader.notes:
            on_note(note)
        info = reader.info
        check_memory(window, info.width, info.height, info.frames, settings.quality.ensemble)
        span = in_presentation_time(settings.span, reader)
        frames = frames_from(reader, span)
        for frame in frames:
            if held and span.end is not None and frame.pts >= span.end:
                frames = chain((frame,), frames)  # the last frame of the stretch is held
                break
            held.append(frame)
            if frame.pts >= moment:
                break
        if not held or not span.holds(held[-1].pts):
            raise InputError(f"'{source}' has no frames between --start and --end: choose others")
        stream = restore_frames(
            model, (*held, *islice(frames, around)), window, tiling=settings.tiling,
            quality=settings.quality, strength=settings.strength, lead=len(held) - 1,
        )  # fmt: skip
        turn = orientation_of(info.display_matrix)
        with closing(stream):
            restored = next(stream)
        frame = replace(restored.frame, rgb=upright(restored.frame.rgb, turn))
        return replace(restored, frame=frame, rgb=upright(restored.rgb, turn))
