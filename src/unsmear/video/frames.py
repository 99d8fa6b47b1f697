"""Decoded frames as tensors, and what they say of themselves: colour, HDR, how to turn them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import torch
from av.buffer import Buffer
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from torch import Tensor

from unsmear.clip import ColorTags, HdrMetadata, MasteringDisplay, YuvPlanes
from unsmear.video.color import UNSPECIFIED, planes_from_rgb
from unsmear.video.formats import PixelFormat

_FULL_RANGE = 2
_SRGB = ColorTags(matrix=1, primaries=1, transfer=13, full_range=False)
_RGB_ORDER = {
    "rgb24": (0, 1, 2, 3),
    "bgr24": (2, 1, 0, 3),
    "rgb0": (0, 1, 2, 4),
    "bgr0": (2, 1, 0, 4),
}
_LOST = {
    Type.DYNAMIC_HDR_PLUS: "HDR10+ dynamic metadata",
    Type.DOVI_METADATA: "Dolby Vision metadata",
    Type.DOVI_RPU_BUFFER: "Dolby Vision metadata",
    Type.STEREO3D: "the note on stereoscopic pictures",
    Type.SPHERICAL: "the note on spherical pictures",
    Type.A53_CC: "closed captions inside the pictures",
}


def tags_of(frame: VideoFrame) -> ColorTags:
    """Colour as a frame says it; pictures of RGB get what they will be written with."""
    name = frame.format.name
    if name in _RGB_ORDER or name.startswith("gbr"):
        return _SRGB
    return ColorTags(
        # 0 says that the planes are RGB; where they are not, nobody knows what they are.
        matrix=int(frame.colorspace) or UNSPECIFIED,
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        full_range=int(frame.color_range) == _FULL_RANGE or "yuvj" in name,
    )


def planes_of(frame: VideoFrame, tags: ColorTags) -> YuvPlanes:
    """Copy the planes out of a decoded frame. Planar YUV is taken as it is, grey and RGB are
    converted here, exactly; anything else goes through swscale to the nearest planar YUV.
    """
    name = frame.format.name
    form = PixelFormat.named(name)
    if form is not None:
        first, second, third = (_plane(frame, index, form.depth) for index in range(3))
        return YuvPlanes(first, second, third, form.depth, form.down_x, form.down_y, tags)
    if name == "gray":
        luma = _plane(frame, 0, 8)
        flat = torch.full_like(luma, 128)
        return YuvPlanes(luma, flat, flat.clone(), 8, 0, 0, tags)
    if name == "gbrp":
        rgb = torch.stack([_plane(frame, index, 8) for index in (2, 0, 1)]).float() / 255
        return planes_from_rgb(rgb, tags, PixelFormat(8, 0, 0))
    if name in _RGB_ORDER:
        *order, count = _RGB_ORDER[name]
        packed = _packed(frame, count)[order].float() / 255
        return planes_from_rgb(packed, tags, PixelFormat(8, 0, 0))
    deep = max(component.bits for component in frame.format.components) > 8
    down = len(frame.format.components) > 1 and frame.format.chroma_width(2) == 1
    tall = down and frame.format.chroma_height(2) == 1
    nearest = PixelFormat(10 if deep else 8, int(down), int(tall))
    return planes_of(frame.reformat(format=nearest.name), tags)


def _plane(frame: VideoFrame, index: int, depth: int) -> Tensor:
    plane = frame.planes[index]
    dtype = np.dtype(np.uint8 if depth == 8 else "<u2")
    rows = np.frombuffer(memoryview(plane), dtype=dtype).reshape(plane.height, -1)
    return torch.from_numpy(rows[:, : plane.width].copy())


def _packed(frame: VideoFrame, count: int) -> Tensor:
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(plane.height, -1)
    pixels = rows[:, : plane.width * count].reshape(plane.height, plane.width, count)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def display_matrix_of(frame: VideoFrame) -> tuple[int, ...] | None:
    """How players turn and mirror the picture, where it says so."""
    data = _side_data(frame, Type.DISPLAYMATRIX)
    return struct.unpack("=9i", data[:36]) if data and len(data) >= 36 else None


def hdr_of(frame: VideoFrame) -> HdrMetadata:
    """HDR10 metadata of a frame (FFmpeg's AVMasteringDisplayMetadata, AVContentLightMetadata)."""
    display = None
    data = _side_data(frame, Type.MASTERING_DISPLAY_METADATA)
    if data and len(data) >= 88:
        numbers = struct.unpack("=22i", data[:88])
        values = [
            Fraction(above, below) if below else Fraction(0)
            for above, below in zip(numbers[0:20:2], numbers[1:20:2], strict=True)
        ]
        if numbers[20] and numbers[21]:  # it may hold only half of it
            red, green, blue, white = (
                (values[2 * index], values[2 * index + 1]) for index in range(4)
            )
            display = MasteringDisplay(red, green, blue, white, values[8], values[9])
    data = _side_data(frame, Type.CONTENT_LIGHT_LEVEL)
    light = struct.unpack("=2I", data[:8]) if data and len(data) >= 8 else None
    return HdrMetadata(display, light)


def lost_side_data(frame: VideoFrame) -> list[str]:
    """What a frame carries that cannot be written again."""
    return sorted({name for kind, name in _LOST.items() if _side_data(frame, kind)})


def _side_data(frame: VideoFrame, kind: Type) -> bytes | None:
    # PyAV's annotations give the iteration and the keys of this mapping another type.
    found: Mapping[Type, Buffer] = frame.side_data  # type: ignore[assignment]
    try:
        return bytes(found[kind])
    except KeyError:
        return None
