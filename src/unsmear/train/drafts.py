"""Neighbours restored before a network learns from them, as it will see them when it goes over its
own results again (`unsmear.restoration.scene`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from unsmear.data.clips import Clips
from unsmear.models.flow import clip_motion
from unsmear.train.config import Stage, TrainConfig


def redrafted_places(config: TrainConfig, stage: Stage, shards: Sequence[int]) -> list[int]:
    """Which clips of a process's batch show their frames restored neighbours: the last ones of the
    whole batch, whoever has them, counted across its shards, so that each has as many, give or take
    one. Within a shard their order says nothing (`unsmear.train.batches` shuffles it).

    Args:
        config: with `refine_share`.
        stage: of the batch.
        shards: that the process draws, in the order of its batch.
    """
    each = stage.clips // config.shards
    numbers = [clip * config.shards + shard for shard in shards for clip in range(each)]
    first = stage.clips - round(config.refine_share * stage.clips)
    return [place for place, number in enumerate(numbers) if number >= first]


@torch.no_grad()
def with_drafts(network: nn.Module, clips: Clips, places: Sequence[int]) -> Clips:
    """Clips of which some show each frame its neighbours as the network restores them now.

    Args:
        network: follows trails and aligns neighbours.
        clips: with their motion.
        places: of these clips in the batch.

    Returns:
        With `seen`, and with the motion that is measured between the restored frames.
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
