"""Turned clips: both sides alike, and their trails with them."""

from __future__ import annotations

import pytest
import torch

from tests.data.conftest import shaking
from unsmear.data.clips import (
    Clips,
    Turn,
    shuffle_clips,
    turn_clips,
    turn_frames,
    turn_trails,
    unknown_clips,
)
from unsmear.data.generators import Generators
from unsmear.data.render import pixel_axes
from unsmear.data.trails import Trails, fit_trails, unknown_trails

CPU = torch.device("cpu")
TURNS = [Turn(k, m, r) for k in range(4) for m in (False, True) for r in (False, True)]


def test_turns_treat_both_sides_alike():
    clip = torch.rand(6, 3, 3, 8, 8)
    blurry, sharp, *_ = turn_clips(unknown_clips(clip, clip.clone()), Generators.seeded(0, CPU))
    assert torch.equal(blurry, sharp)
    assert not torch.equal(blurry, clip)
    torch.testing.assert_close(blurry.sum(dim=(1, 2, 3, 4)), clip.sum(dim=(1, 2, 3, 4)))


@pytest.mark.parametrize("turn", TURNS)
def test_turned_trails_are_those_of_the_turned_camera(turn):
    """A turned frame is what a turned camera sees: turned coordinates show where each of its pixels
    came from. Reversed in time, frames and sub-frames come in reverse order.
    """
    size, homographies = 48, shaking()
    y, x = pixel_axes(size, size)
    places = torch.stack((x.expand(size, size), y[:, None].expand(size, size)))[None, None]
    places = turn_frames(places, [turn])[0, 0]  # (2, H, W): pixels of the original frame
    camera = torch.eye(3)
    camera[:2, 0] = places[:, 0, 1] - places[:, 0, 0]
    camera[:2, 1] = places[:, 1, 0] - places[:, 0, 0]
    turned = homographies @ camera
    if turn.reversed:
        turned = turned.flip(1, 2)
    expected = fit_trails(turned, size, size)
    vectors = fit_trails(homographies, size, size)
    known = torch.rand_like(vectors[:, :, :1])
    trails = turn_trails(Trails(vectors, known), [turn, turn])
    torch.testing.assert_close(trails.vectors, expected, atol=2e-3, rtol=1e-3)
    assert torch.equal(trails.known, turn_frames(known, [turn, turn]))


def test_unknown_clips_stay_unknown_when_turned():
    clip = torch.rand(2, 3, 3, 20, 20)
    turned = turn_clips(unknown_clips(clip, clip), Generators.seeded(0, CPU))
    assert turned.trails.known.shape == unknown_trails(clip).known.shape == (2, 3, 1, 3, 3)
    assert not torch.cat([part.flatten() for part in turned.trails]).any()
    assert [tensor.shape for tensor in turned.tensors[:2]] == [clip.shape] * 2


def test_shuffled_clips_keep_their_sharp_frames_and_trails():
    number = torch.arange(8.0).view(8, 1, 1, 1, 1)
    shuffled = shuffle_clips(
        Clips(number, number + 10, Trails(number + 20, number + 30)), Generators.seeded(0, CPU)
    )
    order, *others = (part.flatten() for part in shuffled.tensors)
    assert order.tolist() != sorted(order.tolist()) == list(range(8))
    assert [(part - order).tolist() for part in others] == [[10] * 8, [20] * 8, [30] * 8]
