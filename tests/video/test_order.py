"""Decoding times of packets, which in MP4 decide how long the last frames are shown."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from tests.conftest import write_video
from tests.video.conftest import DURATIONS, lasting, length_of, rewrite
from unsmear.video.reader import VideoReader


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "webm"])
def test_every_frame_is_shown_as_long_as_it_was(tmp_path, container):
    """Only its duration ends the last frame, and H.264 decodes another frame last."""
    source, target = lasting(tmp_path / "in.mp4", DURATIONS), tmp_path / f"out.{container}"
    shown = [frame.duration * 1000 for frame in rewrite(source, target)]
    assert shown == DURATIONS
    assert length_of(target) == length_of(source) == Fraction(sum(DURATIONS), 1000)
    with VideoReader(target) as reader:
        assert [frame.duration * 1000 for frame in reader] == DURATIONS


def test_a_gap_before_the_last_frames_makes_nothing_longer(tmp_path):
    """In MP4, with frames that are decoded in another order than they are shown."""
    pts = [*range(0, 20_000, 1000), 300_000, 301_000]
    source, target = write_video(tmp_path / "in.mp4", pts=pts), tmp_path / "out.mp4"
    rewrite(source, target)
    assert abs(length_of(target) - Fraction(302_001, 30_000)) < Fraction(1, 500)
    with av.open(str(target)) as container:  # likewise where a player adds up its packets
        first, *_, last = (packet for packet in container.demux(video=0) if packet.size)
    total = (last.dts + last.duration - first.dts) * last.time_base
    assert total == Fraction(302_001, 30_000)
