"""Distillation: learning from the results of a larger network on the same clips, beside the truth.

No network can know what a blurry frame leaves open. The truth is only one of the frames that it may
have been, which is noise to a network that learns. A teacher's results are free of that noise. For
what this has gained so far see model_cards/LADDER.md.

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

_DIGITS = 16  # of a digest, enough to identify weights


def identity_of(teacher: LoadedModel) -> str:
    """Name of a teacher in `TrainConfig.teacher`: its row and a digest of its weights. So a run
    resumes with the same weights under any name, but not with other weights of the same name.
    """
    return f"{teacher.provenance.model}-{digest_of(teacher.network)[:_DIGITS]}"


def check_teacher(config: TrainConfig, teacher: LoadedModel | None) -> None:
    """Raise ConfigError if a network is not the teacher that the configuration names, or if it
    follows trails and crops are not multiples of their cell.
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
def teacher_results(teacher: DeblurNetwork, clips: Clips) -> Tensor:
    """Results of a teacher on clips.

    Args:
        teacher: on the device of the clips.
        clips: to restore, with their motion if it was measured. If `seen` holds neighbours restored
            by the learner, a teacher that aligns neighbours sees these too.

    Returns:
        (B, T, 3, H, W), float32, not clamped, without gradients.
    """
    motion = clips.motion if teacher.config.trail_levels else None
    seen = clips.seen if teacher.config.aligned_levels else None
    restored: Tensor = teacher(clips.blurry, motion=motion, seen=seen)
    return restored.float()
