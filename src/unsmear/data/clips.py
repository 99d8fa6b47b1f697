"""Contents of a batch, and its augmentation by rotation, mirroring and time reversal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.data.generators import Generators
from unsmear.data.trails import Trails, unknown_trails
from unsmear.models.trails import CELL


class Clips(NamedTuple):
    """B clips of T frames, all on one device.

    Attributes:
        blurry: (B, T, 3, H, W). More channels, after these, for a network that takes more.
        sharp: (B, T, 3, H, W).
        trails: of the blur.
        motion: `unsmear.models.flow.clip_motion` of the blurry frames, (B * T, 4, H / 8, W / 8);
            None: not measured yet.
        seen: frames that neighbours show, shaped like `blurry`; None: the blurry frames.
    """

    blurry: Tensor
    sharp: Tensor
    trails: Trails
    motion: Tensor | None = None
    seen: Tensor | None = None

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Blurry and sharp frames."""
        return self.blurry, self.sharp

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors held, those that are None left out."""
        more = (tensor for tensor in (self.motion, self.seen) if tensor is not None)
        return self.blurry, self.sharp, *self.trails, *more

    def parts(self, count: int) -> list[Clips]:
        """Split into `count` parts of equally many clips, in order."""
        chunks = (tensor.chunk(count) for tensor in self.tensors)
        return [clips_of(part) for part in zip(*chunks, strict=True)]

    def to(self, device: torch.device) -> Clips:
        """The same on another device; copies may be asynchronous."""
        return clips_of([tensor.to(device, non_blocking=True) for tensor in self.tensors])


def unknown_clips(blurry: Tensor, sharp: Tensor) -> Clips:
    """Clips (B, T, 3, H, W) with unknown trails."""
    return Clips(blurry, sharp, unknown_trails(blurry))


def clips_of(tensors: Sequence[Tensor]) -> Clips:
    """Clips from their `Clips.tensors`."""
    blurry, sharp, vectors, known, *more = tensors
    return Clips(blurry, sharp, Trails(vectors, known), *more)


def join_clips(parts: Sequence[Clips]) -> Clips:
    """Concatenate clips of one shape."""
    return clips_of([torch.cat(side) for side in zip(*(p.tensors for p in parts), strict=True)])


def shuffle_clips(clips: Clips, random: Generators) -> Clips:
    """The same clips in random order. Motion and `seen` are dropped."""
    order = torch.randperm(len(clips.blurry), generator=random.host).to(clips.blurry.device)
    return clips_of([tensor[order] for tensor in (*clips.pair, *clips.trails)])


class Turn(NamedTuple):
    """How a clip is turned: rotated by quarter turns counter-clockwise, then mirrored left to
    right, and its frames reversed in time.
    """

    quarters: int
    mirrored: bool
    reversed: bool


def turn_frames(clips: Tensor, turns: Sequence[Turn]) -> Tensor:
    """Turn each of B clips.

    Args:
        clips: (B, T, C, H, W). H and W must be equal for odd quarter turns.
        turns: B.

    Returns:
        Same shape.
    """
    return torch.stack([_turned(clip, turn) for clip, turn in zip(clips, turns, strict=True)])


def _turned(clip: Tensor, turn: Turn) -> Tensor:
    axes = [axis for axis, wanted in ((-1, turn.mirrored), (0, turn.reversed)) if wanted]
    return torch.rot90(clip, turn.quarters, dims=(-2, -1)).flip(axes)


def turn_trails(trails: Trails, turns: Sequence[Turn]) -> Trails:
    """Turn the trails as `turn_frames` turns the clips: cells move with the frame, and vectors are
    rotated. Sides of the frames must be multiples of a cell.

    Args:
        trails: of B clips.
        turns: B.
    """
    turned = turn_frames(trails.vectors, turns)
    vectors = []
    for one, turn in zip(turned, turns, strict=True):
        x, y = one.unbind(dim=1)
        for _ in range(turn.quarters):
            x, y = y, -x  # counter-clockwise, with y down
        if turn.mirrored:
            x = -x
        if turn.reversed:
            x, y = -x, -y
        vectors.append(torch.stack((x, y), dim=1))
    return Trails(torch.stack(vectors), turn_frames(trails.known, turns))


def turn_clips(clips: Clips, random: Generators) -> Clips:
    """Rotate by quarter turns, mirror and reverse in time, each clip at random. Motion and `seen`
    are dropped.

    Args:
        clips: square. If the side is not a multiple of a cell, the cells of the turned frame lie
            elsewhere, and the trails become unknown.
        random: its host generator is advanced.
    """
    turns = [
        Turn(random.index(4), random.chance(0.5), random.chance(0.5))
        for _ in range(len(clips.blurry))
    ]
    blurry, sharp = turn_frames(clips.blurry, turns), turn_frames(clips.sharp, turns)
    if blurry.shape[-1] % CELL:
        return unknown_clips(blurry, sharp)
    return Clips(blurry, sharp, turn_trails(clips.trails, turns))
