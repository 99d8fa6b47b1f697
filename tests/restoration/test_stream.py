"""Streaming gives the numbers of the all-at-once computation, whatever the window and size."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import SMALL, awake
from unsmear.errors import ConfigError
from unsmear.models.network import DeblurNetwork, join_frames, pad_to_multiple
from unsmear.restoration.stream import restore_stream


def all_at_once(network: DeblurNetwork, clip: Tensor, window: int) -> Tensor:
    """Every frame from scratch, with its whole window at hand."""
    frames, _, height, width = clip.shape
    padded = pad_to_multiple(clip, network.config.size_multiple)
    encoded = [network.encode(frame[None]) for frame in padded]
    side = network.config.neighbours
    out = []
    for index in range(frames):
        span = range(max(index - window // 2, 0), min(index + window // 2 + 1, frames))
        descriptors = join_frames([network.squeeze(encoded[i]) for i in span])
        neighbours = [
            encoded[min(max(index + offset, 0), frames - 1)].local
            for offset in range(-side, side + 1)
            if offset
        ]
        restored = network.restore(encoded[index], descriptors, neighbours)
        out.append(restored[0, :, :height, :width].clamp(0, 1))
    return torch.stack(out)


@given(
    frames=st.integers(1, 7),
    height=st.integers(3, 30),
    width=st.integers(3, 30),
    window=st.sampled_from([1, 3, 5, 9]),
    neighbours=st.integers(0, 2),
)
def test_streamed_equals_all_at_once(frames, height, width, window, neighbours):
    network = awake(dataclasses.replace(SMALL, neighbours=neighbours))
    clip = torch.rand(frames, 3, height, width)
    streamed = torch.stack(list(restore_stream(network, clip, window)))
    assert streamed.shape == clip.shape
    torch.testing.assert_close(streamed, all_at_once(network, clip, window), rtol=0, atol=1e-5)


def test_window_over_the_whole_clip_equals_forward(network):
    clip = torch.rand(5, 3, 16, 24)
    streamed = torch.stack(list(restore_stream(network, clip, 9)))
    expected = network(clip[None])[0].clamp(0, 1)
    torch.testing.assert_close(streamed, expected, rtol=0, atol=1e-5)


def test_each_frame_is_encoded_once_and_look_ahead_is_bounded(network, monkeypatch):
    encodings = []
    original = network.encode
    monkeypatch.setattr(network, "encode", lambda x: encodings.append(1) or original(x))
    taken = 0

    def frames():
        nonlocal taken
        for _ in range(20):
            taken += 1
            yield torch.rand(3, 16, 16)

    for done, _ in enumerate(restore_stream(network, frames(), 7), start=1):
        assert taken <= done + 3  # window 7 looks three frames ahead
    assert done == len(encodings) == 20


def test_held_memory_does_not_grow(network):
    """What the stream keeps alive is the same after 30 frames as after 10."""
    import gc

    alive = []
    stream = restore_stream(network, (torch.rand(3, 32, 32) for _ in range(30)), 5)
    for _ in stream:
        gc.collect()
        alive.append(sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()))
    assert max(alive[20:27]) <= max(alive[7:14])


def test_output_is_clamped_and_usable(network):
    out = next(iter(restore_stream(network, [torch.ones(3, 8, 8) * 4], 1)))
    assert out.min() >= 0
    assert out.max() <= 1
    out += 1  # an inference-mode tensor would refuse


def test_no_frames_give_no_frames(network):
    assert list(restore_stream(network, [], 5)) == []


@pytest.mark.parametrize("window", [0, -1, 2, 10])
def test_windows_must_be_odd(network, window):
    with pytest.raises(ConfigError, match="odd"):
        list(restore_stream(network, [torch.rand(3, 8, 8)], window))


def test_sizes_must_agree(network):
    with pytest.raises(ValueError, match="sizes must agree"):
        list(restore_stream(network, [torch.rand(3, 8, 8), torch.rand(3, 8, 16)], 1))
