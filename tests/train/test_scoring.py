"""What networks of any kind are measured on."""

from __future__ import annotations

import dataclasses
import math
from statistics import fmean

import pytest
import torch

from tests.conftest import SMALL, awake, one_scene
from unsmear.data.pairs import PairedSequence
from unsmear.errors import ConfigError
from unsmear.evaluate.metrics import ssim
from unsmear.models.baseline import RecurrentConfig, RecurrentNetwork
from unsmear.models.fusion import FusionConfig, FusionNetwork
from unsmear.restoration.stream import restore_stream
from unsmear.train.scoring import Scorer, gains, restored_frames
from unsmear.video.images import integer_from_unit, unit_from_integer, write_image

CPU = torch.device("cpu")
BACKBONE = dataclasses.replace(SMALL, attention_levels=(), neighbours=0)


def small(name):
    return FusionConfig(fusion=name, backbone=BACKBONE, hidden=4, window=3)


def test_gains_are_those_of_blurred_frames_alone():
    sharp = torch.rand(1, 2, 3, 8, 8)
    error = torch.tensor([0.1, 0.001])[:, None, None, None]  # 20 dB and 60 dB
    (gain,) = gains(sharp * 0 + 0.5 + error / 10, 0.5 + error + 0 * sharp, 0.5 + 0 * sharp)
    assert gain == pytest.approx(20, abs=1e-3)
    white = torch.full((1, 1, 3, 8, 8), 0.99)
    assert gains(white + 7, white - 0.1, white) == [pytest.approx(20, abs=1e-2)]  # clipped to 1


class Helped(torch.nn.Module):
    """Brightens frames of 0.7 to 0.9, but only among neighbours."""

    def forward(self, clips):
        return clips * 0.9 / 0.7 if clips.shape[1] > 1 else clips

    def encode(self, clip):
        return None

    def restore(self, clip, features, frame):
        return clip[:, frame]


def test_scores_count_frames_and_gains(tmp_path):
    sides = []
    for name, value in (("blur", 0.4), ("sharp", 0.5)):
        (tmp_path / name).mkdir()
        for index in range(3):
            frame = torch.full((3, 16, 16), value + 0.01 * index * (name == "blur"))
            write_image(tmp_path / name / f"{index}.png", integer_from_unit(frame))
        sides.append(tuple(sorted((tmp_path / name).iterdir())))
    sequences = [PairedSequence("a", *sides)]
    sharp = torch.rand(1, 3, 3, 16, 16)
    scorer = Scorer(sequences, [(sharp * 0.7, sharp), (sharp * 0.999, sharp)], 2, CPU)
    blurry = scorer.score(None)
    assert blurry.fresh == 0
    assert blurry.sequences == {"a": pytest.approx(blurry.psnr)}
    frames, targets = map(unit_from_integer, sequences[0].read())
    every_other = [float(ssim(frames[index], targets[index])) for index in (0, 2)]
    assert blurry.ssim == pytest.approx(fmean(every_other), abs=1e-6)
    assert blurry.psnr == pytest.approx(20.9, abs=0.5)
    # Untrained networks return their input.
    untrained = scorer.score(FusionNetwork(small("flow")))
    assert untrained.psnr == pytest.approx(blurry.psnr, abs=1e-4)
    assert untrained.ssim == pytest.approx(blurry.ssim, abs=1e-6)
    assert untrained.fresh == pytest.approx(0, abs=1e-4)
    for name, matter in (("none", False), ("concat", True)):
        network = FusionNetwork(small(name))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        assert (abs(scorer.score(network).neighbours) > 1e-3) == matter
    helped = scorer.score(Helped())
    assert helped.fresh == helped.neighbours == pytest.approx(20 * math.log10(0.3 / 0.1), abs=1e-3)


def test_nothing_to_take_a_mean_of_is_refused():
    sharp = torch.rand(1, 2, 3, 16, 16)
    pair, blurred = PairedSequence("a", (), ()), (sharp * 0.7, sharp)
    for sequences, fresh, every, told in (
        ([], [blurred], 1, "no paired sequences"),
        ([pair], [(sharp, sharp)], 1, "none of 1 fresh batches"),
        ([pair], [], 1, "none of 0 fresh batches"),
        ([pair], [blurred], 0, "ssim_every is 0"),
    ):
        with pytest.raises(ConfigError, match=told):
            Scorer(sequences, fresh, every, CPU)


@pytest.mark.parametrize(
    "network",
    [
        awake(SMALL),
        FusionNetwork(small("flow")),
        RecurrentNetwork(RecurrentConfig(width=4, blocks=1)),
    ],
    ids=["zoo", "fusion", "recurrent"],
)
def test_frames_one_by_one_are_those_of_the_whole_clip(network):
    """For three frames, a window of five holds all of them."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    clip = one_scene(3, 24, 32)[None]
    with torch.no_grad():
        frames = torch.stack(list(restored_frames(network, clip[0], 5, CPU)))
        whole = network(clip)[0].clamp(0, 1)  # as a stream gives them
        torch.testing.assert_close(frames.clamp(0, 1), whole, rtol=1e-4, atol=1e-4)
    assert torch.equal(torch.stack(list(restored_frames(None, clip[0], None, CPU))), clip[0])


def test_a_network_of_the_zoo_sees_the_window_that_it_is_given():
    network, clip = awake(SMALL), one_scene(5, 16, 16)
    found = {w: torch.stack(list(restored_frames(network, clip, w, CPU))) for w in (1, 3, 5)}
    for window, frames in found.items():
        wanted = torch.stack(list(restore_stream(network, clip, window)))
        assert torch.equal(frames, wanted)
    assert not torch.equal(found[1], found[3])
    assert not torch.equal(found[3], found[5])
    with pytest.raises(ConfigError, match="window is None"):
        next(restored_frames(network, clip, None, CPU))
