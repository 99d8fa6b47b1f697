"""The levels of the network: its convolutions at 1/2, 1/4, ... of the frame, and how they join.

All of this is local: a pixel depends on what lies within a level's reach of it, and on the context
of the attention, which is the same for all pixels. So other engines may run a level, and tile by
tile. `unsmear.models.network` makes a network of the levels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsmear.models.align import TripletFusion
from unsmear.models.attention import ATTENTIONS, FactorizedAttention
from unsmear.models.config import NetworkConfig
from unsmear.models.layers import (
    DenseBlock,
    ResidualBlock,
    Upsample,
    conv3x3,
    receptive_radius,
    start_at_zero,
)
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.trails import TRAIL_CHANNELS, AlongTrail, TrailHead, upsampled


class Levels(nn.Module):
    """Encoder and decoder, level by level, numbered from the finest (0) to the coarsest. The
    encoder's features of a level are added in the decoder at that level.

    Dimensions in shapes: B frames, H and W rows and columns of the frame, H_l and W_l those of
    level l, H / `stride(l)` and W / `stride(l)`.

    Args:
        config: widths, blocks and modules of each level.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.stem = conv3x3(3 * config.stem**2, widths[0])
        self.downs = nn.ModuleList(
            conv3x3(fine, coarse, stride=2) for fine, coarse in itertools.pairwise(widths)
        )
        self.ups = nn.ModuleList(
            Upsample(coarse, fine) for fine, coarse in itertools.pairwise(widths)
        )
        self.encoder = nn.ModuleList(map(self._blocks, widths, config.encoder_blocks))
        self.decoder = nn.ModuleList(map(self._blocks, widths, config.decoder_blocks))
        self.attentions = nn.ModuleDict(
            {
                str(level): ATTENTIONS[config.attention](
                    widths[level], config.spatial_maps, config.temporal_maps
                )
                for level in config.attention_levels
            }
        )
        self.merges = nn.ModuleDict(
            {
                str(level): nn.Conv2d(widths[level], widths[level], kernel_size=1)
                for level in config.attention_levels
            }
        )
        self.local_fusion = (
            conv3x3((2 * config.neighbours + 1) * widths[-1], widths[-1])
            if config.neighbours
            else None
        )
        self.trail_head = TrailHead(widths[-1]) if config.trail_levels else None
        self.trails = nn.ModuleDict(
            {
                str(level): AlongTrail(widths[level], config.trail_channels)
                for level in config.trail_levels
            }
        )
        self.aligned = nn.ModuleDict(
            {
                str(level): TripletFusion(
                    widths[level], config.aligned_channels, self.stride(level)
                )
                for level in config.aligned_levels
            }
        )
        self.head = start_at_zero(conv3x3(widths[0], 3 * config.stem**2))

    def _blocks(self, width: int, count: int) -> nn.Sequential:
        if self.config.block == "dense":
            return nn.Sequential(
                *(DenseBlock(width, width // 2, self.config.dense_layers) for _ in range(count))
            )
        return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))

    def stride(self, level: int) -> int:
        """Pixels of the frame for one pixel of a level's features, along each axis."""
        return int(self.config.stem * 2**level)

    def attention(self, level: int) -> FactorizedAttention:
        """The attention of a level that has one."""
        attention = self.attentions[str(level)]
        assert isinstance(attention, FactorizedAttention)
        return attention

    def encode_level(self, level: int, x: Tensor) -> Tensor:
        """One level of the encoder: frames (B, 3, H, W), or features of the next finer level ->
        features of this level (B, widths[level], H_l, W_l). The radius of its receptive field is
        `encode_reach(level)`.
        """
        if level == 0:
            x = self.stem(functional.pixel_unshuffle(x, self.config.stem))
        else:
            x = self.downs[level - 1](x)
        features: Tensor = self.encoder[level](x)
        return features

    def decode_level(
        self, level: int, features: Tensor, below: Sequence[Tensor], context: Tensor | None
    ) -> Tensor:
        """One level of the decoder. The radius of its receptive field is `decode_reach(level)`.

        Args:
            level: levels run from the coarsest to 0.
            features: encoder features of the current frame at this level.
            below: the output of the coarser level, one tensor; at the coarsest level the
                `Encoded.local` of the neighbours and, if the network has trails, the motion. At
                levels that align neighbours, the triplet comes last. See `Neighbourhood`.
            context: G_st of this level, (B, K, C); None if it has no attention.

        Returns:
            (B, widths[level], H_l, W_l), with two more channels, the `doubled` trails, if a finer
            level needs them, see `NetworkConfig.outputs_trails`.
        """
        x, trails = self._join_below(level, features, below)
        if context is not None:
            y = self.attention(level).distribute(features, context)  # eq. 5-6, y_R
            x = x + self.merges[str(level)](y)
        if level in self.config.trail_levels:
            assert trails is not None
            x = self.trails[str(level)](x, trails, self.stride(level))
        if level in self.config.aligned_levels:
            x = self.aligned[str(level)](x, below[-1])
        decoded: Tensor = self.decoder[level](x)
        if level == self.config.coarsest and self.trail_head is not None:
            trails = self.trail_head(decoded, below[-1])
        if self.config.outputs_trails(level):
            assert trails is not None
            decoded = torch.cat((decoded, trails), dim=1)
        return decoded

    def _join_below(
        self, level: int, features: Tensor, below: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Join the encoder's features of a level and `below`, see `decode_level`.

        Returns:
            The features plus the upsampled output of the coarser level, or at the coarsest level
            plus what comes from the neighbours (the local path); and the trails, if they come from
            below, at the size of this level.
        """
        if level == self.config.coarsest:
            if self.local_fusion is None:
                return features, None
            side = self.config.neighbours
            around = (*below[:side], features, *below[side : 2 * side])
            return features + self.local_fusion(torch.cat(around, 1)), None
        coarse, trails = below[0], None
        if self.config.outputs_trails(level + 1):
            coarse, trails = coarse[:, :-TRAIL_CHANNELS], upsampled(coarse[:, -TRAIL_CHANNELS:])
            coarse = coarse.to(features.dtype)  # trails are float32, so both were
        return features + self.ups[level](coarse), trails

    def predict(self, x: Tensor) -> Tensor:
        """Decoder output of level 0 -> residual to add to the frame, (B, 3, H, W)."""
        return functional.pixel_shuffle(self.head(x), self.config.stem)

    def below(
        self, level: int, coarser: Tensor | None, around: Neighbourhood
    ) -> tuple[Tensor, ...]:
        """`below` for `decode_level`.

        Args:
            level: that will be decoded.
            coarser: output of the coarser level; None at the coarsest.
            around: neighbourhood of the frames.
        """
        if coarser is not None:
            found: tuple[Tensor, ...] = (coarser,)
        else:
            found = around.local if around.motion is None else (*around.local, around.motion)
        if level in self.config.aligned_levels:
            assert around.triplet is not None  # see Neighbourhood.check
            found = (*found, around.triplet)
        return found

    def encode_reach(self, level: int) -> int:
        """Radius of the receptive field of `encode_level`, in pixels of the frame."""
        stride = self.stride(level)
        first = self.stride(max(level - 1, 0))  # one pixel of what the stem or `downs` takes
        return first + stride * receptive_radius(self.encoder[level])

    def decode_reach(self, level: int) -> int:
        """Radius of the receptive field of `decode_level` (at level 0 with `predict`), in pixels
        of the frame.
        """
        coarsest = level == self.config.coarsest
        stride = self.stride(level)
        radius = receptive_radius(self.decoder[level])
        radius += int(level == 0) + int(coarsest and self.local_fusion is not None)
        if coarsest and self.trail_head is not None:
            radius += receptive_radius(self.trail_head)
        if level in self.config.trail_levels:
            radius += AlongTrail.reach(stride)
        if level in self.config.aligned_levels:
            radius += receptive_radius(self.aligned[str(level)])
        if not coarsest and self.config.outputs_trails(level + 1):
            radius += 2  # one pixel of the coarser trails, for their upsampling
        return stride * radius
