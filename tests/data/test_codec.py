"""Real video codecs: their options, and deterministic results."""

from __future__ import annotations

import importlib.util

import cv2
import numpy as np
import pytest
import torch

from tests.conftest import picture
from tests.data.conftest import psnr
from unsmear.data.codec import Coding, check_codecs, code_clip, code_clips, draw_codings
from unsmear.data.generators import Generators
from unsmear.errors import ConfigError

CPU = torch.device("cpu")
CODINGS = [Coding("libx264", 24), Coding("mpeg4", 4)]


def panning(frames=4, height=64, width=80):
    image = cv2.GaussianBlur(picture(height, width + 40), (0, 0), 1).astype(np.float32) / 255
    views = [image[:, 2 * index : 2 * index + width].copy() for index in range(frames)]
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("coding", CODINGS, ids=lambda coding: coding.encoder)
@pytest.mark.parametrize("size", [(64, 80), (33, 47)])
def test_frames_come_back_in_order_and_nearly_as_they_were(coding, size):
    clip = panning(5, *size)
    coded = code_clip(clip, coding)
    assert coded.shape == clip.shape
    assert 0 <= coded.min() <= coded.max() <= 1
    own = [psnr(coded[index : index + 1], clip[index : index + 1]) for index in range(5)]
    other = [psnr(coded[index : index + 1], clip[index - 1 : index]) for index in range(1, 5)]
    assert min(own) > 25
    assert min(own[1:]) > max(other)
    assert torch.equal(coded, code_clip(clip, coding))


@pytest.mark.parametrize("encoder", [coding.encoder for coding in CODINGS])
def test_the_coarser_the_more_is_lost(encoder):
    clip = panning()
    fine, coarse = (psnr(code_clip(clip, Coding(encoder, quality)), clip) for quality in (4, 26))
    assert fine > coarse + 3


def test_no_frame_is_coded_whole_and_better_than_the_others():
    """A stream begins with a key frame, which is not among the frames returned."""
    clip = panning(1).repeat(4, 1, 1, 1)
    noisy = (
        clip + 0.05 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))
    ).clamp(0, 1)
    each = (code_clip(noisy, Coding("libx264", 28)) - noisy).square().flatten(1).mean(dim=1)
    assert each[0] > 0.8 * each[1:].mean()


def test_a_single_frame_has_nothing_before_it():
    clip = panning(1)
    assert code_clip(clip, CODINGS[0]).shape == clip.shape


def test_each_clip_has_its_own_coding():
    clips = panning(3).repeat(3, 1, 1, 1, 1)
    coded = code_clips(clips, [None, *CODINGS])
    assert torch.equal(coded[0], clips[0])
    assert torch.equal(coded[1], code_clip(clips[1], CODINGS[0]))
    assert torch.equal(coded[2], code_clip(clips[2], CODINGS[1]))


def test_codings_are_drawn_in_their_shares():
    drawn = draw_codings(4000, 0.5, Generators.of_shard(0, 0, 0, CPU))
    wanted = [coding for coding in drawn if coding is not None]
    assert 0.47 < len(wanted) / 4000 < 0.53
    for encoder, share in (("libx264", 0.75), ("mpeg4", 0.25)):
        of_it = [coding.quality for coding in wanted if coding.encoder == encoder]
        assert abs(len(of_it) / len(wanted) - share) < 0.04
    qualities = {coding.quality for coding in wanted if coding.encoder == "mpeg4"}
    assert qualities == set(range(2, 15))
    assert draw_codings(4000, 0.5, Generators.of_shard(0, 0, 0, CPU), coarse=0.0) == drawn
    rough = draw_codings(4000, 0.5, Generators.of_shard(0, 0, 0, CPU), coarse=0.3)
    coarsest = {"libx264": 34, "mpeg4": 14}
    coarse = [coding for coding in rough if coding and coding.quality > coarsest[coding.encoder]]
    assert 0.26 < len(coarse) / sum(coding is not None for coding in rough) < 0.34
    assert 0.45 < sum(coding.encoder == "mpeg4" for coding in coarse) / len(coarse) < 0.55
    assert {coding.quality for coding in rough if coding and coding.encoder == "mpeg4"} == {
        *range(2, 32)
    }
    assert draw_codings(50, 0.0, Generators.of_shard(0, 0, 0, CPU)) == [None] * 50


def test_without_pyav_the_remedy_is_named(monkeypatch):
    check_codecs()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="--coder-share 0"):
        check_codecs()
