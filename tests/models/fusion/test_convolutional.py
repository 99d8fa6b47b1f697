"""No fusion, concatenation, 3-D convolutions and recurrence against naive computations."""

from __future__ import annotations

import torch
from torch.nn import functional

from tests.models.fusion.conftest import awake, close
from unsmear.models.fusion.convolutional import (
    ConcatFusion,
    Conv3dFusion,
    NoFusion,
    RecurrentFusion,
)


def test_none_is_the_current_frame():
    features = torch.rand(1, 3, 4, 5, 5)
    assert torch.equal(NoFusion().fuse(features, 1), features[:, 1])


def test_concat_is_one_convolution_a_frame():
    fusion = awake(ConcatFusion(4, frames=3))
    features = torch.rand(2, 3, 4, 5, 6)
    expected = features[:, 1] + fusion.mix.bias[:, None, None]
    for t, weight in enumerate(fusion.mix.weight.split(4, dim=1)):
        expected = expected + functional.conv2d(features[:, t], weight, padding=1)
    close(fusion.fuse(features, 1), expected)


def test_conv3d_is_a_sum_of_plane_convolutions():
    fusion = awake(Conv3dFusion(4, frames=3, hidden=5))
    features = torch.rand(1, 3, 4, 5, 6)
    (layer,) = fusion.layers
    expected = features[:, 1] + layer.bias[:, None, None]
    for t in range(3):
        expected = expected + functional.conv2d(features[:, t], layer.weight[:, :, t], padding=1)
    close(fusion.fuse(features, 1), expected)
    assert len(Conv3dFusion(4, frames=7, hidden=5).layers) == 3


def test_recurrence_streams():
    """Frame by frame with a carried state equals computing from each frame's whole past."""
    fusion = awake(RecurrentFusion(4, hidden=3))
    features = torch.rand(2, 5, 4, 6, 7)
    state = fusion.start(features[:, 0])
    for t in range(5):
        state = fusion.step(features[:, t], state)
        close(fusion.give(features[:, t], state), fusion.fuse(features[:, : t + 1], t))


def test_recurrence_is_causal_and_bounded():
    fusion = awake(RecurrentFusion(4, hidden=3))
    features = torch.rand(1, 5, 4, 6, 7)
    later = features.clone()
    later[:, 3:] += 1
    assert torch.equal(fusion.fuse(features, 2), fusion.fuse(later, 2))
    state = fusion.start(features[:, 0])
    for _ in range(200):
        state = fusion.step(100 * features[:, 0], state)
    assert state.abs().max() <= 1


def test_iterations_are_the_cell_applied_again():
    twice = awake(RecurrentFusion(4, hidden=3, iterations=2))
    once = RecurrentFusion(4, hidden=3, iterations=1)
    once.load_state_dict(twice.state_dict())
    frame = torch.rand(1, 4, 6, 7)
    state = twice.start(frame)
    assert torch.equal(twice.step(frame, state), once.step(frame, once.step(frame, state)))
