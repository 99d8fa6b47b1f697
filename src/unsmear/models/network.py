"""The deblurring network: encoder, factorised attention, decoder.

As in the paper's Fig. 1: a hierarchical encoder and decoder (of densely connected modules in the
row `paper` of the zoo), and attention that fuses the current frame with its neighbours. Four steps
restore a frame:

1. `encode`: the frame alone, by convolutions -> features of each level.
2. `squeeze` (eq. 1-2): features -> a descriptor for each attention level.
3. `mix` (eq. 3-4): descriptors of the frame's window -> a context (G_st) for each attention level.
   Or `sum` those of some frames, and merge such sums into the context of any window.
4. `restore` (eq. 5-6): the decoder, from the coarsest level to the finest, distributes the
   contexts to the pixels of the current frame.

Steps 1 and 2 are done once for each frame, whatever windows it is in. `forward` does all four for
every frame of a clip.

A neighbour reaches the current frame only

- through its descriptors (the attention),
- through its coarsest features (the local path), if `neighbours` > 0,
- through the optical flow to it, if the network has trails,
- through the neighbour itself, warped by that flow, if the network aligns neighbours.

Nothing else crosses frames, and nothing but the attention is global. The last three are not in the
paper, and `paper` has none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.models.attention import Descriptor, TemporalSum
from unsmear.models.flow import clip_motion
from unsmear.models.levels import Levels
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.trails import TRAIL_CHANNELS


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


def _windows_of_clips(descriptors: Descriptors, frames: int) -> Descriptors:
    """Descriptors of every frame of clips, (B * T, 1, ...) -> those of its window, the whole clip,
    (B * T, T, ...).
    """

    def repeated(part: Tensor) -> Tensor:
        clips = part.unflatten(0, (-1, frames)).squeeze(2)  # (B, T, ...)
        return clips.repeat_interleave(frames, dim=0)

    return tuple(
        Descriptor(repeated(level.squeezed), repeated(level.pooled)) for level in descriptors
    )


def pad_to_multiple(frames: Tensor, multiple: int) -> Tensor:
    """Pad frames (B, ..., C, H, W): H and W become multiples of a number, by repeating the last row
    and column.
    """
    height, width = frames.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if bottom == 0 and right == 0:
        return frames
    flat = frames.flatten(0, -4)  # (N, C, H, W)
    padded = functional.pad(flat, (0, right, 0, bottom), mode="replicate")
    return padded.unflatten(0, frames.shape[:-3])


class DeblurNetwork(Levels):
    """Restores each frame from itself and the descriptors of its window.

    Frames are RGB, float, 0..1, display-referred (as decoded, not linear light).
    An untrained network returns its input, because its head starts at zero.
    """

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
        """Eq. 5-6 and the decoder: restore B current frames.

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
        contexts = self.mix(_windows_of_clips(self.squeeze(encoded), frames))
        around = Neighbourhood.of_clips(self.config, padded, encoded.local, motion, seen)
        trails: Tensor | None = None
        if with_trails:
            restored, trails = self.restore_with_trails(encoded, contexts, around)
        else:
            restored = self.restore(encoded, contexts, around)
        restored = restored.unflatten(0, (batch, frames))[..., :height, :width]
        return restored if trails is None else (restored, trails.unflatten(0, (batch, frames)))
