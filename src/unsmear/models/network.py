"""The deblurring network: encoder, factorised attention, decoder.

The encoder sees one frame and is purely convolutional. A neighbour reaches the current frame only

- through its descriptors (the attention),
- through its coarsest features (the local path), if `neighbours` > 0,
- through the optical flow to it, if the network has trails,
- through the neighbour itself, warped by that flow, if the network aligns neighbours.

Nothing else crosses frames, and nothing but the attention is global.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from unsmear.models.align import TripletFusion
from unsmear.models.attention import Descriptor, FactorizedAttention, TemporalSum
from unsmear.models.config import NetworkConfig
from unsmear.models.flow import clip_motion
from unsmear.models.layers import (
    DenseBlock,
    ResidualBlock,
    Upsample,
    conv3x3,
    receptive_radius,
)
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.trails import TRAIL_CHANNELS, AlongTrail, TrailHead, upsampled


class Encoded(NamedTuple):
    """A batch of frames and its features.

    Attributes:
        frame: the frames themselves, (B, 3, H, W).
        features: one tensor per level, finest first, (B, widths[l], H_l, W_l).
    """

    frame: Tensor
    features: tuple[Tensor, ...]

    @property
    def local(self) -> Tensor:
        """The coarsest features, which the local path passes to neighbouring frames."""
        return self.features[-1]


Descriptors = tuple[Descriptor, ...]
"""One `Descriptor` for each attention level, finest first."""

Contexts = tuple[Tensor, ...]
"""G_st of each attention level, finest first: (B, K, C) each."""

TemporalSums = tuple[TemporalSum, ...]
"""One `TemporalSum` for each attention level, finest first."""


def join_frames(parts: Sequence[Descriptors]) -> Descriptors:
    """Concatenate descriptors of consecutive frames (or runs of frames) along T."""
    return tuple(
        Descriptor(
            torch.cat([part.squeezed for part in level], dim=1),
            torch.cat([part.pooled for part in level], dim=1),
        )
        for level in zip(*parts, strict=True)
    )


def pad_to_multiple(frames: Tensor, multiple: int) -> Tensor:
    """Pad frames (..., C, H, W) to multiples of H and W by repeating the last row and column."""
    height, width = frames.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if bottom == 0 and right == 0:
        return frames
    flat = frames.flatten(0, -4)  # (N, C, H, W)
    padded = functional.pad(flat, (0, right, 0, bottom), mode="replicate")
    return padded.unflatten(0, frames.shape[:-3])


class DeblurNetwork(nn.Module):
    """Restores each frame from itself and the descriptors of its window.

    Frames are RGB, float, 0..1, display-referred (as decoded, not linear light).
    An untrained network returns its input, because its head starts at zero.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        widths, last = config.widths, len(config.widths) - 1
        self.stem = conv3x3(3 * config.stem**2, widths[0])
        self.downs = nn.ModuleList(
            conv3x3(fine, coarse, stride=2) for fine, coarse in itertools.pairwise(widths)
        )
        self.ups = nn.ModuleList(
            Upsample(coarse, fine) for fine, coarse in itertools.pairwise(widths)
        )
        self.encoder = nn.ModuleList(
            self._blocks(width, count)
            for width, count in zip(widths, config.encoder_blocks, strict=True)
        )
        self.decoder = nn.ModuleList(
            self._blocks(width, count)
            for width, count in zip(widths, config.decoder_blocks, strict=True)
        )
        self.attentions = nn.ModuleDict(
            {
                str(level): FactorizedAttention(
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
            conv3x3((2 * config.neighbours + 1) * widths[last], widths[last])
            if config.neighbours
            else None
        )
        self.trail_head = TrailHead(widths[last]) if config.trail_levels else None
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
        self.head = conv3x3(widths[0], 3 * config.stem**2)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def _blocks(self, width: int, count: int) -> nn.Sequential:
        if self.config.block == "dense":
            return nn.Sequential(
                *(DenseBlock(width, width // 2, self.config.dense_layers) for _ in range(count))
            )
        return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))

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
        trails: Tensor | None = None
        if level < len(self.ups):
            coarse = below[0]
            if self.config.outputs_trails(level + 1):
                coarse, trails = coarse[:, :-TRAIL_CHANNELS], upsampled(coarse[:, -TRAIL_CHANNELS:])
                coarse = coarse.to(features.dtype)  # trails are float32, so both were
            x = features + self.ups[level](coarse)
        elif self.local_fusion is not None:
            side = self.config.neighbours
            around = (*below[:side], features, *below[side : 2 * side])
            x = features + self.local_fusion(torch.cat(around, 1))
        else:
            x = features
        if context is not None:
            x = x + self.merges[str(level)](self.attention(level).distribute(features, context))
        if level in self.config.trail_levels:
            assert trails is not None
            x = self.trails[str(level)](x, trails, self.stride(level))
        if level in self.config.aligned_levels:
            x = self.aligned[str(level)](x, below[-1])
        decoded: Tensor = self.decoder[level](x)
        if level == len(self.ups) and self.trail_head is not None:
            trails = self.trail_head(decoded, below[-1])
        if self.config.outputs_trails(level):
            assert trails is not None
            decoded = torch.cat((decoded, trails), dim=1)
        return decoded

    def predict(self, x: Tensor) -> Tensor:
        """Decoder output of level 0 -> residual to add to the frame, (B, 3, H, W)."""
        return functional.pixel_shuffle(self.head(x), self.config.stem)

    def encode_reach(self, level: int) -> int:
        """Radius of the receptive field of `encode_level`, in pixels of the frame."""
        stride = self.stride(level)
        first = self.stride(max(level - 1, 0))  # one pixel of what the stem or `downs` takes
        return first + stride * receptive_radius(self.encoder[level])

    def decode_reach(self, level: int) -> int:
        """Radius of the receptive field of `decode_level` (at level 0 with `predict`), in pixels
        of the frame.
        """
        last = level == len(self.config.widths) - 1
        stride = self.stride(level)
        radius = receptive_radius(self.decoder[level])
        radius += int(level == 0) + int(last and self.local_fusion is not None)
        if last and self.trail_head is not None:
            radius += receptive_radius(self.trail_head)
        if level in self.config.trail_levels:
            radius += AlongTrail.reach(stride)
        if level in self.config.aligned_levels:
            radius += receptive_radius(self.aligned[str(level)])
        if not last and self.config.outputs_trails(level + 1):
            radius += 2  # one pixel of the coarser trails, for their upsampling
        return stride * radius

    def stride(self, level: int) -> int:
        """Pixels of the frame for one pixel of a level's features, along each axis."""
        return int(self.config.stem * 2**level)

    def encode(self, frames: Tensor) -> Encoded:
        """Frames (B, 3, H, W) -> features of every level, each frame independently.

        Raises:
            ValueError: H or W is not a multiple of `config.size_multiple`.
        """
        multiple = self.config.size_multiple
        height, width = frames.shape[-2:]
        if height % multiple or width % multiple:
            raise ValueError(
                f"frames are {width}x{height}: width and height must be multiples of "
                f"{multiple}; use pad_to_multiple"
            )
        features = [frames]
        for level in range(len(self.config.widths)):
            features.append(self.encode_level(level, features[-1]))
        return Encoded(frames, tuple(features[1:]))

    def squeeze(self, encoded: Encoded) -> Descriptors:
        """Eq. 1-2: descriptors of B frames, (B, 1, ...) for each attention level."""
        return tuple(
            self.attention(level).describe(encoded.features[level].unsqueeze(1))
            for level in self.config.attention_levels
        )

    def mix(self, window: Descriptors) -> Contexts:
        """Eq. 3-4: descriptors of windows (B, T, ...) -> the context of each attention level."""
        return tuple(
            self.attention(level).mix(descriptor)
            for level, descriptor in zip(self.config.attention_levels, window, strict=True)
        )

    def sum(self, frames: Descriptors) -> TemporalSums:
        """Partial sums of eq. 3-4 over frames (B, T, ...); they merge, see `TemporalSum`."""
        return tuple(
            self.attention(level).sum(descriptor)
            for level, descriptor in zip(self.config.attention_levels, frames, strict=True)
        )

    def restore(self, current: Encoded, contexts: Contexts, around: Neighbourhood) -> Tensor:
        """Restore B current frames.

        Args:
            current: `encode` of the frames to restore.
            contexts: `mix` of the windows of these frames.
            around: what else they get from their neighbours.

        Returns:
            (B, 3, H, W), not clamped.

        Raises:
            ValueError: `around` does not fit the network.
        """
        return self._restore(current, contexts, around)[0]

    def restore_with_trails(
        self, current: Encoded, contexts: Contexts, around: Neighbourhood
    ) -> tuple[Tensor, Tensor]:
        """`restore`, and the trails, for training: `doubled`, in pixels, (B, 2, H / 8, W / 8).

        Raises:
            ValueError: `around` does not fit the network, or the network has no trails.
        """
        if self.trail_head is None:
            raise ValueError("this network follows no trails, see NetworkConfig.trail_levels")
        restored, coarsest = self._restore(current, contexts, around)
        return restored, coarsest[:, -TRAIL_CHANNELS:]

    def _restore(
        self, current: Encoded, contexts: Contexts, around: Neighbourhood
    ) -> tuple[Tensor, Tensor]:
        """Restored frames, and the output of the coarsest level of the decoder."""
        around.check(self.config)
        decoded: list[Tensor] = []  # coarsest first
        for level in reversed(range(len(self.config.widths))):
            below = self.below(level, decoded[-1] if decoded else None, around)
            context = self.context_of(level, contexts)
            decoded.append(self.decode_level(level, current.features[level], below, context))
        return current.frame + self.predict(decoded[-1]), decoded[0]

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

    def context_of(self, level: int, contexts: Contexts) -> Tensor | None:
        """The context of a level; None if it has no attention."""
        levels = self.config.attention_levels
        return contexts[levels.index(level)] if level in levels else None

    @overload
    def forward(
        self, clip: Tensor, *, motion: Tensor | None = None, seen: Tensor | None = None
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        clip: Tensor,
        *,
        motion: Tensor | None = None,
        seen: Tensor | None = None,
        with_trails: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        clip: Tensor,
        *,
        motion: Tensor | None = None,
        seen: Tensor | None = None,
        with_trails: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Restore every frame of clips. The window of each frame is its whole clip.

        Args:
            clip: (B, T, 3, H, W), any H and W.
            motion: `unsmear.models.flow.clip_motion` of the padded clip, if it is known; None: a
                network with trails computes it.
            seen: frames to take the aligned neighbours from, like `clip`, such as restored ones;
                None: `clip` itself.
            with_trails: also return the trails, for training.

        Returns:
            (B, T, 3, H, W), not clamped; with trails also these, `doubled`, in pixels, (B, T, 2,
            h, w), one for each 8x8 pixels of the padded clip.

        Raises:
            ValueError: `clip` is not of this shape, or the network has no trails, but `motion` or
                `with_trails` is given.
        """
        if clip.dim() != 5:
            raise ValueError(f"clip of shape {tuple(clip.shape)}: must be (B, T, 3, H, W)")
        batch, frames, _, height, width = clip.shape
        padded = pad_to_multiple(clip, self.config.size_multiple)
        if seen is not None:
            seen = pad_to_multiple(seen, self.config.size_multiple)
        if motion is None and self.config.trail_levels:
            motion = clip_motion(padded)  # first, because it breaks the graph of torch.compile
        encoded = self.encode(padded.flatten(0, 1))  # B*T frames
        window = tuple(  # (B*T, 1, ...) -> (B, T, ...) -> (B*T, T, ...)
            Descriptor(
                *(
                    part.unflatten(0, (batch, frames)).squeeze(2).repeat_interleave(frames, dim=0)
                    for part in level
                )
            )
            for level in self.squeeze(encoded)
        )
        around = Neighbourhood.of_clips(self.config, padded, encoded.local, motion, seen)
        contexts = self.mix(window)
        trails: Tensor | None = None
        if with_trails:
            restored, trails = self.restore_with_trails(encoded, contexts, around)
        else:
            restored = self.restore(encoded, contexts, around)
        restored = restored.unflatten(0, (batch, frames))[..., :height, :width]
        return restored if trails is None else (restored, trails.unflatten(0, (batch, frames)))

    def attention(self, level: int) -> FactorizedAttention:
        """The attention of a level that has one."""
        attention = self.attentions[str(level)]
        assert isinstance(attention, FactorizedAttention)
        return attention
