"""Sums over a window that slides: two merges a frame, whatever its length."""

from __future__ import annotations

from unsmear.models.network import Contexts, TemporalSums


def merge(one: TemporalSums, other: TemporalSums) -> TemporalSums:
    """The sums over the frames of both, level by level."""
    return tuple(a.merge(b) for a, b in zip(one, other, strict=True))


def contexts_of(sums: TemporalSums) -> Contexts:
    """Eq. 3-4 brought to its end: what the frames of the sums contribute to any other."""
    return tuple(level.mean().flatten(1, 2) for level in sums)


class SlidingSum:
    """The `TemporalSums` of the frames pushed and not yet popped, first in, first out.

    Prefix sums would need a subtraction, and lose the digits of a frame whose logit is far
    below those before it. Two stacks need none: one holds the sums from each old frame to the
    youngest of the old, the other is a running sum of the new; when the first is empty it takes
    over what the second has seen. Each frame is merged at most three times.
    """

    def __init__(self) -> None:
        self._old: list[TemporalSums] = []  # suffix sums, the oldest frame's last
        self._new: list[TemporalSums] = []
        self._new_sum: TemporalSums | None = None

    def __len__(self) -> int:
        return len(self._old) + len(self._new)

    def push(self, frame: TemporalSums) -> None:
        """Take in the next frame."""
        self._new.append(frame)
        self._new_sum = frame if self._new_sum is None else merge(self._new_sum, frame)

    def pop(self) -> None:
        """Drop the oldest frame.

        Raises:
            IndexError: there is none.
        """
        if not self._old:
            while self._new:
                frame = self._new.pop()
                self._old.append(merge(frame, self._old[-1]) if self._old else frame)
            self._new_sum = None
        self._old.pop()

    def total(self) -> TemporalSums:
        """The sum over all frames held.

        Raises:
            IndexError: there is none.
        """
        if not self._old:
            if self._new_sum is None:
                raise IndexError("no frames in the window")
            return self._new_sum
        if self._new_sum is None:
            return self._old[-1]
        return merge(self._old[-1], self._new_sum)
