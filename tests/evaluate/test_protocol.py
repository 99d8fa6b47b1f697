"""Protocols differ from each other only in what they state."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from unsmear.errors import ConfigError, InputError
from unsmear.evaluate.metrics import mirrored_ssim, psnr, ssim, volume_ssim
from unsmear.evaluate.protocol import PROTOCOLS, find_protocol, find_protocols

BASE = find_protocol("basicsr2d")


def pair(height=40, width=48):
    sharp = (torch.rand(3, height, width) * 255).round() / 255
    return (sharp + 0.1 * torch.randn(3, height, width)).clamp(0, 1), sharp


def test_every_protocol_has_a_name_of_its_own():
    names = ["basicsr2d", "matlab3d", "cdvd", "estrnn", "estrnn-gopro-ds", "shiftnet"]
    assert [protocol.name for protocol in PROTOCOLS] == names
    with pytest.raises(ConfigError, match=", ".join(names)):
        find_protocol("mine")
    assert [protocol.name for protocol in find_protocols(["all"])] == [*names[:4], "shiftnet"]
    assert find_protocols(["cdvd", "basicsr2d"]) == (find_protocol("cdvd"), BASE)


def test_default_rounds_and_counts_everything():
    restored, sharp = pair()
    quantized = BASE.quantize(restored)
    assert torch.equal((quantized * 255).round() / 255, quantized)
    assert BASE.scores(quantized, sharp) == (psnr(quantized, sharp), ssim(quantized, sharp))
    assert list(BASE.counted(5)) == [0, 1, 2, 3, 4]
    assert BASE.resize(sharp) is sharp


def test_matlab3d_differs_in_ssim_alone():
    protocol = find_protocol("matlab3d")
    restored, sharp = pair()
    assert protocol.scores(restored, sharp)[0] == BASE.scores(restored, sharp)[0]
    assert protocol.scores(restored, sharp)[1] == volume_ssim(restored, sharp)
    assert dataclasses.replace(protocol, ssim="plane", name=BASE.name, summary=BASE.summary) == BASE


def test_cdvd_leaves_out_borders_and_ends():
    protocol = find_protocol("cdvd")
    restored, sharp = pair()
    spoilt = restored.clone()
    spoilt[..., :4, :] = spoilt[..., -4:] = 0
    assert protocol.scores(spoilt, sharp) == protocol.scores(restored, sharp)
    assert BASE.scores(spoilt, sharp) != BASE.scores(restored, sharp)
    spoilt[..., 4, 4] = 0
    assert protocol.scores(spoilt, sharp) != protocol.scores(restored, sharp)
    assert list(protocol.counted(7)) == [2, 3, 4]
    with pytest.raises(InputError, match="4 frames has none left"):
        protocol.counted(4)


def test_estrnn_cuts_down_and_leaves_out_ends():
    protocol = find_protocol("estrnn")
    steps = torch.tensor([-9.0, 0.0, 0.9, 1.0, 1.9, 254.99, 255.0, 260.0]) / 255
    floor = (protocol.quantize(steps) * 255).round().tolist()
    assert floor == [0, 0, 0, 1, 1, 254, 255, 255]
    assert (BASE.quantize(steps) * 255).round().tolist() == [0, 0, 1, 1, 2, 255, 255, 255]
    exact = torch.arange(256) / 255
    torch.testing.assert_close(protocol.quantize(exact), exact)
    assert list(protocol.counted(6)) == [2, 3]
    for own in (torch.rand(3, 480, 640), torch.rand(3, 24, 32)):  # the frame size of BSD is kept
        assert protocol.resize(own) is own


def test_only_its_gopro_is_shrunk():
    protocol = find_protocol("estrnn-gopro-ds")
    base = find_protocol("estrnn")
    assert protocol.size == (960, 540)
    assert dataclasses.replace(protocol, size=None, name=base.name, summary=base.summary) == base
    with pytest.raises(InputError, match="960x540: frames of 1000x500 are too small"):
        protocol.resize(torch.rand(3, 500, 1000))
    assert protocol.resized(960, 540) == (960, 540)  # as GOPRO-DS is distributed


def test_shrinking_weighs_pixels_by_the_area_they_share():
    """1280 to 960: an output pixel covers a whole pixel and a third of the next, or two thirds of
    two.
    """
    protocol = dataclasses.replace(find_protocol("estrnn-gopro-ds"), size=(960, 12))
    frame = torch.rand(3, 16, 1280)
    thirds = torch.tensor([[3, 1, 0, 0], [0, 2, 2, 0], [0, 0, 1, 3]]) / 4
    rows, columns = (torch.block_diag(*[thirds] * (side // 4)) for side in frame.shape[-2:])
    expected = rows @ frame @ columns.T
    torch.testing.assert_close(protocol.resize(frame), expected, atol=1e-6, rtol=0)


def test_shiftnet_rounds_nothing_and_counts_whole_blocks():
    protocol = find_protocol("shiftnet")
    between = torch.tensor([-0.1, 0.4 / 255, 0.5, 1.1])
    assert torch.equal(protocol.quantize(between), between.clamp(0, 1))
    restored, sharp = pair()
    assert protocol.scores(restored, sharp) == (
        psnr(restored, sharp), mirrored_ssim(restored, sharp)
    )  # fmt: skip
    assert protocol.counted(52) == range(2, 50)
    assert protocol.counted(99) == range(2, 50)
    assert protocol.counted(100) == range(2, 98)
    gopro = [100] * 9 + [134, 77]  # lengths of the test sequences
    assert sum(len(protocol.counted(frames)) for frames in gopro) == 1008
    with pytest.raises(InputError, match="blocks of 48: a sequence of 51 frames has none left"):
        protocol.counted(51)
    plain = {"eight_bit": "round", "skip": 0, "block": 1, "ssim": "plane"}
    names = {"name": BASE.name, "summary": BASE.summary}
    assert dataclasses.replace(protocol, **plain, **names) == BASE


def test_frames_too_small_for_ssim_are_named():
    with pytest.raises(InputError, match="11x11"):
        find_protocol("cdvd").scores(*pair(18, 40))
    find_protocol("cdvd").check_size(40, 19)
