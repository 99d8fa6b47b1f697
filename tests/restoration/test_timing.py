"""The time that the restoration of a clip is expected to take."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.conftest import write_video
from tests.restoration.conftest import write_moments
from unsmear.engines.choice import OpenedModel, open_model
from unsmear.restoration import timing
from unsmear.restoration.stream import restore_stream
from unsmear.restoration.timing import expected_time


@pytest.fixture
def small_model(weights_file) -> OpenedModel:
    return open_model(str(weights_file), "cpu")


def test_time_is_measured_on_frames_of_the_clip(tmp_path, small_model):
    clip = write_moments(tmp_path / "clip.mp4", [False] * 9)
    expected = expected_time(clip, small_model, 1000)
    low, high = expected.per_frame
    assert 0 < low <= high
    assert expected.total == pytest.approx((1000 * low, 1000 * high))
    assert expected_time(clip, small_model, None).total is None
    short = write_video(tmp_path / "short.mp4", frames=1)
    assert expected_time(short, small_model, 1).per_frame[0] > 0


def test_frames_are_timed_at_full_size(tmp_path, small_model, monkeypatch):
    """By a clock that runs a microsecond for each restored pixel."""
    clock = 0.0

    def restoring(*arguments, **options):
        nonlocal clock
        for frame in restore_stream(*arguments, **options):
            clock += 1e-6 * frame[0].numel()
            yield frame

    monkeypatch.setattr(timing, "restore_stream", restoring)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock))
    for width, height, frames in ((64, 48, 8), (96, 64, 8), (64, 48, 1)):
        clip = write_video(tmp_path / f"{width}x{frames}.mp4", frames=frames, size=(width, height))
        expected = expected_time(clip, small_model, 1000)
        assert expected.per_frame == pytest.approx((1e-6 * width * height,) * 2)
        assert expected.total == pytest.approx((1e-3 * width * height,) * 2)
