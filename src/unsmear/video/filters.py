"""Filters of FFmpeg on decoded frames."""

from __future__ import annotations

from fractions import Fraction

import av
from av.video.frame import VideoFrame


def filter_for(
    frame: VideoFrame, tick: Fraction | None, name: str, options: str
) -> av.filter.Graph:
    """A graph of one filter, for frames of the size and format of a given one.

    Args:
        frame: only described, not pushed.
        tick: of time stamps, seconds.
        name: of the filter.
        options: as FFmpeg writes them.

    Raises:
        FFmpegError, ValueError: the filter does not accept such frames, or the options.
    """
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=tick
        ),
        graph.add(name, options),
        graph.add("buffersink"),
    ).configure()
    return graph
