"""Before and after in one image."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from unsmear.video.images import integer_from_unit


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
        whole = integer_from_unit(frame).permute(1, 2, 0).numpy()
        patch = whole[top : top + rows, left : left + columns]
        large = cv2.resize(patch, (width, height), interpolation=cv2.INTER_CUBIC)
        whole = cv2.rectangle(
            whole.copy(), (left, top), (left + columns, top + rows), (255, 220, 0), 1
        )
        panels.append(_labelled(np.concatenate((whole, large)), label))
    gap = np.full((panels[0].shape[0], 6, 3), 255, dtype=np.uint8)
    joined = np.concatenate((panels[0], gap, panels[1]), axis=1)
    return torch.from_numpy(np.ascontiguousarray(joined.transpose(2, 0, 1)))


def _labelled(panel: np.ndarray, label: str) -> np.ndarray:
    panel = np.ascontiguousarray(panel)
    for color, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(
            panel, label, (10, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.8, color, thickness, cv2.LINE_AA
        )
    return panel
