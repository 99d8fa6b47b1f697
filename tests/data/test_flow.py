from __future__ import annotations

import numpy as np
import torch

from tests.conftest import picture
from unsmear.data.flow import between, is_continuous, optical_flow


def moving_pair(shift=6):
    wide = picture(96, 160 + shift, seed=3)
    return np.ascontiguousarray(wide[:, shift:]), np.ascontiguousarray(wide[:, :160])


def test_flow_finds_a_pan():
    first, second = moving_pair(6)  # the scene moves 6 pixels to the right
    flow = optical_flow(first, second)
    inside = flow[24:-24, 24:-24]
    assert abs(np.median(inside[..., 0]) - 6) < 0.5
    assert abs(np.median(inside[..., 1])) < 0.5


def test_the_moment_between_two_frames_lies_between_them():
    wide = picture(96, 170, seed=3)
    first, middle, second = (
        torch.from_numpy(np.ascontiguousarray(wide[:, x : x + 160])).permute(2, 0, 1)[None] / 255.0
        for x in (8, 4, 0)
    )
    flow = torch.zeros(1, 2, 96, 160)
    flow[:, 0] = 8
    y, x = torch.meshgrid(torch.arange(96.0) - 47.5, torch.arange(160.0) - 79.5, indexing="ij")
    points = torch.stack((x, y), dim=-1).reshape(1, 1, -1, 2)
    moments = {0.0: first, 0.5: middle, 1.0: second}
    for moment, expected in moments.items():
        got = between((first, second), (flow, -flow), points, torch.tensor([[moment]]))
        got = got.reshape(1, 3, 96, 160)
        torch.testing.assert_close(got[..., 12:-12], expected[..., 12:-12], atol=2e-3, rtol=0)


def test_cuts_are_told_from_motion():
    first, second = moving_pair()
    assert is_continuous(first, second, optical_flow(first, second))
    still = np.zeros((20, 24, 2), np.float32)
    for level, continuous in ((117, True), (83, True), (124, False), (76, False)):  # of 255
        grey, other = (np.full((20, 24, 3), value, np.uint8) for value in (100, level))
        assert is_continuous(grey, other, still) == continuous
    other = 255 - picture(96, 160, seed=9)
    assert not is_continuous(first, other, optical_flow(first, other))
