"""The frames of a clip that contribute to one frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import tee
from pathlib import Path

import torch
from torch import Tensor

from unsmear.clip import Frame
from unsmear.errors import ConfigError, InputError
from unsmear.restoration.cuts import number_scenes
from unsmear.restoration.stream import check_window
from unsmear.restoration.stretch import open_reader
from unsmear.video.reader import VideoReader

LARGEST_WINDOW = 9_999  # frames; all are held in memory and drawn


@dataclass(frozen=True)
class FrameWindow:
    """A frame and the frames around it that may contribute to it, all in one scene.

    Attributes:
        pictures: (F, 3, H, W), float32, 0..1, RGB, on the CPU. T of the F frames are in the window
            of the attention; the others serve only the local path.
        first: frame number in the clip of the first of them, from 0.
        current: index in `pictures` of the frame to explain.
        window: number of frames that contribute through the attention, odd, centred on the current
            one.
        pts: presentation time of the current frame in seconds, if the clip has timestamps.
        name: file name of the current frame without suffix, if the clip is a folder.
        rotation: degrees by which players rotate the frames.
    """

    pictures: Tensor
    first: int
    current: int
    window: int
    pts: Fraction | None = None
    name: str | None = None
    rotation: float = 0.0

    @property
    def attended(self) -> range:
        """Indices in `pictures` of the T frames in the window of the attention."""
        reach = self.window // 2
        last = min(self.current + reach, len(self.pictures) - 1)
        return range(max(self.current - reach, 0), last + 1)

    @property
    def beside(self) -> tuple[Tensor | None, Tensor | None]:
        """The frames before and after the current one; None at an end of the scene."""
        before = self.pictures[self.current - 1] if self.current else None
        last = self.current + 1 == len(self.pictures)
        return before, None if last else self.pictures[self.current + 1]

    def neighbours(self, side: int) -> list[int]:
        """Indices in `pictures` of the `side` frames before and after the current one, in order;
        beyond the ends of the scene, the nearest frame is repeated.
        """
        last = len(self.pictures) - 1
        offsets = [offset for offset in range(-side, side + 1) if offset]
        return [min(max(self.current + offset, 0), last) for offset in offsets]

    @property
    def number(self) -> int:
        """Frame number of the current frame in the clip, from 0."""
        return self.first + self.current


def read_window(source: Path, number: int, window: int, side: int) -> FrameWindow:
    """Read the frames that contribute to one frame of a clip. As in restoration, the window holds
    only frames of the same scene.

    Args:
        source: video file, or folder of images in the order of their names.
        number: of the frame, from 0.
        window: number of frames that contribute through the attention, odd.
        side: number of frames on each side that contribute otherwise, see
            `NetworkConfig.neighbours`.

    Raises:
        InputError: the source cannot be used, or has no such frame.
        ConfigError: the window is even, below 1, `all` or above LARGEST_WINDOW, or the number is
            negative.
    """
    checked = check_window(window)
    if checked == "all" or checked > LARGEST_WINDOW:
        raise ConfigError(f"window is {window}: must be at most {LARGEST_WINDOW}, to be shown")
    if number < 0:
        raise ConfigError(f"frame is {number}: must be 0 or more")
    if not source.exists():
        raise InputError(f"no such file or folder: '{source}'")
    with ExitStack() as stack:
        reader = open_reader(source, stack)
        video = reader if isinstance(reader, VideoReader) else None
        ahead = max(window // 2, side)
        held, frame, index, count = _frames_around(reader, number, ahead)
        if frame is None:
            raise InputError(
                f"frame is {number}: '{source}' has {count} frames, numbered 0 to {count - 1}"
            )
        return FrameWindow(
            torch.stack(held),
            number - index,
            index,
            window,
            None if video is None else frame.pts,
            frame.name,
            0.0 if video is None else video.rotation,
        )


def _frames_around(
    frames: Iterable[Frame], number: int, ahead: int
) -> tuple[list[Tensor], Frame | None, int, int]:
    """Frames of one scene from `ahead` before the wanted frame to `ahead` after it; the wanted
    frame (None if the clip ends before it); its index among them; the number of frames read.
    """
    before: deque[Tensor] = deque(maxlen=ahead + 1)  # includes the current frame
    after: list[Tensor] = []
    current: Frame | None = None
    given, copied = tee(frames)
    numbered = zip(given, number_scenes(frame.rgb for frame in copied), strict=True)
    scene = count = 0
    for count, (frame, (its_scene, rgb)) in enumerate(numbered, start=1):
        if its_scene != scene:
            if current is not None:
                break
            scene = its_scene
            before.clear()
        if current is not None:
            after.append(rgb)
        else:
            before.append(rgb)
            if count == number + 1:
                current = frame
        if current is not None and len(after) == ahead:
            break
    return [*before, *after], current, len(before) - 1, count
