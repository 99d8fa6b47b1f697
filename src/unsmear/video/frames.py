"""Decoded frames as tensors, and their metadata: colour tags, HDR10, display matrix."""

from __future__ import annotations

import ctypes
import re
import struct
from fractions import Fraction

import numpy as np
import torch
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from numpy.typing import NDArray
from torch import Tensor

from unsmear.clip import ColorTags, HdrMetadata, MasteringDisplay, YuvPlanes
from unsmear.video.color import UNSPECIFIED, convert_planes, planes_from_rgb, rgb_from_planes
from unsmear.video.formats import PixelFormat
from unsmear.video.sidedata import side_data_of

_FULL_RANGE = 2
_BT709, _BT2020, _SRGB = 1, 9, 13  # code points of ITU-T H.273
_RGB_ORDER = {
    "rgb24": (0, 1, 2, 3),
    "bgr24": (2, 1, 0, 3),
    "rgb0": (0, 1, 2, 4),
    "bgr0": (2, 1, 0, 4),
    "0rgb": (1, 2, 3, 4),
    "0bgr": (3, 2, 1, 4),
    "rgba": (0, 1, 2, 4),
    "bgra": (2, 1, 0, 4),
    "argb": (1, 2, 3, 4),
    "abgr": (3, 2, 1, 4),
}
_PLANAR_RGB = re.compile(r"gbra?p(\d+)?(le)?")
_PLANAR_ALPHA = re.compile(r"(?:yuva4\d\dp|gbrap)(\d+)?(le)?")
_GRAY = re.compile(r"gray(\d+)?(le)?")
# Depths in which RGB and grey with more than 8 bits are written: encoders accept these.
_DEEP, _DEEPEST = 10, 12


def _is_rgb(frame: VideoFrame) -> bool:
    form = frame.format
    return form.is_rgb or form.has_palette or form.name.startswith("xyz")


def _is_gray(frame: VideoFrame) -> bool:
    form = frame.format
    return not _is_rgb(frame) and sum(not part.is_alpha for part in form.components) == 1


def tags_of(frame: VideoFrame) -> ColorTags:
    """Colour tags of a frame. RGB frames get the tags that they will be written with. Grey frames
    without a range are taken for full range, as in FFmpeg.
    """
    primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
    if _is_rgb(frame):
        primaries, transfer = primaries or UNSPECIFIED, transfer or UNSPECIFIED
        return ColorTags(
            matrix=_BT2020 if primaries == _BT2020 else _BT709,
            primaries=_BT709 if primaries == UNSPECIFIED else primaries,
            transfer=_SRGB if transfer == UNSPECIFIED else transfer,
            full_range=False,
        )
    return ColorTags(
        # 0 means RGB. On YUV planes it is wrong, so the matrix is unknown.
        matrix=int(frame.colorspace) or UNSPECIFIED,
        primaries=primaries,
        transfer=transfer,
        full_range=int(frame.color_range) == _FULL_RANGE
        or "yuvj" in frame.format.name
        or (not frame.color_range and _is_gray(frame)),
    )


def planar_format(name: str) -> PixelFormat | None:
    """The planar YUV format that FFmpeg's name stands for, with or without an alpha plane; None if
    it is another kind of format.
    """
    return PixelFormat.named(name.replace("yuva", "yuv", 1))


def bits_of(frame: VideoFrame) -> int:
    """Bits of the deepest component."""
    return max(component.bits for component in frame.format.components)


def is_opaque(frame: VideoFrame) -> bool:
    """Whether no pixel is transparent, not even slightly."""
    form = frame.format
    if not (form.has_palette or any(component.is_alpha for component in form.components)):
        return True
    if planar := _PLANAR_ALPHA.fullmatch(form.name):
        depth = int(planar[1] or 8)
        return bool((_plane(frame, 3, depth) == (1 << depth) - 1).all())
    if bits_of(frame) > 8:
        return bool((_packed(frame.reformat(format="rgba64le"), 4, 16)[3] == 65_535).all())
    return bool((_packed(frame.reformat(format="rgba"), 4)[3] == 255).all())


def planes_of(frame: VideoFrame, tags: ColorTags) -> YuvPlanes:
    """Copy the planes of a decoded frame. Planar YUV is copied unchanged. Grey and RGB are
    converted here, in float. Anything else goes through swscale to the nearest planar YUV format.
    Alpha is left out (see `is_opaque`).
    """
    name = frame.format.name
    form = planar_format(name)
    if form is not None:
        first, second, third = (_plane(frame, index, form.depth) for index in range(3))
        return YuvPlanes(first, second, third, form.depth, form.down_x, form.down_y, tags)
    if _is_gray(frame):
        return _planes_of_gray(frame, tags)
    if _is_rgb(frame):
        return planes_from_rgb(_rgb(frame), tags, PixelFormat(_written_depth(bits_of(frame)), 0, 0))
    deep = bits_of(frame) > 8
    down = len(frame.format.components) > 1 and frame.format.chroma_width(2) == 1
    tall = down and frame.format.chroma_height(2) == 1
    nearest = PixelFormat(10 if deep else 8, int(down), int(tall))
    return planes_of(frame.reformat(format=nearest.name), tags)


def rgb_of(frame: VideoFrame, planes: YuvPlanes) -> Tensor:
    """RGB of a decoded frame, (3, H, W) float32, 0..1: its own if it is RGB, which its planes (see
    `planes_of`) have only rounded; otherwise that of the planes.
    """
    return _rgb(frame) if _is_rgb(frame) else rgb_from_planes(planes)


def _planes_of_gray(frame: VideoFrame, tags: ColorTags) -> YuvPlanes:
    found = _GRAY.fullmatch(frame.format.name)
    if found is None:  # with alpha, 1 bit, float or big-endian
        wanted = "gray16le" if bits_of(frame) > 8 else "gray"
        return _planes_of_gray(frame.reformat(format=wanted), tags)
    depth = int(found[1] or 8)
    luma = _plane(frame, 0, depth)
    # Without colour, 4:2:0 loses nothing, and phones play only that. Not all codecs support it with
    # odd sizes.
    down = int(frame.width % 2 == frame.height % 2 == 0)
    flat = torch.full_like(luma[:: 1 + down, :: 1 + down], 1 << (depth - 1))
    planes = YuvPlanes(luma, flat, flat.clone(), depth, down, down, tags)
    return convert_planes(planes, PixelFormat(_written_depth(depth), down, down))


def _written_depth(bits: int) -> int:
    if bits <= 8:
        return 8
    return _DEEP if bits <= _DEEP else _DEEPEST


def _rgb(frame: VideoFrame) -> Tensor:
    """(3, H, W) float, 0..1. Layouts that are not handled here are first converted by swscale to
    another RGB layout: for YUV it would choose a matrix of its own.
    """
    name = frame.format.name
    if planar := _PLANAR_RGB.fullmatch(name):
        depth = int(planar[1] or 8)
        planes = [_plane(frame, index, depth) for index in (2, 0, 1)]
        return torch.stack(planes).float() / ((1 << depth) - 1)
    if name in _RGB_ORDER:
        *order, count = _RGB_ORDER[name]
        return _packed(frame, count)[order].float() / 255
    return _rgb(frame.reformat(format="gbrp16le" if bits_of(frame) > 8 else "rgb24"))


def _plane(frame: VideoFrame, index: int, depth: int) -> Tensor:
    plane = frame.planes[index]
    rows = _rows(plane, depth)
    return torch.from_numpy(rows[:, : plane.width].copy())


def _packed(frame: VideoFrame, count: int, depth: int = 8) -> Tensor:
    plane = frame.planes[0]
    rows = _rows(plane, depth)
    pixels = rows[:, : plane.width * count].reshape(plane.height, plane.width, count)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def _rows(plane: VideoPlane, depth: int) -> NDArray[np.generic]:
    """(H, values of a row), top row first; valid only as long as the frame exists."""
    dtype = np.dtype(np.uint8 if depth == 8 else "<u2")
    stride = plane.line_size
    if stride >= 0:
        return np.frombuffer(memoryview(plane), dtype=dtype).reshape(plane.height, -1)
    # Bottom-up, as on Windows: PyAV's buffer begins at the top row, which is the last in memory,
    # so reading would run past the end.
    begin = plane.buffer_ptr + stride * (plane.height - 1)
    memory = (ctypes.c_uint8 * plane.buffer_size).from_address(begin)
    return np.frombuffer(memoryview(memory), dtype=dtype).reshape(plane.height, -1)[::-1]


def display_matrix_of(frame: VideoFrame) -> tuple[int, ...] | None:
    """The display matrix: how players rotate and mirror the frame; None without one."""
    data = side_data_of(frame).get(Type.DISPLAYMATRIX)
    return struct.unpack("=9i", data[:36]) if data and len(data) >= 36 else None


def hdr_of(frame: VideoFrame) -> HdrMetadata:
    """HDR10 metadata of a frame (FFmpeg's AVMasteringDisplayMetadata, AVContentLightMetadata)."""
    display, attached = None, side_data_of(frame)
    data = attached.get(Type.MASTERING_DISPLAY_METADATA)
    if data and len(data) >= 88:
        numbers = struct.unpack("=22i", data[:88])
        values = [
            Fraction(above, below) if below else Fraction(0)
            for above, below in zip(numbers[0:20:2], numbers[1:20:2], strict=True)
        ]
        if numbers[20] and numbers[21]:  # has_primaries, has_luminance: one may be missing
            red, green, blue, white = (
                (values[2 * index], values[2 * index + 1]) for index in range(4)
            )
            display = MasteringDisplay(red, green, blue, white, values[8], values[9])
    data = attached.get(Type.CONTENT_LIGHT_LEVEL)
    light = struct.unpack("=2I", data[:8]) if data and len(data) >= 8 else None
    return HdrMetadata(display, light)
