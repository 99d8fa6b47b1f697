from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from tests.conftest import SMALL, awake, one_scene
from unsmear.data.light import round_to_8_bit
from unsmear.data.pairs import find_pairs
from unsmear.errors import InputError
from unsmear.evaluate.metrics import psnr, ssim
from unsmear.evaluate.validation import measure, read_frames, restored_triples
from unsmear.models.network import DeblurNetwork
from unsmear.video.images import integer_from_unit, write_image


@pytest.fixture
def sequences(tmp_path):
    for name in ("one", "two"):
        for side in ("blur", "sharp"):
            (tmp_path / name / side).mkdir(parents=True)
            for index, frame in enumerate(one_scene(3, 16, 24)):
                write_image(tmp_path / name / side / f"{index}.png", integer_from_unit(frame))
    return find_pairs(tmp_path)


def test_a_network_that_does_nothing_scores_what_it_got(sequences):
    for score in measure(DeblurNetwork(SMALL).eval(), sequences, 3, with_ssim=True):
        assert score.frames == 3
        assert score.psnr_after == pytest.approx(score.psnr_before)
        assert score.ssim_after == pytest.approx(score.ssim_before)
        assert score.worst_gain == pytest.approx(0)


def test_scores_are_means_over_rounded_whole_frames(sequences):
    network = awake()
    scores = measure(network, sequences[:1], 5, with_ssim=True)
    blurry, sharp = (side / 255 for side in sequences[0].read())
    restored = [round_to_8_bit(frame) for frame in network(blurry[None])[0]]
    pairs = list(zip(restored, sharp, strict=True))
    assert scores[0].psnr_after == pytest.approx(sum(psnr(a, b) for a, b in pairs) / 3, abs=1e-3)
    assert scores[0].ssim_after == pytest.approx(sum(ssim(a, b) for a, b in pairs) / 3, abs=1e-4)
    assert scores[0].name == "one"
    gains = [psnr(a, b) - psnr(c, b) for (a, b), c in zip(pairs, blurry, strict=True)]
    assert scores[0].worst_gain == pytest.approx(min(gains), abs=1e-3)


def test_frames_equal_to_the_truth_can_only_lose(sequences):
    """Their PSNR is infinite before and after."""
    same = dataclasses.replace(sequences[0], sharp=sequences[0].blurry)
    (score,) = measure(DeblurNetwork(SMALL).eval(), [same], 1, with_ssim=False)
    assert (score.psnr_after, score.worst_gain) == (math.inf, 0)
    network = awake()
    (score,) = measure(network, [same], 1, with_ssim=False)
    assert score.worst_gain == -math.inf
    torch.nn.init.constant_(network.head.bias, math.nan)
    assert math.isnan(measure(network, sequences[:1], 1, with_ssim=False)[0].worst_gain)


def test_frames_are_read_as_they_are_needed(sequences, monkeypatch):
    read = []
    monkeypatch.setattr(
        "unsmear.data.pairs.read_image",
        lambda path: read.append(path) or torch.zeros(3, 4, 4).byte(),
    )
    triples = restored_triples(sequences[0], lambda frames: (frame + 0.1 for frame in frames))
    restored, blurry, sharp = next(triples)
    assert len(read) == 2
    assert float(restored[0, 0, 0]) == pytest.approx(26 / 255)
    assert torch.equal(blurry, sharp)
    assert len(list(triples)) == 2


def test_restoring_in_place_leaves_the_blurry_frames(sequences):
    triples = list(restored_triples(sequences[0], lambda frames: (f.zero_() for f in frames)))
    for (restored, blurry, _), given in zip(triples, read_frames(sequences[0].blurry), strict=True):
        assert not restored.any()
        assert torch.equal(blurry, given)


def test_frames_of_another_size_are_named(sequences):
    write_image(sequences[0].sharp[1], torch.zeros(3, 8, 8).byte())
    with pytest.raises(InputError, match=r"1\.png' is 8x8.*24x16"):
        list(read_frames(sequences[0].sharp))


def test_ssim_only_when_asked(sequences):
    (score,) = measure(DeblurNetwork(SMALL).eval(), sequences[:1], 1, with_ssim=False)
    assert score.ssim_before is None
    assert score.ssim_after is None
