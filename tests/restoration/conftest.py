"""Streams that begin in the middle of a clip."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from unsmear.models.network import DeblurNetwork
from unsmear.restoration.quality import NETWORK_ALONE, QualityOptions
from unsmear.restoration.stream import Window, frames_before, restore_stream


def restored_from(
    first: int,
    network: DeblurNetwork,
    clip: Sequence[Tensor] | Tensor,
    window: Window,
    quality: QualityOptions = NETWORK_ALONE,
    **passes: object,
) -> list[Tensor]:
    """Frames `first` and later of a clip, from a stream that begins with as many frames before
    them as `frames_before` asks for.

    Args:
        passes: scenes and store of a first pass, as `restore_stream` takes them.
    """
    lead = min(first, frames_before(network, window, quality))
    begun = restore_stream(
        network, clip[first - lead :], window,
        quality=quality, first=first - lead, lead=lead, **passes,
    )  # fmt: skip
    found = list(begun)
    assert len(found) == len(clip) - first
    return found
