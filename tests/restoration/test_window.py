"""Moving sums equal eq. 3-4 computed directly over each window."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unsmear.models.attention import temporal_squeeze, temporal_sum
from unsmear.restoration.window import WindowSums, contexts_of, merge

B, M, N, C = 2, 3, 2, 4


def parts(descriptors, logits):
    """The sum of each single frame."""
    return [
        (temporal_sum(descriptors[:, t : t + 1], logits[..., t : t + 1]),)
        for t in range(descriptors.shape[1])
    ]


def windows(frames, window, first=0):
    """The sum of each full or growing window, in a run that begins at `first`."""
    sums = WindowSums(first)
    for number in range(first, len(frames)):
        sums.push(frames[number])
        start = max(number + 1 - window, first)
        sums.forget(start)
        yield start, sums.total(start, number + 1)


@given(st.integers(1, 40), st.integers(1, 15), st.sampled_from([1.0, 30.0, 1000.0]))
def test_any_window_equals_the_direct_softmax(frames, window, scale):
    """Even if logits differ by hundreds, where prefix sums would lose all digits."""
    descriptors = torch.randn(B, frames, M, C)
    logits = torch.randn(B, N, frames) * scale
    for t, (start, total) in enumerate(windows(parts(descriptors, logits), window)):
        direct = temporal_squeeze(descriptors[:, start : t + 1], logits[..., start : t + 1])
        (context,) = contexts_of(total)
        torch.testing.assert_close(context, direct.flatten(1, 2), rtol=0, atol=1e-5)


@given(st.integers(1, 20), st.integers(0, 40), st.integers(1, 20))
def test_a_sum_does_not_depend_on_where_work_began(window, first, full):
    """Bit for bit: a resumed run must equal an uninterrupted one."""
    frames = first + window - 1 + full  # `full` windows are full after `first`
    pieces = parts(torch.randn(B, frames, M, C), torch.randn(B, N, frames) * 30)
    whole, compared = list(windows(pieces, window))[first:], 0
    for (start, total), (begin, again) in zip(whole, windows(pieces, window, first), strict=True):
        if start == begin:
            compared += 1
            assert all(
                torch.equal(one, other)
                for level, other_level in zip(total, again, strict=True)
                for one, other in zip(level, other_level, strict=True)
            )
    assert compared == (full if first else frames)


def test_a_frame_is_merged_a_bounded_number_of_times(monkeypatch):
    from unsmear.restoration import window

    merges = []
    monkeypatch.setattr(window, "merge", lambda a, b: merges.append(1) or merge(a, b))
    frame = parts(torch.randn(1, 1, M, C), torch.randn(1, N, 1))[0]
    for length in (3, 301):
        merges.clear()
        sums = WindowSums()
        for number in range(2000):
            sums.push(frame)
            start = max(number + 1 - length, 0)
            sums.forget(start)
            sums.total(start, number + 1)
        assert len(merges) <= 2 * (1 + length).bit_length() * 2000
        assert len(sums._blocks) <= 2 * length + 2 * length.bit_length()


def test_frames_that_are_not_there_have_no_sum():
    sums = WindowSums(5)
    with pytest.raises(IndexError):
        sums.total(5, 5)
    sums.push(parts(torch.randn(1, 1, M, C), torch.randn(1, N, 1))[0])
    sums.total(5, 6)
    for start, end in ((4, 6), (5, 7), (6, 6)):
        with pytest.raises(IndexError):
            sums.total(start, end)
    sums.forget(6)
    with pytest.raises(IndexError):
        sums.total(5, 6)
