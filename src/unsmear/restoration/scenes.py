"""Where a video cuts from one scene to another: frames on either side know nothing of each
other, so no window reaches across.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from statistics import median

from torch import Tensor
from torch.nn import functional

_THUMBNAIL = (18, 32)
_RECENT = 8  # frames that say how alike neighbours usually are here
MEMORY = _RECENT + 1  # frames before a frame that decide whether the scene changes there
# Measured on a dozen real clips: a shaking hand or a pan keeps neighbours at 0.72 and more, frames
# of different clips are at 0.55 or less. A fast pan lowers what is usual, not only one frame.
_ALIKE = 0.55
_DROP = 0.3
_FLAT = 1e-4  # variance of a frame without content: black, or one colour
_FLAT_CHANGE = 0.1


def thumbnail(frame: Tensor) -> Tensor:
    """(3, H, W) -> (3, 18, 32) by averaging: what a person would still recognise."""
    return functional.adaptive_avg_pool2d(frame.float(), _THUMBNAIL)


def likeness(one: Tensor, other: Tensor) -> float:
    """Correlation of two thumbnails, -1..1; deaf to changes of exposure and contrast.

    Two frames without content are alike if they are of nearly one brightness.
    """
    centred = [side - side.mean() for side in (one, other)]
    variances = [float(side.square().mean()) for side in centred]
    if max(variances) < _FLAT:
        return float((one.mean() - other.mean()).abs() < _FLAT_CHANGE)
    covariance = float((centred[0] * centred[1]).mean())
    return covariance / max(variances[0] * variances[1], _FLAT**2) ** 0.5


def number_scenes(frames: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Each frame with the number of its scene, from 0; looks at no frame beyond it."""
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
    """The scenes of a video, each an iterator of its frames (3, H, W). As with
    `itertools.groupby`, use up one before taking the next; nothing is held.
    """
    for _, scene in groupby(number_scenes(frames), key=lambda numbered: numbered[0]):
        yield (frame for _, frame in scene)
