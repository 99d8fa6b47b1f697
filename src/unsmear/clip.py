"""Data types shared by reading, restoring and writing: frames and clip metadata."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from unsmear.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

# Maximum per image. 8K has 33 million; a damaged header may declare any size.
MOST_PIXELS = 1 << 26


def check_size(declared: str, width: int, height: int) -> None:
    """Raise InputError if an image has more than `MOST_PIXELS`.

    Args:
        declared: beginning of the message, up to the size: which file declares it, and of what.
        width: pixels.
        height: pixels.
    """
    if width * height > MOST_PIXELS:
        raise InputError(
            f"{declared} {width}x{height}: more than {MOST_PIXELS:,} pixels are not supported; "
            "scale it down, or repair the header if that is wrong"
        )


@dataclass(frozen=True)
class ColorTags:
    """How the values of a YUV frame are interpreted, as code points of ITU-T H.273.

    Attributes:
        matrix: matrix coefficients (1 BT.709, 5 and 6 BT.601, 9 BT.2020; 2 unspecified).
        primaries: colour primaries.
        transfer: transfer characteristics.
        full_range: luma spans 0 to the largest value, not 16..235 (at 8 bits).
    """

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    full_range: bool = False


@dataclass(frozen=True)
class MasteringDisplay:
    """The mastering display of HDR video (SMPTE ST 2086).

    Attributes:
        red, green, blue, white: CIE 1931 x and y.
        darkest, brightest: luminance, cd/m2.
    """

    red: tuple[Fraction, Fraction]
    green: tuple[Fraction, Fraction]
    blue: tuple[Fraction, Fraction]
    white: tuple[Fraction, Fraction]
    darkest: Fraction
    brightest: Fraction


@dataclass(frozen=True)
class HdrMetadata:
    """Static HDR10 metadata of a clip.

    Attributes:
        display: mastering display.
        light: content light level: brightest pixel and brightest frame mean (MaxCLL, MaxFALL),
            cd/m2.
    """

    display: MasteringDisplay | None = None
    light: tuple[int, int] | None = None


@dataclass(frozen=True)
class YuvPlanes:
    """A frame as the codec stores it.

    Attributes:
        y: luma, (H, W), uint8 or uint16.
        u: first colour difference, (ceil(H / 2**down_y), ceil(W / 2**down_x)), same dtype.
        v: second colour difference, likewise.
        depth: bits per value, 8 to 16.
        down_x: horizontal chroma subsampling: 1 if halved in width, else 0.
        down_y: vertical chroma subsampling: 1 if halved in height, else 0.
        tags: how the values are interpreted.
    """

    y: Tensor
    u: Tensor
    v: Tensor
    depth: int
    down_x: int
    down_y: int
    tags: ColorTags


@dataclass(frozen=True)
class Frame:
    """One frame of a clip.

    Attributes:
        rgb: (3, H, W), float32, 0..1, display-referred, on the CPU.
        pts: presentation time, seconds; in a folder of images, the index.
        duration: how long it is shown, seconds; None if the clip does not specify it.
        planes: the same frame as decoded; None in a folder of images.
        name: file name without suffix, in a folder of images; else None.
    """

    rgb: Tensor
    pts: Fraction
    planes: YuvPlanes | None = None
    name: str | None = None
    duration: Fraction | None = None


@dataclass(frozen=True)
class ClipInfo:
    """What is known of a clip before it is decoded.

    Attributes:
        width: pixels.
        height: pixels.
        frames: expected number of frames, None if the container does not specify it.
        rate: mean frame rate, frames per second.
        time_base: duration of one tick of the time stamps, seconds.
        tags: colour.
        pixel_aspect: ratio of width to height of one pixel.
        display_matrix: how players rotate and mirror frames, nine numbers (ISO/IEC 14496-12).
        hdr: HDR10 metadata.
    """

    width: int
    height: int
    frames: int | None
    rate: Fraction | None = None
    time_base: Fraction | None = None
    tags: ColorTags = ColorTags()
    pixel_aspect: Fraction | None = None
    display_matrix: tuple[int, ...] | None = None
    hdr: HdrMetadata = HdrMetadata()
