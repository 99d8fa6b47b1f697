"""Deinterlacing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, groupby

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from unsmear.video.filters import filter_for


def deinterlaced(frames: Iterator[VideoFrame], stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield the frames of a stream, interlaced ones deinterlaced (bwdif), one frame for each.

    Raises:
        FFmpegError, ValueError: the filter does not accept the frames.
    """
    # A new filter for each size and format: it assumes that all frames are like the first, and
    # would read past the end of smaller ones.
    for _, alike in groupby(frames, key=_size_and_format):
        first = next(alike)
        options = "mode=send_frame:deint=interlaced"
        graph = filter_for(first, stream.time_base, "bwdif", options)
        for frame in chain((first,), alike):
            graph.push(frame)
            yield from _pulled(graph)
        graph.push(None)
        yield from _pulled(graph)


def _size_and_format(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _pulled(graph: av.filter.Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, VideoFrame)
        yield frame
