"""Learning from what a larger network makes of the same clips, beside the truth.

What a blurry frame leaves open, no network can know, and the truth is one of the frames that it may
have been: to a network that learns, noise. A teacher says what may be known, without that noise.
What it was worth so far: model_cards/LADDER.md.

Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", here for regression: the
same loss against the teacher's results as against the truth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unsmear.data.clips import Clips
from unsmear.errors import ConfigError
from unsmear.models.checkpoint import digest_of
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import LoadedModel
from unsmear.train.config import TrainConfig, check_crops

_DIGITS = 16  # of a digest: enough to tell networks apart


def identity_of(teacher: LoadedModel) -> str:
    """What `TrainConfig.teacher` calls a network: its row, and what tells its weights from others,
    so that a run does not go on with other weights of the same name, and does with the same ones
    under another.
    """
    return f"{teacher.provenance.model}-{digest_of(teacher.network)[:_DIGITS]}"


def check_teacher(config: TrainConfig, teacher: LoadedModel | None) -> None:
    """Raise ConfigError where a network is not the teacher that a configuration names, or follows
    trails that crops are no multiples of.
    """
    given = "" if teacher is None else identity_of(teacher)
    if given != config.teacher:
        raise ConfigError(
            f"teacher is {config.teacher!r}, but what was given is {given!r}: name the one that is "
            "given"
        )
    if teacher is not None:
        check_crops(config, teacher.network.config, teacher.name)


@torch.no_grad()
def told(teacher: DeblurNetwork, clips: Clips) -> Tensor:
    """What a teacher makes of clips.

    Args:
        teacher: on their device.
        clips: to restore, with their motion if that was measured. Where they show restored
            neighbours, these are the learner's, and a teacher that aligns any sees them too.

    Returns:
        (B, T, 3, H, W), float32, not clamped, without gradients.
    """
    motion = clips.motion if teacher.config.trail_levels else None
    seen = clips.seen if teacher.config.aligned_levels else None
    restored: Tensor = teacher(clips.blurry, motion=motion, seen=seen)
    return restored.float()
