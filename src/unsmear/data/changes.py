"""Overrides of a preset's synthesis. Without torch: the command line imports it for its help."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unsmear.data.synthesis import SynthesisConfig


@dataclass(frozen=True, kw_only=True)
class SynthesisChanges:
    """One optional change for each field of `unsmear.data.synthesis.SynthesisConfig`.

    Attributes:
        blur_mean: Mean blur length, in pixels.
        blur_most: Maximum blur length, in pixels.
        sharp_share: Share of clips with less than one pixel of blur, which teach the network to
            leave sharp frames alone.
        relief_share: Share of clips from photographs in which near parts blur more, as they do when
            a camera moves past them.
        night_share: Share of clips from photographs that become night scenes, whose lamps blur into
            white streaks.
        curve_share: Share of clips whose camera has a response curve other than that of sRGB.
        bright_share: Share of clips exposed for the shadows, with highlights clipped to white.
        object_share: Share of clips from photographs with a layer that moves on its own.
        video_share: Share of clips from videos, when there are also photographs.
        recorded_share: Share of clips shaken by a log of --shake, when there is one, rather than
            along a random path.
        half_share: Share of clips rendered at half the size of the photograph, for denser detail.
        compressed_share: Share of clips with JPEG artefacts.
        coder_share: Share of clips encoded by a real video codec, as real clips are. Needs PyAV.
        coarse_share: Share of the encoded clips that are compressed more strongly, as by old phones
            and messengers.
        noise_most: Maximum standard deviation of the noise, as a fraction of full scale, in linear
            light.
    """

    blur_mean: float | None = None
    blur_most: float | None = None
    sharp_share: float | None = None
    relief_share: float | None = None
    night_share: float | None = None
    curve_share: float | None = None
    bright_share: float | None = None
    object_share: float | None = None
    video_share: float | None = None
    recorded_share: float | None = None
    half_share: float | None = None
    compressed_share: float | None = None
    coder_share: float | None = None
    coarse_share: float | None = None
    noise_most: float | None = None

    def applied_to(self, config: SynthesisConfig) -> SynthesisConfig:
        """The configuration with every value that is not None replaced.

        Raises:
            ConfigError: a value is out of its range, or contradicts another.
        """
        wanted = {name: value for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(config, **wanted)


AS_PRESET = SynthesisChanges()
