"""Self-ensemble: restore rotated and mirrored views of a frame, and average the results.

A network handles all orientations about equally well, but its errors differ from view to view and
partly cancel in the mean. Quality rises slightly without new weights; the time grows in proportion
to the number of views.

Source: Lim et al. 2017, "Enhanced Deep Residual Networks for Single Image Super-Resolution",
section 3.3 (geometric self-ensemble, all eight views).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.errors import ConfigError
from unsmear.restoration.integers import as_integer

ENSEMBLES = (1, 2, 4, 8)
"""Allowed numbers of views."""


class View(NamedTuple):
    """A symmetry of the square: optionally mirrored, then rotated.

    Attributes:
        quarters: quarter turns, counter-clockwise.
        mirrored: whether left and right are swapped.
    """

    quarters: int
    mirrored: bool

    def of(self, frame: Tensor) -> Tensor:
        """Transform a frame (..., H, W) into this view."""
        seen = frame.flip(-1) if self.mirrored else frame
        return torch.rot90(seen, self.quarters, (-2, -1)) if self.quarters else seen

    def back(self, seen: Tensor) -> Tensor:
        """Undo `of`."""
        frame = torch.rot90(seen, -self.quarters, (-2, -1)) if self.quarters else seen
        return frame.flip(-1) if self.mirrored else frame


# The rotation by 180 degrees comes second: it adds most to the original view, and keeps the shape.
_VIEWS = tuple(View(quarters, mirrored) for mirrored in (False, True) for quarters in (0, 2, 1, 3))


def views_of(ensemble: int) -> tuple[View, ...]:
    """The views of an ensemble, the original frame first: 1, 2 (with the rotation by 180 degrees),
    4 (all quarter turns) or 8 (with mirrored ones).

    Raises:
        ConfigError: it is not 1, 2, 4 or 8.
    """
    if (number := as_integer(ensemble)) not in ENSEMBLES:
        raise ConfigError(f"ensemble is {ensemble!r}: must be 1 (a single view), 2, 4 or 8 views")
    return _VIEWS[:number]


def seen_in(views: Sequence[View], frames: Iterable[Tensor]) -> list[Iterator[Tensor]]:
    """An iterator of the frames (3, H, W) for each view. Advance all of them in step: a frame stays
    in memory until the last view has taken it.
    """
    source = iter(frames)
    # Not itertools.tee, which releases items in blocks of 57.
    waiting: list[deque[Tensor]] = [deque() for _ in views]

    def seen(view: View, own: deque[Tensor]) -> Iterator[Tensor]:
        while own or _pass_on(source, waiting):
            yield view.of(own.popleft())

    return [seen(view, own) for view, own in zip(views, waiting, strict=True)]


def _pass_on(source: Iterator[Tensor], waiting: Sequence[deque[Tensor]]) -> bool:
    """Put the next frame into every queue; return whether there was one."""
    for frame in source:
        for queue in waiting:
            queue.append(frame)
        return True
    return False


def mean_of(views: Sequence[View], streams: Sequence[Iterable[Tensor]]) -> Iterator[Tensor]:
    """The mean of the restored views.

    Args:
        views: one or more.
        streams: one per view, of equal length, with frames (3, H, W) in that view. Frames may be
            overwritten.
    """
    for seen in zip(*streams, strict=True):
        first, *others = (view.back(one) for view, one in zip(views, seen, strict=True))
        for other in others:
            first += other
        yield first.div_(len(views)) if others else first
        del seen, first, others  # or they would stay alive while the next ones are computed
