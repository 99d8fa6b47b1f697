from __future__ import annotations

import pytest

from tests.conftest import SMALL, awake, one_scene
from unsmear.data.light import round_to_8_bit
from unsmear.data.pairs import find_pairs
from unsmear.evaluate.metrics import psnr, ssim
from unsmear.evaluate.validation import measure
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


def test_ssim_only_when_asked(sequences):
    (score,) = measure(DeblurNetwork(SMALL).eval(), sequences[:1], 1, with_ssim=False)
    assert score.ssim_before is None
    assert score.ssim_after is None
