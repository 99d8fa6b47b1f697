"""Pixel formats (planar YUV with 8 to 16 bits, as codecs use it), and containers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from unsmear.clip import YuvPlanes
from unsmear.errors import ConfigError

# FFmpeg's muxer for each suffix that can be written. For .m4v its own choice is a muxer for iPods,
# which refuses nearly everything.
MUXERS = {".mp4": "mp4", ".mov": "mov", ".m4v": "mp4", ".mkv": "matroska", ".webm": "webm"}
VIDEO_CONTAINERS = tuple(MUXERS)
_NAMES = {(1, 1): "yuv420p", (1, 0): "yuv422p", (0, 0): "yuv444p"}
_DEPTHS = (8, 9, 10, 12, 14, 16)


@dataclass(frozen=True)
class PixelFormat:
    """A planar YUV format.

    Attributes:
        depth: bits per sample.
        down_x: how often chroma is halved in width (0 or 1).
        down_y: how often chroma is halved in height (0 or 1).
    """

    depth: int
    down_x: int
    down_y: int

    @classmethod
    def of(cls, planes: YuvPlanes) -> PixelFormat:
        """The format of given planes."""
        return cls(planes.depth, planes.down_x, planes.down_y)

    @classmethod
    def named(cls, name: str) -> PixelFormat | None:
        """From FFmpeg's name (yuv420p, yuvj420p, yuv422p10le); None for formats that are not
        supported here.
        """
        found = re.fullmatch(r"yuvj?(4\d\dp)(?:(\d+)le)?", name)
        if found is None:
            return None
        base, depth = f"yuv{found[1]}", int(found[2] or 8)
        downs = {plain: down for down, plain in _NAMES.items()}
        if base not in downs or depth not in _DEPTHS:
            return None
        return cls(depth, *downs[base])

    @property
    def name(self) -> str:
        """FFmpeg's name."""
        base = _NAMES[self.down_x, self.down_y]
        return base if self.depth == 8 else f"{base}{self.depth}le"


def parse_pixel_format(text: str) -> PixelFormat:
    """Parse a pixel format as users type it, with or without `le`.

    Raises:
        ConfigError: it cannot be written.
    """
    known = PixelFormat.named(text) or PixelFormat.named(f"{text}le")
    if known is None:
        raise ConfigError(
            f"pixel format is '{text}': must be yuv420p, yuv422p or yuv444p, with the depth "
            "appended for more than 8 bits, such as yuv420p10le"
        )
    return known
