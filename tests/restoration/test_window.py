"""Sums that slide equal eq. 3-4 over each window, computed afresh."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unsmear.models.attention import temporal_squeeze, temporal_sum
from unsmear.restoration.window import SlidingSum, contexts_of, merge

B, M, N, C = 2, 3, 2, 4


def parts(descriptors, logits):
    """The sums of each frame on its own."""
    return [
        (temporal_sum(descriptors[:, t : t + 1], logits[..., t : t + 1]),)
        for t in range(descriptors.shape[1])
    ]


@given(st.integers(1, 40), st.integers(1, 15), st.sampled_from([1.0, 30.0, 1000.0]))
def test_any_window_equals_the_direct_softmax(frames, window, scale):
    """Also where logits differ by hundreds, at which prefix sums lose all digits."""
    descriptors = torch.randn(B, frames, M, C)
    logits = torch.randn(B, N, frames) * scale
    sliding = SlidingSum()
    for t, frame in enumerate(parts(descriptors, logits)):
        sliding.push(frame)
        if len(sliding) > window:
            sliding.pop()
        first = max(t + 1 - window, 0)
        direct = temporal_squeeze(descriptors[:, first : t + 1], logits[..., first : t + 1])
        (context,) = contexts_of(sliding.total())
        torch.testing.assert_close(context, direct.flatten(1, 2), rtol=0, atol=1e-5)


@given(st.lists(st.booleans(), max_size=60))
def test_pushes_and_pops_in_any_order(pushes):
    frames = parts(torch.randn(B, 60, M, C), torch.randn(B, N, 60))
    sliding, first, last = SlidingSum(), 0, 0
    for push in pushes:
        if push:
            sliding.push(frames[last])
            last += 1
        elif first < last:
            sliding.pop()
            first += 1
        assert len(sliding) == last - first
        if last > first:
            expected = frames[first]
            for frame in frames[first + 1 : last]:
                expected = merge(expected, frame)
            torch.testing.assert_close(
                contexts_of(sliding.total()), contexts_of(expected), rtol=0, atol=1e-5
            )


def test_a_frame_is_merged_a_bounded_number_of_times(monkeypatch):
    from unsmear.restoration import window

    merges = []
    monkeypatch.setattr(window, "merge", lambda a, b: merges.append(1) or merge(a, b))
    frame = parts(torch.randn(1, 1, M, C), torch.randn(1, N, 1))[0]
    for length in (3, 301):
        merges.clear()
        sliding = SlidingSum()
        for _ in range(2000):
            sliding.push(frame)
            if len(sliding) > length:
                sliding.pop()
            sliding.total()
        assert len(merges) <= 3 * 2000


def test_an_empty_window_has_no_sum():
    with pytest.raises(IndexError):
        SlidingSum().total()
    with pytest.raises(IndexError):
        SlidingSum().pop()
