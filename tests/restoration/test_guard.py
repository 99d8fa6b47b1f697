"""The guard accepts deblurring and detects broken frames."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from tests.conftest import awake, picture
from unsmear.models.zoo import load_model
from unsmear.restoration.guard import implausibility, measure_change
from unsmear.restoration.stream import restore_stream


def scene(height: int = 100, width: int = 170) -> torch.Tensor:
    image = torch.from_numpy(picture(height, width)).permute(2, 0, 1).float() / 255
    return (image + 0.05 * torch.rand(1, height, width)).clamp(0, 1)


def blurred(sharp: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(sharp[None], (1, 9), 1, (0, 4), count_include_pad=False)[0]


def test_an_unchanged_and_a_perfectly_deblurred_frame_pass():
    sharp = scene()
    for before in (sharp, blurred(sharp)):
        assert implausibility(before, sharp) is None
    barred = sharp.clone()
    barred[:, :30] = 0  # a letterbox is no clipping
    assert implausibility(barred, barred) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("at", [(0, 0, 0), (2, 99, 169), (1, 63, 32)])
def test_one_number_that_is_not_finite_is_enough(value, at):
    before = scene()
    after = before.clone()
    after[at] = value
    assert "not finite" in implausibility(before, after)


def mosaic(frame: torch.Tensor) -> torch.Tensor:
    after = frame.clone()
    after[0, 32:64, 32:64] = 1 - after[0, 32:64, 32:64].round()
    after[1, 32:64, 32:64] *= 0.3
    return after


def ringing(frame: torch.Tensor) -> torch.Tensor:
    after = frame.clone()
    waves = torch.arange(frame.shape[-1]) % 2 * 2.0 - 1
    return (0.5 * after + 0.25 + waves).clamp(0, 1)


def every_second_row_black(frame: torch.Tensor, first: int) -> torch.Tensor:
    after = frame.clone()
    after[:, first::2] = 0
    return after


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (mosaic, "colour"),
        (lambda frame: frame.flip(0), "colour"),
        (lambda frame: frame + torch.tensor([0.05, 0, -0.05])[:, None, None], "frame changed col"),
        (lambda frame: (frame + 0.5).clamp(0, 1), "brightness"),
        (lambda frame: frame * 0.2, "brightness"),
        (ringing, "detail"),
        (lambda frame: torch.rand_like(frame), ""),
        (lambda frame: every_second_row_black(frame, 0), ""),
        (lambda frame: every_second_row_black(frame, 1), ""),
    ],
)
def test_spoiled_frames_are_noticed_with_a_reason(spoil, word):
    before = 0.4 + 0.2 * scene() if spoil is ringing else scene()
    assert word in implausibility(before, spoil(before))


def test_detail_driven_into_black_and_white_is_noticed():
    generator = torch.Generator().manual_seed(0)
    grey = torch.rand(1, 96, 128, generator=generator).expand(3, -1, -1)
    assert "black or white" in implausibility(grey, ((grey - 0.5) * 3 + 0.5).clamp(0, 1))
    assert not implausibility(grey, ((grey - 0.5) * 1.05 + 0.5).clamp(0, 1))


@pytest.mark.parametrize("size", [(16, 20), (33, 64), (129, 31), (300, 300)])
def test_any_size_will_do_and_measures_agree_with_a_plain_computation(size):
    before = torch.rand(3, *size)
    after = before + 0.01 * torch.randn_like(before)
    change = measure_change(before, after)
    assert change is not None
    with torch.autocast("cpu", torch.bfloat16):
        assert measure_change(before, after) == change
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    means = [
        float((weights * (after - before))[:, y : y + 33 : 3, x : x + 33].sum(0).mean())
        for y in range(0, size[0], 33)
        for x in range(0, size[1], 33)
    ]
    assert change.brightness == pytest.approx(max(map(abs, means)), rel=1e-3)
    assert not implausibility(before, after)


@pytest.mark.parametrize("name", ["lite", "core", "plus"])
def test_released_weights_pass_and_broken_ones_do_not(name):
    model = load_model(name)
    frames = [blurred(scene(96, 160)) for _ in range(3)]
    for before, after in zip(frames, restore_stream(model.network, frames, 3), strict=True):
        assert not implausibility(before, after)
    torch.manual_seed(1)
    broken = copy.deepcopy(model.network)
    with torch.no_grad():
        broken.head.weight.mul_(100)
    for network in (broken, awake(model.network.config)):
        for before, after in zip(frames, restore_stream(network, frames, 3), strict=True):
            assert implausibility(before, after)


def test_frames_of_two_sizes_are_a_mistake():
    with pytest.raises(ValueError, match="must agree"):
        implausibility(torch.rand(3, 8, 8), torch.rand(3, 8, 9))
