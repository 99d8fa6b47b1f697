"""Side data of frames and streams, including kinds that PyAV does not know."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from unsmear.video.filters import filter_for

_EXIF = 31  # FFmpeg 8.1's AV_FRAME_DATA_EXIF
_LOST: dict[Type | int, str] = {
    Type.DYNAMIC_HDR_PLUS: "HDR10+ dynamic metadata",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid dynamic metadata",
    Type.DOVI_METADATA: "Dolby Vision metadata",
    Type.DOVI_RPU_BUFFER: "Dolby Vision metadata",
    Type.STEREO3D: "stereoscopic 3D metadata",
    Type.SPHERICAL: "spherical video metadata",
    Type.A53_CC: "embedded closed captions",
    Type.ICC_PROFILE: "the colour profile (ICC)",
    _EXIF: "embedded EXIF metadata",
}
_MOST_UNKNOWN = 8  # unknown kinds on one frame


def side_data_of(frame: VideoFrame) -> dict[Type | int, bytes]:
    """All side data of a frame by its kind. Kinds that PyAV does not know appear under FFmpeg's
    number, with empty data.
    """
    unknown: dict[Type | int, bytes] = {}
    for _ in range(_MOST_UNKNOWN):
        try:
            # Iterating yields the data, not its keys, despite the annotation.
            data: Iterable[Any] = frame.side_data
            return {item.type: bytes(item) for item in data} | unknown
        except ValueError as error:  # one unknown kind, and PyAV returns none at all
            number = re.search(r"\d+", str(error))
            if number is None:
                break
            unknown[int(number[0])] = b""
            try:
                frame = _without(frame, int(number[0]))
            except (av.FFmpegError, ValueError):
                break
    return unknown


def _without(frame: VideoFrame, kind: int) -> VideoFrame:
    """The frame without one kind of side data; the pixels are not copied.

    Raises:
        FFmpegError, ValueError: the filter does not know it either.
    """
    tick = frame.time_base or Fraction(1, 1000)
    graph = filter_for(frame, tick, "sidedata", f"mode=delete:type={kind}")
    graph.push(frame)
    out = graph.pull()
    assert isinstance(out, VideoFrame)
    return out


def lost_side_data(frame: VideoFrame) -> list[str]:
    """Names of the side data of a frame that cannot be written again."""
    return sorted({_LOST[kind] for kind in _LOST.keys() & side_data_of(frame).keys()})


def is_cropped(container: InputContainer, stream: VideoStream) -> bool:
    """Whether a file tells players to crop the frames of a stream, as Matroska's PixelCrop and the
    clean aperture of MP4 and MOV do. FFmpeg decodes whole frames, and PyAV shows the cropping only
    in FFmpeg's description of the file, which is logged. Ask before frames are decoded: decoders
    log too.
    """
    described: Any = container
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        text = described.dumps_format()
    finally:
        av.logging.set_level(level)
    own = rf"Stream #0:{stream.index}\b(?:(?!Stream #).)*?\n *Frame Cropping: [0/]*[1-9]"
    return re.search(own, text, re.DOTALL) is not None
