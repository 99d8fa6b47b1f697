"""Pixel formats: planar YUV of 8 to 16 bits, as codecs hold it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from unsmear.clip import YuvPlanes
from unsmear.errors import ConfigError

# FFmpeg's muxer for each suffix that can be written. Left to itself it takes one made for iPods for
# .m4v, which refuses nearly all.
MUXERS = {".mp4": "mp4", ".mov": "mov", ".m4v": "mp4", ".mkv": "matroska", ".webm": "webm"}
VIDEO_CONTAINERS = tuple(MUXERS)
_NAMES = {(1, 1): "yuv420p", (1, 0): "yuv422p", (0, 0): "yuv444p"}
_DEPTHS = (8, 9, 10, 12, 14, 16)


@dataclass(frozen=True)
class PixelFormat:
    """Planes of a picture.

    Attributes:
        depth: bits a number.
        down_x: halvings of colour in width.
        down_y: halvings of colour in height.
    """

    depth: int
    down_x: int
    down_y: int

    @classmethod
    def of(cls, planes: YuvPlanes) -> PixelFormat:
        """That of given planes."""
        return cls(planes.depth, planes.down_x, planes.down_y)

    @classmethod
    def named(cls, name: str) -> PixelFormat | None:
        """From FFmpeg's name (yuv420p, yuvj420p, yuv422p10le); None for what is not planar YUV."""
        found = re.fullmatch(r"(yuv)j?(4\d\dp)(\d+le)?", name)
        if found is None:
            return None
        base, depth = f"yuv{found[2]}", int((found[3] or "8le")[:-2])
        downs = {plain: down for down, plain in _NAMES.items()}
        if base not in downs or depth not in _DEPTHS:
            return None
        return cls(depth, *downs[base])

    @property
    def name(self) -> str:
        """As FFmpeg calls it."""
        base = _NAMES[self.down_x, self.down_y]
        return base if self.depth == 8 else f"{base}{self.depth}le"


def parse_pixel_format(text: str) -> PixelFormat:
    """A pixel format as users type it, with or without `le`.

    Raises:
        ConfigError: it is none that can be written.
    """
    known = PixelFormat.named(text) or PixelFormat.named(f"{text}le")
    if known is None:
        raise ConfigError(
            f"pixel format is '{text}': must be yuv420p, yuv422p or yuv444p, with the depth "
            "appended for more than 8 bits, such as yuv420p10le"
        )
    return known
