"""Before and after in one frame or image."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from unsmear.clip import ClipInfo, YuvPlanes
from unsmear.restoration.settings import Comparison
from unsmear.video.color import beside, wipe
from unsmear.video.images import integer_from_unit
from unsmear.video.orientation import Side, left_as_shown, orientation_of

_WIPE_SECONDS = 4  # each way: the dividing line moves from left to right, then back


def written_info(info: ClipInfo, compare: Comparison | None) -> ClipInfo:
    """Info of a clip with the size of the frames that are written, which comparisons change."""
    if compare != "side":
        return info
    if _before_as_coded(info) in ("top", "bottom"):
        return replace(info, height=2 * (info.height // 2 * 2))
    return replace(info, width=2 * (info.width // 2 * 2))


def compared_planes(
    before: YuvPlanes, after: YuvPlanes, info: ClipInfo, compare: Comparison, pts: float
) -> YuvPlanes:
    """Before and after in one frame, which keeps the display matrix of the clip: as displayed,
    before is on the left and after on the right; the dividing line of a wipe moves left and right.

    Args:
        before: as decoded.
        after: restored.
        info: of the clip.
        compare: kind of comparison.
        pts: presentation time in the result, seconds.
    """
    side, way = _before_as_coded(info), 1 - abs((pts / _WIPE_SECONDS) % 2 - 1)
    below = side in ("top", "bottom")
    if side in ("right", "bottom"):
        before, after, way = after, before, 1 - way
    if compare == "side":
        return beside(before, after, below=below)
    return wipe(before, after, round(before.y.shape[0 if below else 1] * way), below=below)


def compared_images(before: Tensor, after: Tensor, compare: Comparison) -> Tensor:
    """Likewise for upright images (3, H, W); the dividing line of a wipe is in the middle."""
    if compare == "side":
        return torch.cat((before, after), -1)
    half = after.shape[-1] // 2
    return torch.cat((before[..., :half], after[..., half:]), -1)


def _before_as_coded(info: ClipInfo) -> Side:
    """The side of a coded frame that is displayed on the left, where before stands."""
    return left_as_shown(orientation_of(info.display_matrix))


def before_after_picture(before: Tensor, after: Tensor) -> Tensor:
    """Two frames side by side, and below each the patch that changed most, enlarged.

    Args:
        before: (3, H, W), float, 0..1.
        after: likewise.

    Returns:
        (3, 2H, 2W + gap) uint8.
    """
    height, width = before.shape[-2:]
    rows, columns = max(height // 3, 1), max(width // 3, 1)
    change = (before - after).abs().mean(dim=0)[None, None]
    pooled = torch.nn.functional.avg_pool2d(change, (rows, columns), stride=8)[0, 0]
    top, left = (8 * int(i) for i in np.unravel_index(int(pooled.argmax()), pooled.shape))
    panels = []
    for frame, label in ((before, "before"), (after, "after")):
        whole = integer_from_unit(frame).permute(1, 2, 0).numpy().copy()  # strides for OpenCV
        patch = whole[top : top + rows, left : left + columns]
        large = cv2.resize(patch, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.rectangle(whole, (left, top), (left + columns, top + rows), (255, 220, 0), 1)
        panels.append(_labelled(np.concatenate((whole, large)), label))
    gap = np.full((panels[0].shape[0], 6, 3), 255, dtype=np.uint8)
    joined = np.concatenate((panels[0], gap, panels[1]), axis=1)
    return torch.from_numpy(np.ascontiguousarray(joined.transpose(2, 0, 1)))


def _labelled(panel: np.ndarray, label: str) -> np.ndarray:
    for color, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(
            panel, label, (10, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.8, color, thickness, cv2.LINE_AA
        )
    return panel
