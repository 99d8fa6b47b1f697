"""Sharp video made continuous: optical flow between frames, and interpolation between them.

Averaging the frames of a 30 fps video gives ghosts, so blur needs moments in between. Flow is
OpenCV's DIS. A moment is blended from its two neighbouring frames, assuming linear motion between
them (the approximation of Jiang et al., CVPR 2018, eq. 4).
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from unsmear.data.render import sample_canvas, sample_light

SMALLEST = 16  # pixels of height and width; with a smaller height DIS crashes the process
_TOLERANCE = 0.08  # mean absolute difference between frames after warping, of full scale


def optical_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dense flow from first to second, both (H, W, 3) uint8 RGB, H and W at least
    `SMALLEST` -> (H, W, 2) float32 pixels.

    The pixel of `first` at p is found in `second` at p + flow(p).
    """
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    before, after = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second))
    flow = np.zeros((*before.shape, 2), dtype=np.float32)
    return np.asarray(estimator.calc(before, after, flow), dtype=np.float32)


def between(
    images: tuple[Tensor, Tensor], flows: tuple[Tensor, Tensor], points: Tensor, moment: Tensor
) -> Tensor:
    """Interpolate an image at a moment between two frames, at given points.

    Args:
        images: the two frames, linear light, each (B, C, P, Q).
        flows: from the first to the second and back, in pixels, each (B, 2, P, Q).
        points: (B, S, K, 2) in pixels from the centre, at that moment.
        moment: 0 (first frame) .. 1 (second), (B, S).

    Returns:
        (B, C, S, K).
    """
    both = sample_canvas(torch.cat(flows, dim=1), points, outside="border")  # (B, 4, S, K)
    forward, backward = both.movedim(1, -1).split(2, dim=-1)  # (B, S, K, 2)
    t = moment[..., None, None]
    to_first = -(1 - t) * t * forward + t * t * backward
    to_second = (1 - t) ** 2 * forward - t * (1 - t) * backward
    share = moment[:, None, :, None]
    return (1 - share) * sample_light(images[0], points + to_first) + share * sample_light(
        images[1], points + to_second
    )


def is_continuous(first: np.ndarray, second: np.ndarray, forward: np.ndarray) -> bool:
    """Whether two frames belong to one shot and the flow explains them.

    Args:
        first: (H, W, 3) uint8.
        second: (H, W, 3) uint8.
        forward: flow from first to second, (H, W, 2).
    """
    height, width = forward.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    warped = cv2.remap(
        second, columns + forward[..., 0], rows + forward[..., 1], cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return float(cv2.absdiff(first, warped).mean()) / 255 < _TOLERANCE
