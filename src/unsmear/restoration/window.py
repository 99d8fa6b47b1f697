"""Sums over a sliding window, in O(log window) merges per frame."""

from __future__ import annotations

from unsmear.models.network import Contexts, TemporalSums


def merge(one: TemporalSums, other: TemporalSums) -> TemporalSums:
    """Sums over the frames of both, level by level."""
    return tuple(a.merge(b) for a, b in zip(one, other, strict=True))


def contexts_of(sums: TemporalSums) -> Contexts:
    """Complete eq. 3-4: the contribution of the summed frames to any frame."""
    return tuple(level.mean().flatten(1, 2) for level in sums)


class WindowSums:
    """`TemporalSums` of the frames of a window, for windows that move forward.

    Prefix sums would need a subtraction, and lose the digits of a frame whose logit is far
    below those before it. Sums over blocks of 1, 2, 4, ... frames need none. Blocks begin at
    multiples of their length, counted from the start of the clip. So a sum is assembled in the
    same order wherever a run began, and resumed runs are bit-exact.

    Args:
        first: number of the first frame that will be pushed.
    """

    def __init__(self, first: int = 0) -> None:
        self._oldest = self._next = first
        self._blocks: dict[tuple[int, int], TemporalSums] = {}  # (log2 of length, index)

    def push(self, frame: TemporalSums) -> None:
        """Add the next frame."""
        level, number = 0, self._next
        self._blocks[level, number] = block = frame
        while number % 2 and (left := self._blocks.get((level, number - 1))) is not None:
            level, number = level + 1, number // 2
            self._blocks[level, number] = block = merge(left, block)
        self._next += 1

    def forget(self, before: int) -> None:
        """Drop frames before a number, which no later window holds."""
        while self._oldest < min(before, self._next):
            level = 0
            while self._blocks.pop((level, self._oldest >> level), None) is not None:
                if self._oldest % (2 << level):
                    break
                level += 1
            self._oldest += 1

    def total(self, start: int, end: int) -> TemporalSums:
        """The sum over frames from `start` to before `end`.

        Raises:
            IndexError: a frame was not pushed or is forgotten, or the range is empty.
        """
        if not self._oldest <= start < end <= self._next:
            raise IndexError(
                f"frames {start} to {end} asked for, {self._oldest} to {self._next} are there"
            )
        total: TemporalSums | None = None
        while start < end:
            level = 0
            while start % (2 << level) == 0 and start + (2 << level) <= end:
                level += 1
            block = self._blocks[level, start >> level]
            total = block if total is None else merge(total, block)
            start += 1 << level
        assert total is not None
        return total
