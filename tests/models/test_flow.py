"""Motion between frames: correct in simple cases, extrapolated where a neighbour is missing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from tests.conftest import picture
from unsmear.models.flow import clip_motion, motion_between, shrunken_luma


def panned(frames: int, step: int, height: int = 96, width: int = 160) -> torch.Tensor:
    """An image that moves to the left: (T, 3, H, W)."""
    wide = torch.from_numpy(picture(height, width + frames * step)).permute(2, 0, 1) / 255
    return torch.stack([wide[..., step * t : step * t + width] for t in range(frames)])


def test_a_pan_is_found_both_ways_in_pixels():
    motion = clip_motion(panned(3, 8)[None])
    assert motion.shape == (3, 4, 12, 20)
    inner = motion[:, :, 3:-3, 4:-4].mean(dim=(-2, -1))
    wanted = torch.tensor([8.0, 0.0, -8.0, 0.0]).expand(3, 4)
    torch.testing.assert_close(inner, wanted, atol=0.5, rtol=0)


def test_beyond_the_ends_motion_goes_on_and_alone_there_is_none():
    luma = shrunken_luma(panned(2, 8))
    first = motion_between(None, luma[0], luma[1])
    assert torch.equal(first[:2], -first[2:])
    last = motion_between(luma[0], luma[1], None)
    assert torch.equal(last[2:], -last[:2])
    assert torch.equal(motion_between(None, luma[0], None), torch.zeros(4, 12, 20))


def test_luma_is_weighted_and_shrunk():
    frames = 1.5 * torch.eye(3)[:, :, None, None].expand(3, 3, 8, 16)  # not yet clamped
    luma = shrunken_luma(frames)
    assert luma.shape == (3, 2, 4)
    for one, weight in zip(luma, (0.299, 0.587, 0.114), strict=True):
        assert (one == round(255 * weight)).all()


@pytest.mark.parametrize("size", [(8, 8), (8, 40), (16, 24), (56, 200)])
def test_any_size_will_do(size):
    motion = clip_motion(torch.rand(1, 2, 3, *size))
    assert motion.shape == (2, 4, size[0] // 8, size[1] // 8)
    assert torch.isfinite(motion).all()


def test_the_same_for_any_number_of_threads_and_after_any_other_picture():
    luma = shrunken_luma(panned(2, 6, 184, 320))
    before = cv2.getNumThreads()
    found = []
    try:
        for threads in (1, 2, 5):
            cv2.setNumThreads(threads)
            motion_between(None, np.zeros((12, 12), np.uint8), np.zeros((12, 12), np.uint8))
            found.append(motion_between(None, luma[0], luma[1]))
    finally:
        cv2.setNumThreads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
