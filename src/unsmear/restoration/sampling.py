"""Blur over a whole clip, estimated from a sample of its frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from unsmear.errors import ConfigError, InputError
from unsmear.restoration.sharpness import BlurEstimate, estimate_luma_blur, luma_of
from unsmear.video.describe import describe_streams
from unsmear.video.images import list_images, read_image, unit_from_integer
from unsmear.video.opening import main_stream, open_container
from unsmear.video.packets import decodable

MOST_SAMPLES = 60
_SEEK_FROM = 1800  # frames; shorter clips are decoded completely, which takes seconds
_DECODED_A_SEEK = 120  # maximum: with distant key frames, an approximate position is enough


@dataclass(frozen=True)
class FrameBlur:
    """The blur of one frame.

    Attributes:
        time: seconds, or the index of the image in a folder.
        estimate: of its blur.
    """

    time: float
    estimate: BlurEstimate


def sample_blur(
    source: Path,
    every: int | None = None,
    *,
    most: int = MOST_SAMPLES,
    on_frame: Callable[[], None] = lambda: None,
) -> list[FrameBlur]:
    """Estimate the blur of frames spread over a clip.

    Args:
        source: video file, or folder of images.
        every: sample each frame whose index is a multiple of this. None: about `most` frames,
            evenly spread; in long videos they are reached by seeking.
        most: number of frames to sample, if `every` is None.
        on_frame: called after each frame.

    Raises:
        ConfigError: `every` is below 1.
        InputError: the source cannot be read.
    """
    if every is not None and every < 1:
        raise ConfigError(f"every is {every}: must be 1 (all frames) or more")
    found = []
    lumas = _folder_lumas if source.is_dir() else _video_lumas
    for moment, luma in lumas(source, every, most):
        found.append(FrameBlur(moment, estimate_luma_blur(luma)))
        on_frame()
    return found


def _folder_lumas(source: Path, every: int | None, most: int) -> Iterator[tuple[float, Tensor]]:
    files = list_images(source)
    step = every or -(-len(files) // most)
    for index in range(0, len(files), max(step, 1)):
        yield float(index), luma_of(unit_from_integer(read_image(files[index])))


def _video_lumas(source: Path, every: int | None, most: int) -> Iterator[tuple[float, Tensor]]:
    known = describe_streams(source)
    try:
        with open_container(source) as container:
            stream = main_stream(source, container)
            stream.thread_type, tick = "AUTO", stream.time_base or Fraction(1, av.time_base)
            if every or not known.duration or (known.frames or 0) <= _SEEK_FROM:
                step = every or max(-(-(known.frames or 1) // most), 1)
                frames: Iterator[VideoFrame] = islice(decodable(container, stream), 0, None, step)
            else:
                frames = _sought(container, stream, known.duration, most)
            for number, frame in enumerate(frames):
                luma = torch.from_numpy(frame.to_ndarray(format="gray")).float() / 255
                yield float(number if frame.pts is None else frame.pts * tick), luma
    except av.FFmpegError as error:
        raise InputError(
            f"'{source}' cannot be decoded further: {error.strerror}; the file may be damaged"
        ) from None


def _sought(
    container: InputContainer, stream: VideoStream, duration: float, most: int
) -> Iterator[VideoFrame]:
    """Frames at about even distances, each decoded from the key frame before it."""
    tick = stream.time_base or Fraction(1, av.time_base)
    start = float((stream.start_time or 0) * tick)
    duration -= max(start - (container.start_time or 0) / av.time_base, 0)  # the sound came first
    last: int | None = None
    for number in range(most):
        wanted = round((start + duration * (number + 0.5) / most) / tick)
        container.seek(wanted, stream=stream)
        chosen = None
        for frame in islice(decodable(container, stream), _DECODED_A_SEEK):
            if frame.pts is not None:
                chosen = frame
                if frame.pts >= wanted:
                    break
        if chosen is not None and (last is None or (chosen.pts or 0) > last):
            last = chosen.pts
            yield chosen
