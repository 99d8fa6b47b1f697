"""Scene cut detection. Frames of different scenes share nothing, so no window crosses a cut."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from statistics import median

from torch import Tensor
from torch.nn import functional

_THUMBNAIL = (18, 32)
_RECENT = 8  # frames for the running median of the likeness
MEMORY = _RECENT + 1  # previous frames on which the decision at a frame depends
# Measured on a dozen real clips: with hand shake or a pan, neighbours correlate by 0.72 or more;
# frames of different clips by 0.55 or less. A fast pan lowers the median too, not only one value.
_ALIKE = 0.55
_DROP = 0.3
_FLAT = 1e-4  # variance below which a frame has no content: black, or one colour
_FLAT_CHANGE = 0.1


def thumbnail(frame: Tensor) -> Tensor:
    """Average (3, H, W) down to (3, 18, 32), a size at which a person still recognises a scene."""
    return functional.adaptive_avg_pool2d(frame.float(), _THUMBNAIL)


def likeness(one: Tensor, other: Tensor) -> float:
    """Correlation of two thumbnails, -1..1; invariant to exposure and contrast.

    For two frames without content: 1 if their brightness is nearly the same, otherwise 0.
    """
    centred = [side - side.mean() for side in (one, other)]
    variances = [float(side.square().mean()) for side in centred]
    if max(variances) < _FLAT:
        return float((one.mean() - other.mean()).abs() < _FLAT_CHANGE)
    covariance = float((centred[0] * centred[1]).mean())
    return covariance / max(variances[0] * variances[1], _FLAT**2) ** 0.5


def number_scenes(frames: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Pair each frame with the number of its scene, from 0. Causal: it reads no later frame."""
    scene = 0
    before: Tensor | None = None
    usual: deque[float] = deque(maxlen=_RECENT)
    for frame in frames:
        now = thumbnail(frame)
        if before is not None:
            alike = likeness(before, now)
            if alike < _ALIKE and alike < (median(usual) if usual else 1.0) - _DROP:
                scene += 1
            usual.append(alike)
        before = now
        yield scene, frame


def split_scenes(frames: Iterable[Tensor]) -> Iterator[Iterator[Tensor]]:
    """Split a video into scenes, each an iterator of its frames (3, H, W). As with
    `itertools.groupby`, exhaust each before taking the next; nothing is buffered.
    """
    for _, scene in groupby(number_scenes(frames), key=lambda numbered: numbered[0]):
        yield (frame for _, frame in scene)
