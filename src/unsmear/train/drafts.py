"""Drafts: neighbours restored by the network during training, as it sees them in refinement
(`unsmear.restoration.scene`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from unsmear.data.clips import Clips
from unsmear.models.flow import clip_motion
from unsmear.train.config import Stage, TrainConfig


def draft_indices(config: TrainConfig, stage: Stage, shards: Sequence[int]) -> list[int]:
    """Which clips of this process's batch get restored neighbours: the last ones of the whole
    batch. Clips are numbered across shards, so every shard gets the same number, give or take one.
    Within a shard the order is random (`unsmear.train.batches` shuffles it).

    Args:
        config: with `refine_share`.
        stage: of the batch.
        shards: drawn by this process, in the order of its batch.
    """
    each = stage.clips // config.shards
    numbers = [clip * config.shards + shard for shard in shards for clip in range(each)]
    first = stage.clips - round(config.refine_share * stage.clips)
    return [place for place, number in enumerate(numbers) if number >= first]


@torch.no_grad()
def with_drafts(network: nn.Module, clips: Clips, places: Sequence[int]) -> Clips:
    """Replace the neighbours of some clips by frames that the network restores with its current
    weights.

    Args:
        network: follows trails and aligns neighbours.
        clips: with their motion.
        places: indices of these clips in the batch.

    Returns:
        The clips with `seen`, and with the motion measured between the restored frames.
    """
    assert clips.motion is not None
    where = torch.tensor(places, device=clips.blurry.device)
    frames = clips.blurry.shape[1]
    motion = clips.motion.unflatten(0, (-1, frames))
    drafts = network(clips.blurry[where], motion=motion[where].flatten(0, 1)).float().clamp(0, 1)
    measured = clip_motion(drafts).unflatten(0, (-1, frames))
    return clips._replace(
        seen=clips.blurry.index_copy(0, where, drafts),
        motion=motion.index_copy(0, where, measured).flatten(0, 1),
    )
