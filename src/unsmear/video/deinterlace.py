"""Deinterlacing."""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream


def deinterlaced(frames: Iterator[VideoFrame], stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield the frames of a stream, interlaced ones deinterlaced (bwdif), one frame for each.

    Raises:
        FFmpegError, ValueError: the filter does not accept the frames.
    """
    graph: av.filter.Graph | None = None
    for frame in frames:
        if graph is None:
            graph = av.filter.Graph()
            graph.link_nodes(
                graph.add_buffer(template=stream),
                graph.add("bwdif", "mode=send_frame:deint=interlaced"),
                graph.add("buffersink"),
            ).configure()
        graph.push(frame)
        yield from _pulled(graph)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph)


def _pulled(graph: av.filter.Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, VideoFrame)
        yield frame
