"""Coarse optical flow between consecutive frames: the starting point of the blur estimate.

OpenCV's DIS (Kroeger et al., ECCV 2016) on luma at a quarter of the resolution. It takes a few
milliseconds for a pair of 720p frames, and was more accurate than Lucas-Kanade or learned
correlations at any cost that we could afford (model_cards/LADDER.md). It depends on two
consecutive frames only, and not on the number of OpenCV's threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unsmear.device import usable_cores
from unsmear.models.trails import CELL

_SHRINK = 4
_FINEST = 0  # finest scale of DIS, fixed: by default it depends on the size of the image
_SMALLEST = 16  # pixels of shrunken luma; below this DIS has no scale to start from
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def luma_of(frames: Tensor) -> Tensor:
    """RGB frames (B, 3, H, W) -> luma (B, 1, H, W), in the same range."""
    # Not a matrix product: autocast would run it in half precision.
    return (frames * frames.new_tensor(_LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)


def shrunken_luma(frames: Tensor) -> np.ndarray:
    """Frames (B, 3, H, W), 0..1, H and W multiples of 8 -> luma (B, H / 4, W / 4) uint8."""
    small = functional.avg_pool2d(frames.float().clamp(0, 1), _SHRINK)
    return luma_of(small)[:, 0].mul_(255).round_().byte().cpu().numpy()


def motion_between(
    before: np.ndarray | None, current: np.ndarray, after: np.ndarray | None
) -> Tensor:
    """Optical flow from the current frame to its two neighbours.

    Args:
        before: `shrunken_luma` of the previous frame, (h, w); None if there is none.
        current: the same of the current frame.
        after: the same of the next frame, or None.

    Returns:
        (4, H / 8, W / 8), in pixels of the full frame: x and y to the previous frame, then x and y
        to the next one. If one neighbour is missing, constant velocity is assumed; if both are,
        the flow is zero.
    """
    with ThreadPoolExecutor(1) as other:
        forth = None if after is None else other.submit(_flow, current, after)
        back = None if before is None else _flow(current, before)
        return _motion(current, back, None if forth is None else forth.result())


def _motion(current: np.ndarray, back: np.ndarray | None, forth: np.ndarray | None) -> Tensor:
    if back is None and forth is None:
        height, width = current.shape
        cells = height * _SHRINK // CELL, width * _SHRINK // CELL
        return torch.zeros(4, *cells, dtype=torch.float32)
    if back is None:
        assert forth is not None
        back = -forth
    if forth is None:
        forth = -back
    both = torch.from_numpy(np.concatenate((back, forth), axis=-1)).permute(2, 0, 1)
    return _SHRINK * functional.avg_pool2d(both, CELL // _SHRINK)


def clip_motion(clip: Tensor) -> Tensor:
    """`motion_between` for every frame of clips (B, T, 3, H, W), 0..1, H and W multiples of 8 ->
    (B * T, 4, H / 8, W / 8), on the device of the clips.
    """
    batch, frames = clip.shape[:2]
    luma = shrunken_luma(clip.detach().flatten(0, 1))

    def motion_at(place: int) -> Tensor:
        number = place % frames
        before = luma[place - 1] if number else None
        after = luma[place + 1] if number + 1 < frames else None
        back = None if before is None else _flow(luma[place], before)
        forth = None if after is None else _flow(luma[place], after)
        return _motion(luma[place], back, forth)

    count = batch * frames
    with ThreadPoolExecutor(min(count, usable_cores())) as threads:
        return torch.stack(list(threads.map(motion_at, range(count)))).to(clip.device)


def _flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two images (h, w) uint8 -> optical flow (h, w, 2) float32, in pixels of these images."""
    height, width = first.shape
    if min(height, width) < _SMALLEST:
        edges = [(0, max(_SMALLEST - side, 0)) for side in (height, width)]
        first, second = (np.pad(luma, edges, mode="edge") for luma in (first, second))
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    estimator.setFinestScale(_FINEST)
    flow = estimator.calc(first, second, np.zeros((*first.shape, 2), dtype=np.float32))
    return np.asarray(flow, dtype=np.float32)[:height, :width]
