"""All that reaches the current frame from its neighbours, except their descriptors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.models.align import aligned_triplet, clip_triplets
from unsmear.models.config import NetworkConfig
from unsmear.models.trails import MOTION_CHANNELS


class Neighbourhood(NamedTuple):
    """What B frames get from their neighbours, besides descriptors.

    Attributes:
        local: `Encoded.local` of the 2 * config.neighbours frames around each frame, in temporal
            order, without the current one. Beyond the ends of the video, the nearest existing
            frame is repeated.
        motion: optical flow to the previous and the next frame, (B, 4, H / 8, W / 8), see
            `unsmear.models.flow.motion_between`; None if the network has no trails.
        triplet: each frame with its aligned neighbours, (B, 9, H, W), see
            `unsmear.models.align.aligned_triplet`; None if the network aligns no neighbours.
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
        """Build the neighbourhood of single frames.

        Args:
            config: shape of the network.
            frames: previous, current and next frame, (B, 3, H, W) each; None if there is none.
                Used only if the network aligns neighbours.
            local: see the class.
            motion: see the class.
        """
        if not config.aligned_levels:
            return cls(local, motion)
        assert motion is not None  # see NetworkConfig
        return cls(local, motion, aligned_triplet(*frames, motion))

    @classmethod
    def alone(cls, config: NetworkConfig, frames: Tensor, local: Tensor) -> Neighbourhood:
        """Build the neighbourhood of isolated frames (B, 3, H, W), from their `Encoded.local`."""
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
        """Build the neighbourhoods of all frames of clips.

        Args:
            config: shape of the network.
            clip: (B, T, 3, H, W), H and W multiples of `config.size_multiple`.
            local: `Encoded.local` of all frames, (B * T, C, h, w).
            motion: `unsmear.models.flow.clip_motion`; None if the network has no trails.
            seen: frames to take the aligned neighbours from, like `clip`; None: `clip` itself.
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
        """Check that this is what a network takes.

        Raises:
            ValueError: the number of neighbours differs, or motion or triplet is missing or not
                taken.
        """
        wanted = 2 * config.neighbours
        if len(self.local) != wanted:
            raise ValueError(f"{len(self.local)} neighbours given: this network takes {wanted}")
        for name, levels in (("motion", "trail_levels"), ("triplet", "aligned_levels")):
            takes = bool(getattr(config, levels))
            if (getattr(self, name) is not None) != takes:
                verb = "needs the" if takes else "takes no"
                raise ValueError(f"this network {verb} {name}, see NetworkConfig.{levels}")
