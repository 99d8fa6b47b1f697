"""Settings of a restoration, validated on construction."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from typing import Literal, get_args

from unsmear.errors import ConfigError
from unsmear.restoration.integers import as_integer
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.tiles import Tiling, check_tiling
from unsmear.video.encoding import EncodeChoice

Comparison = Literal["side", "wipe"]


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of a video, in seconds since the start of the file.

    Attributes:
        start: inclusive, becomes the start of the result; None is the start of the video. Any
            number is stored as a Fraction.
        end: exclusive, likewise; None is the end of the video.

    Raises:
        ConfigError: a time is no finite number, the start is negative, or the end is not after the
            start.
    """

    start: Fraction | None = None
    end: Fraction | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", _seconds("start", self.start))
        object.__setattr__(self, "end", _seconds("end", self.end))
        if self.start is not None and self.start < 0:
            raise ConfigError(f"start is {float(self.start):g} s: must be 0 or more")
        if self.end is not None and self.end <= (self.start or 0):
            raise ConfigError(
                f"end is {float(self.end):g} s: must be later than the start, "
                f"{float(self.start or 0):g} s"
            )

    @property
    def offset(self) -> Fraction:
        """Seconds cut off at the beginning."""
        return self.start or Fraction(0)

    def holds(self, moment: Fraction) -> bool:
        """Whether a time, in seconds, lies in the stretch."""
        begun = self.start is None or moment >= self.start
        return begun and (self.end is None or moment < self.end)

    @property
    def whole(self) -> bool:
        """Whether nothing is cut off."""
        return self.start is None and self.end is None


def _seconds(name: str, value: object) -> Fraction | None:
    if value is None or isinstance(value, Fraction):
        return value
    if not isinstance(value, Real) or not math.isfinite(value):
        raise ConfigError(
            f"{name} is {value!r}: must be a finite number of seconds, or None to cut nothing off"
        )
    whole = as_integer(value)
    return Fraction(float(value) if whole is None else whole)  # numpy's become Python's


def parse_time(text: str) -> Fraction:
    """Parse a time such as `90`, `1:30`, `1:30.5` or `1:02:03` into seconds.

    Raises:
        ConfigError: the text has another form.
    """
    pattern = r"(?:(?:(\d{1,9}):)?(\d{1,9}):)?(\d{1,9}(?:\.\d{0,99})?|\.\d{1,99})"
    found = re.fullmatch(pattern, text, re.ASCII)
    if found is None:
        raise ConfigError(
            f"'{text}' is not a time: give seconds, such as 90.5, or minutes, such as 1:30"
        )
    hours, minutes, seconds = (Fraction(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a file is restored, apart from network and window.

    Attributes:
        tiling: see `unsmear.restoration.tiles.Tiler`.
        quality: what runs around the network, an
            `unsmear.restoration.quality.QualityOptions`.
        strength: share of the change that is applied, 0 (none) to 1.
        span: stretch of the video, an `unsmear.restoration.settings.Span`.
        encode: how the video is encoded, an `unsmear.video.encoding.EncodeChoice`.
        deinterlace: deinterlace the video before restoring it.
        compare: also write before and after in one image: side by side, or with a dividing line
            (which moves in a video).
        overwrite: replace existing results.

    Raises:
        ConfigError: the tiling, `strength` or `compare` is invalid, or a value has another type.
    """

    tiling: Tiling = "auto"
    quality: QualityOptions = QualityOptions()
    strength: float = 1.0
    span: Span = Span()
    encode: EncodeChoice = EncodeChoice()
    deinterlace: bool = False
    compare: Comparison | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "tiling", check_tiling(self.tiling))
        for name, kind in (("quality", QualityOptions), ("span", Span), ("encode", EncodeChoice)):
            if not isinstance(value := getattr(self, name), kind):
                raise ConfigError(
                    f"{name} is {value!r}: must be an {kind.__module__}.{kind.__name__}"
                )
        strength: object = self.strength
        if not (isinstance(strength, Real) and 0 <= float(strength) <= 1):
            raise ConfigError(f"strength is {strength!r}: must be from 0 (none) to 1 (full)")
        object.__setattr__(self, "strength", float(strength))  # a numpy number becomes Python's
        if self.compare is not None and self.compare not in get_args(Comparison):
            raise ConfigError(f"compare is '{self.compare}': must be side or wipe")
