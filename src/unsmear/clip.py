"""What passes between reading, restoring and writing: frames and what is known of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Of one picture. 8K is 33 million; what a damaged header declares may be anything.
MOST_PIXELS = 1 << 26


@dataclass(frozen=True)
class ColorTags:
    """How the numbers of a YUV picture are meant, as code points of ITU-T H.273.

    Attributes:
        matrix: of luma and colour differences (1 BT.709, 5 and 6 BT.601, 9 BT.2020; 2 unknown).
        primaries: colours of red, green and blue.
        transfer: from light to number.
        full_range: luma runs from 0 to the largest number, not 16..235 (at 8 bits).
    """

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    full_range: bool = False


@dataclass(frozen=True)
class MasteringDisplay:
    """The display that an HDR picture was made on (SMPTE ST 2086).

    Attributes:
        red, green, blue, white: CIE 1931 x and y.
        darkest, brightest: cd/m2.
    """

    red: tuple[Fraction, Fraction]
    green: tuple[Fraction, Fraction]
    blue: tuple[Fraction, Fraction]
    white: tuple[Fraction, Fraction]
    darkest: Fraction
    brightest: Fraction


@dataclass(frozen=True)
class HdrMetadata:
    """What HDR10 says once for the whole clip.

    Attributes:
        display: of mastering.
        light: brightest pixel and brightest frame mean (MaxCLL, MaxFALL), cd/m2.
    """

    display: MasteringDisplay | None = None
    light: tuple[int, int] | None = None


@dataclass(frozen=True)
class YuvPlanes:
    """A picture as the codec holds it.

    Attributes:
        y: luma, (H, W), uint8 or uint16.
        u: first colour difference, (ceil(H / 2**down_y), ceil(W / 2**down_x)), same dtype.
        v: second colour difference, likewise.
        depth: bits a number, 8 to 16.
        down_x: how often colour is halved in width (0 or 1).
        down_y: how often colour is halved in height (0 or 1).
        tags: how the numbers are meant.
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
    """One picture of a clip.

    Attributes:
        rgb: (3, H, W), float32, 0..1, display-referred, on the CPU.
        pts: presentation time, seconds.
        duration: how long it is shown, seconds, where the clip says so.
        planes: the same picture as decoded, where the clip is a video.
        name: file name without suffix, where the clip is a folder of pictures.
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
        frames: how many there should be, None if the container does not say.
        rate: frames a second, mean.
        time_base: seconds of one tick of the time stamps.
        tags: colour.
        pixel_aspect: width to height of one pixel.
        display_matrix: how players turn and mirror the picture, nine numbers (ISO/IEC 14496-12).
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
