"""Drawn motion: its blur, turns of recorded hands, where clips look, how long shutters are open."""

from __future__ import annotations

import pytest
import torch

from tests.data.conftest import hand
from unsmear.data import motion
from unsmear.data.generators import Generators
from unsmear.data.motion import draw_motion
from unsmear.data.shake import (
    OrientationLog,
    blur_length,
    rotation_matrices,
    smooth_path,
    transform_points,
)
from unsmear.data.trails import fit_trails

CPU = torch.device("cpu")


def turning(axis: int) -> OrientationLog:
    """A third of a second of a steady turn about one axis of the device."""
    angles = torch.zeros(67, 3, dtype=torch.float64)
    angles[:, axis] = 0.002 * torch.arange(67)
    return OrientationLog(
        torch.arange(67, dtype=torch.float64) / 200, rotation_matrices(angles).double()
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_recorded_turn_is_one_about_the_same_axis(monkeypatch, axis):
    """Turning about x or y smears along the other one; for phones held sideways, the two are
    swapped. Turning about z leaves circles. The turn is steady, so all frames are blurred alike,
    unless times lie beyond the log.
    """
    monkeypatch.setattr(motion, "smooth_path", lambda times, *_: torch.zeros(*times.shape, 6))
    wanted = torch.full((24,), 6.0)
    drawn = draw_motion(wanted, 3, 96, [turning(axis)], 1.0, Generators.seeded(0, CPU))
    found = blur_length(drawn.homographies, 96, 96)
    torch.testing.assert_close(found, wanted[:, None].expand(24, 3), rtol=0.05, atol=0)
    trails = fit_trails(drawn.homographies, 96, 96)[:, 1]  # (B, 2, h, w)
    if axis == 2:
        turn = trails[:, 1].diff(dim=-1)[:, :-1], trails[:, 0].diff(dim=-2)[..., :-1]
        torch.testing.assert_close(turn[0], -turn[1], rtol=0.05, atol=0.01)
        assert turn[0].abs().min() > 0.05
    else:
        along_x, along_y = trails.square().mean(dim=(-2, -1)).unbind(dim=1)
        across = along_x > along_y
        assert 4 < int(across.sum()) < 20
        assert (torch.minimum(along_x, along_y) < 0.1 * torch.maximum(along_x, along_y)).all()


def test_a_clip_as_a_whole_looks_at_the_centre_of_the_canvas():
    drawn = draw_motion(torch.full((8,), 20.0), 4, 64, [], 0.0, Generators.seeded(0, CPU))
    centres = transform_points(drawn.homographies, torch.zeros(1, 2)).flatten(1, 3)
    assert (centres.amax(dim=1) > 5).any()
    torch.testing.assert_close(centres.amax(dim=1), -centres.amin(dim=1), atol=1e-3, rtol=0)


def test_the_shutter_is_open_for_a_part_of_the_interval():
    drawn = draw_motion(torch.full((200,), 4.0), 2, 32, [], 0.0, Generators.seeded(0, CPU))
    samples = drawn.times.shape[2]
    duty = (drawn.times[:, 0, -1] - drawn.times[:, 0, 0]) * samples / (samples - 1)
    assert 0.35 <= float(duty.min()) < 0.38
    assert 0.97 < float(duty.max()) <= 1


@pytest.mark.parametrize("logs", [[], [hand()]])
def test_motion_has_the_wanted_blur(logs):
    random = Generators.seeded(0, CPU)
    wanted = torch.tensor([0.5, 3.0, 10.0, 25.0] * 4)
    drawn = draw_motion(wanted, 4, 96, logs, 1.0, random)
    found = blur_length(drawn.homographies, 96, 96).mean(dim=1)
    torch.testing.assert_close(found, wanted, rtol=0.15, atol=0.1)


def test_a_recorded_hand_turns_and_what_is_made_up_adds_little(monkeypatch):
    """The recorded rotation causes most of the blur, however large the synthetic path is."""
    wanted = torch.full((12,), 10.0)
    made = {}
    for times in (0.0, 1.0, 1e3):
        monkeypatch.setattr(
            motion, "smooth_path", lambda *rest, times=times: times * smooth_path(*rest)
        )
        drawn = draw_motion(wanted, 2, 96, [hand()], 1.0, Generators.seeded(0, CPU))
        made[times] = fit_trails(drawn.homographies, 96, 96)
    torch.testing.assert_close(made[1.0], made[1e3], atol=1e-2, rtol=1e-3)
    assert 0 < float((made[1.0] - made[0.0]).norm() / made[0.0].norm()) < 0.4
