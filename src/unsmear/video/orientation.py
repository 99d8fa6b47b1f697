"""Rotating images upright. EXIF data and display matrices are both expressed as an EXIF
orientation.

1 is upright; 2 is mirrored, 3 upside down, 4 both; 5 to 8 have rows and columns swapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

Side = Literal["left", "right", "top", "bottom"]
UPRIGHT = 1
# By the signs of a, b, c and d in x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12).
_BY_SIGNS = {
    (1, 0, 0, 1): 1, (-1, 0, 0, 1): 2, (-1, 0, 0, -1): 3, (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5, (0, 1, -1, 0): 6, (0, -1, -1, 0): 7, (0, -1, 1, 0): 8,
}  # fmt: skip
_LYING = 5  # from here on, rows and columns are swapped before any flip
_FLIPS = {2: (-1,), 3: (-2, -1), 4: (-2,), 5: (), 6: (-1,), 7: (-2, -1), 8: (-2,)}
# The side of the coded image that is displayed on the left.
_LEFT: dict[int, Side] = {
    1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "bottom", 7: "bottom", 8: "top",
}  # fmt: skip
_SMALL = 1 << 8  # 65,536 stands for 1, so a quarter of a degree


def orientation_of(matrix: Sequence[int] | None) -> int | None:
    """EXIF orientation, 1 to 8, that a display matrix stands for.

    Args:
        matrix: nine numbers, as in `ClipInfo`; None means upright.

    Returns:
        None if it does not rotate by a multiple of 90 degrees.
    """
    if matrix is None:
        return UPRIGHT
    numbers = (matrix[index] for index in (0, 1, 3, 4))
    signs = tuple(0 if abs(x) < _SMALL else 1 if x > 0 else -1 for x in numbers)
    return _BY_SIGNS.get(signs)  # type: ignore[arg-type]  # mypy does not know how many


def upright(image: Tensor, orientation: int | None) -> Tensor:
    """Rotate and mirror an image (..., H, W) as players show it: (..., H, W), or (..., W, H) for
    orientations 5 to 8. None and unknown numbers leave it unchanged.
    """
    if orientation is None or orientation not in _FLIPS:
        return image
    if orientation >= _LYING:
        image = image.transpose(-1, -2)
    return image.flip(_FLIPS[orientation]).contiguous()


def left_as_shown(orientation: int | None) -> Side:
    """Which side of the image as coded players show on the left. None and unknown numbers count as
    upright.
    """
    return _LEFT.get(orientation or UPRIGHT, "left")
