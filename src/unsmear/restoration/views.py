"""Self-ensemble: a frame restored as it is, upside down, and so on, and the mean of it all.

A network that has learned from so much data has learned every direction about as well, but not
alike: what it gets wrong differs from view to view and partly cancels in the mean. So quality rises
a little, without weights, and time by as much as there are views.

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
from unsmear.restoration.whole import whole_number

ENSEMBLES = (1, 2, 4, 8)
"""How many views there can be."""


class View(NamedTuple):
    """A way to look at a frame: mirrored or not, then turned.

    Attributes:
        quarters: of a full turn, against the clock.
        mirrored: left and right.
    """

    quarters: int
    mirrored: bool

    def of(self, frame: Tensor) -> Tensor:
        """A frame (..., H, W) seen so."""
        seen = frame.flip(-1) if self.mirrored else frame
        return torch.rot90(seen, self.quarters, (-2, -1)) if self.quarters else seen

    def back(self, seen: Tensor) -> Tensor:
        """What `of` made, as it was."""
        frame = torch.rot90(seen, -self.quarters, (-2, -1)) if self.quarters else seen
        return frame.flip(-1) if self.mirrored else frame


AS_IT_IS = View(0, mirrored=False)

# Upside down first: what comes second to the view as it is gains most, and the shape stays.
_VIEWS = tuple(View(quarters, mirrored) for mirrored in (False, True) for quarters in (0, 2, 1, 3))


def views_of(ensemble: int) -> tuple[View, ...]:
    """The views of an ensemble, first the frame as it is: 1, 2 (and upside down), 4 (all quarter
    turns) or 8 (mirrored too).

    Raises:
        ConfigError: it has another number of views, or what is no whole number.
    """
    if (number := whole_number(ensemble)) not in ENSEMBLES:
        raise ConfigError(f"ensemble is {ensemble!r}: must be 1 (a single view), 2, 4 or 8 views")
    return _VIEWS[:number]


def seen_in(views: Sequence[View], frames: Iterable[Tensor]) -> list[Iterator[Tensor]]:
    """The frames (3, H, W) in each view. Go through all of them side by side: a frame stays in
    memory until the last view has had it.
    """
    source = iter(frames)
    # Not itertools.tee, which lets go of frames 57 at a time.
    waiting: list[deque[Tensor]] = [deque() for _ in views]

    def seen(view: View, own: deque[Tensor]) -> Iterator[Tensor]:
        while own or _pass_on(source, waiting):
            yield view.of(own.popleft())

    return [seen(view, own) for view, own in zip(views, waiting, strict=True)]


def _pass_on(source: Iterator[Tensor], waiting: Sequence[deque[Tensor]]) -> bool:
    """Put the next frame in every queue; whether there was one."""
    for frame in source:
        for queue in waiting:
            queue.append(frame)
        return True
    return False


def mean_of(views: Sequence[View], streams: Sequence[Iterable[Tensor]]) -> Iterator[Tensor]:
    """The mean of what was restored in each view.

    Args:
        views: one or more.
        streams: one a view, equally long, of frames (3, H, W) as that view shows them, which are
            not needed any more.
    """
    for seen in zip(*streams, strict=True):
        first, *others = (view.back(one) for view, one in zip(views, seen, strict=True))
        for other in others:
            first += other
        yield first.div_(len(views)) if others else first
        del seen, first, others  # or they would stay while the next ones are made
