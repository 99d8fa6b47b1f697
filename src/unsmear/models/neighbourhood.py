"""What of the frames beside reaches the current one, apart from their descriptors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.models.align import aligned_triplet, clip_triplets
from unsmear.models.config import NetworkConfig
from unsmear.models.trails import MOTION_CHANNELS


class Neighbourhood(NamedTuple):
    """Of B frames.

    Attributes:
        local: `Encoded.local` of the 2 * config.neighbours frames around each one, earliest first,
            the current one left out. Beyond the ends of the video stands the nearest frame that
            exists.
        motion: how the picture moves around each frame, (B, 4, H / 8, W / 8), see
            `unsmear.models.flow.motion_between`; None where the network follows no trails.
        triplet: each frame between its neighbours, both warped to fit it, (B, 9, H, W), see
            `unsmear.models.align.aligned_triplet`; None where the network aligns none.
    """

    local: tuple[Tensor, ...] = ()
    motion: Tensor | None = None
    triplet: Tensor | None = None

    @classmethod
    def gathered(
        cls,
        config: NetworkConfig,
        frames: tuple[Tensor | None, Tensor, Tensor | None],
        local: tuple[Tensor, ...],
        motion: Tensor | None,
    ) -> Neighbourhood:
        """Of single frames.

        Args:
            config: of the network that takes it.
            frames: the one before, the current one, the one after, (B, 3, H, W) each; None where
                there is none. The outer two count only where the network aligns neighbours.
            local: see the class.
            motion: likewise.
        """
        if not config.aligned_levels:
            return cls(local, motion)
        assert motion is not None  # see NetworkConfig
        return cls(local, motion, aligned_triplet(*frames, motion))

    @classmethod
    def alone(cls, config: NetworkConfig, frames: Tensor, local: Tensor) -> Neighbourhood:
        """Of frames (B, 3, H, W) with nothing beside them, and of their `Encoded.local`."""
        still = None
        if config.trail_levels:
            still = local.new_zeros(len(local), MOTION_CHANNELS, *local.shape[-2:])
        beside = (local,) * (2 * config.neighbours)
        return cls.gathered(config, (None, frames, None), beside, still)

    @classmethod
    def of_clips(
        cls,
        config: NetworkConfig,
        clip: Tensor,
        local: Tensor,
        motion: Tensor | None,
        seen: Tensor | None = None,
    ) -> Neighbourhood:
        """Of every frame of clips.

        Args:
            config: of the network that takes it.
            clip: (B, T, 3, H, W), H and W multiples of what the network takes.
            local: `Encoded.local` of all, (B * T, C, h, w).
            motion: `unsmear.models.flow.clip_motion`, or None.
            seen: what aligned neighbours show, like `clip`; None: the clip itself.
        """
        side, frames = config.neighbours, clip.shape[1]
        clips = local.unflatten(0, (-1, frames))  # (B, T, C, h, w)
        here = torch.arange(frames, device=local.device)
        shifted = tuple(
            clips[:, (here + offset).clamp(0, frames - 1)].flatten(0, 1)
            for offset in range(-side, side + 1)
            if offset
        )
        if not config.aligned_levels:
            return cls(shifted, motion)
        assert motion is not None  # see NetworkConfig
        return cls(shifted, motion, clip_triplets(clip, motion, seen))

    def check(self, config: NetworkConfig) -> None:
        """Whether it is what a network takes.

        Raises:
            ValueError: the number of neighbours, the motion or the triplet does not fit.
        """
        wanted = 2 * config.neighbours
        if len(self.local) != wanted:
            raise ValueError(f"{len(self.local)} neighbours given: this network takes {wanted}")
        for name, levels in (("motion", "trail_levels"), ("triplet", "aligned_levels")):
            takes = bool(getattr(config, levels))
            if (getattr(self, name) is not None) != takes:
                verb = "needs the" if takes else "takes no"
                raise ValueError(f"this network {verb} {name}, see NetworkConfig.{levels}")
