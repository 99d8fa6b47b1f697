"""What a batch holds, and how it is turned: pictures and their trails alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.data.motion import Generators
from unsmear.data.trails import Trails, unknown_trails
from unsmear.models.trails import CELL


class Clips(NamedTuple):
    """B clips of T frames, all on one device.

    Attributes:
        blurry: (B, T, 3, H, W).
        sharp: likewise.
        trails: of the blur.
        motion: `unsmear.models.flow.clip_motion` of the blurry side, (B * T, 4, H / 8, W / 8); None
            where nobody measured it yet.
        seen: what neighbours show, like `blurry`; None: the blurry side itself.
    """

    blurry: Tensor
    sharp: Tensor
    trails: Trails
    motion: Tensor | None = None
    seen: Tensor | None = None

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Blurry and sharp alone."""
        return self.blurry, self.sharp

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is held."""
        more = (tensor for tensor in (self.motion, self.seen) if tensor is not None)
        return self.blurry, self.sharp, *self.trails, *more

    def parts(self, count: int) -> list[Clips]:
        """As many parts of equally many clips, in their order."""
        chunks = (tensor.chunk(count) for tensor in self.tensors)
        return [clips_of(part) for part in zip(*chunks, strict=True)]

    def to(self, device: torch.device) -> Clips:
        """The same on another device, without waiting for what can be copied meanwhile."""
        return clips_of([tensor.to(device, non_blocking=True) for tensor in self.tensors])


def unknown_clips(blurry: Tensor, sharp: Tensor) -> Clips:
    """Clips (B, T, 3, H, W) whose trails nobody knows."""
    return Clips(blurry, sharp, unknown_trails(blurry))


def clips_of(tensors: Sequence[Tensor]) -> Clips:
    """Clips of their `Clips.tensors`."""
    blurry, sharp, vectors, known, *more = tensors
    return Clips(blurry, sharp, Trails(vectors, known), *more)


def join_clips(parts: Sequence[Clips]) -> Clips:
    """Clips of one shape, one part after the other."""
    return clips_of([torch.cat(side) for side in zip(*(p.tensors for p in parts), strict=True)])


def shuffle_clips(clips: Clips, random: Generators) -> Clips:
    """The same clips in random order, before anything but their trails is known of them."""
    order = torch.randperm(len(clips.blurry), generator=random.host).to(clips.blurry.device)
    return clips_of([tensor[order] for tensor in (*clips.pair, *clips.trails)])


class Turn(NamedTuple):
    """How a clip is turned: first by quarter turns to the left, then mirrored left to right, its
    frames in reverse order.
    """

    quarters: int
    mirrored: bool
    reversed: bool


def draw_turns(count: int, random: Generators) -> list[Turn]:
    """One for each clip, all of them equally likely."""
    return [Turn(random.index(4), random.chance(0.5), random.chance(0.5)) for _ in range(count)]


def turn_frames(clips: Tensor, turns: Sequence[Turn]) -> Tensor:
    """Turn each of B clips.

    Args:
        clips: (B, T, C, H, W); H and W must be the same where a turn is by an odd number.
        turns: B.

    Returns:
        Likewise.
    """
    return torch.stack([_turned(clip, turn) for clip, turn in zip(clips, turns, strict=True)])


def _turned(clip: Tensor, turn: Turn) -> Tensor:
    axes = [axis for axis, wanted in ((-1, turn.mirrored), (0, turn.reversed)) if wanted]
    return torch.rot90(clip, turn.quarters, dims=(-2, -1)).flip(axes)


def turn_trails(trails: Trails, turns: Sequence[Turn]) -> Trails:
    """What `turn_frames` makes of the trails of clips whose sides are multiples of a cell: each
    goes where its cell goes, and turns with the picture.

    Args:
        trails: of B clips.
        turns: B.
    """
    turned = turn_frames(trails.vectors, turns)
    vectors = []
    for one, turn in zip(turned, turns, strict=True):
        x, y = one.unbind(dim=1)
        for _ in range(turn.quarters):
            x, y = y, -x  # to the left, with y down
        if turn.mirrored:
            x = -x
        if turn.reversed:
            x, y = -x, -y
        vectors.append(torch.stack((x, y), dim=1))
    return Trails(torch.stack(vectors), turn_frames(trails.known, turns))


def turn_clips(clips: Clips, random: Generators) -> Clips:
    """Turn by quarter turns, mirror and reverse in time, each clip at random.

    Args:
        clips: as high as wide. Where that is no multiple of a cell, the turned frame has its
            cells elsewhere, so that its trails become unknown.
        random: choices.
    """
    turns = draw_turns(len(clips.blurry), random)
    blurry, sharp = turn_frames(clips.blurry, turns), turn_frames(clips.sharp, turns)
    if blurry.shape[-1] % CELL:
        return unknown_clips(blurry, sharp)
    return Clips(blurry, sharp, turn_trails(clips.trails, turns))
