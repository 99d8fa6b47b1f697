"""What a user changes of the synthesis of a preset. Imports no torch: the command line shows it."""

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
        blur_mean: Mean length of the blurs, in pixels.
        blur_most: Longest blur, in pixels.
        sharp_share: Share of clips with a blur of less than a pixel, from which a network learns
            to leave sharp frames alone.
        relief_share: Share of clips made from photographs in which near parts smear further, as
            they do where a camera moves past them.
        night_share: Share of clips made from photographs that are dim, with lamps that smear into
            white streaks.
        curve_share: Share of clips whose camera encodes light by a curve of its own rather than
            that of sRGB.
        bright_share: Share of clips exposed for what is dark, so that what is bright is white.
        object_share: Share of clips with a layer that moves on its own.
        video_share: Share of clips made from video, where there is video beside photographs.
        recorded_share: Share of clips shaken by a log of --shake, where there is one, rather than
            along a random path.
        half_share: Share of clips made at half the size of the photograph: denser detail.
        compressed_share: Share of clips with the losses of JPEG.
        coder_share: Share of clips that go through a real video coder, as what people have did.
            Needs PyAV.
        coarse_share: Of the clips that go through a coder, the share of those coded more coarsely,
            as by old phones and messengers.
        noise_most: Largest standard deviation of the noise, of full scale, in linear light.
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
        """The configuration with what is not None.

        Raises:
            ConfigError: a value is out of its range, or contradicts another.
        """
        wanted = {name: value for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(config, **wanted)


AS_PRESET = SynthesisChanges()
