"""Decoded frames become restored ones, in RGB and in the codec's planes."""

from __future__ import annotations

import itertools
import threading
from fractions import Fraction

import pytest
import torch

from tests.conftest import SMALL, awake, mild, one_scene, write_video
from unsmear.clip import Frame
from unsmear.models.network import DeblurNetwork
from unsmear.restoration import frames as restoration_frames
from unsmear.restoration.frames import restore_frames
from unsmear.video.color import rgb_from_planes
from unsmear.video.reader import VideoReader


@pytest.fixture
def network():
    return mild()


def test_restored_planes_are_the_network_output(tmp_path, network):
    """The encoded values are the decoded frame plus the network's change, within a code value."""
    source = write_video(tmp_path / "in.mkv", codec="ffv1", pixel_format="yuv444p")
    with VideoReader(source) as reader:
        for restored in restore_frames(network, reader, 3):
            # At the ends of the range YUV and RGB clip differently.
            both = torch.cat((restored.rgb, restored.frame.rgb))
            inside = ((both > 0.02) & (both < 0.98)).all(dim=0)
            assert inside.any()
            again = rgb_from_planes(restored.planes)
            assert (again - restored.rgb).abs()[:, inside].max() < 2.5 / 255


def test_a_network_that_changes_nothing_leaves_the_decoded_planes(tmp_path):
    source = write_video(tmp_path / "in.mp4")
    with VideoReader(source) as reader:
        for restored in restore_frames(DeblurNetwork(SMALL).eval(), reader, 5):
            for name in ("y", "u", "v"):
                before, after = getattr(restored.frame.planes, name), getattr(restored.planes, name)
                assert torch.equal(before, after)


def test_a_frame_that_cannot_be_right_is_given_as_it_was_decoded():
    clip = [Frame(rgb=rgb, pts=Fraction(number)) for number, rgb in enumerate(one_scene(2, 16, 24))]
    restored = list(restore_frames(awake(), clip, 1, strength=0.5))  # changes too much
    assert [one.plausible for one in restored] == [False, False]
    for one, frame in zip(restored, clip, strict=True):
        assert torch.equal(one.rgb, frame.rgb)


def test_where_the_network_fails_the_decoder_has_ended_when_that_is_told(monkeypatch):
    """Otherwise the caller would close a file that another thread is still reading."""
    ended = []

    def decoded():
        try:
            for number in itertools.count():
                yield Frame(rgb=torch.rand(3, 8, 8), pts=Fraction(number))
        finally:
            ended.append(threading.current_thread().name)

    def failing(_model, pictures, *_, **__):
        yield next(pictures)
        next(pictures)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(restoration_frames, "restore_stream", failing)
    error = None
    try:
        list(restoration_frames.restore_frames(None, decoded(), 3))
    except RuntimeError as failed:  # keep its traceback alive, as callers may do
        error = failed
        assert len(ended) == 1
        assert not [one for one in threading.enumerate() if one.name.startswith("unsmear-prefetch")]
    assert "out of memory" in str(error)
