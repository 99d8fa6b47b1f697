from __future__ import annotations

import pytest
import torch

from unsmear.data.light import linear_from_srgb, round_to_8_bit, srgb_from_linear


def test_there_and_back():
    encoded = torch.linspace(0, 1, 1001)
    torch.testing.assert_close(
        srgb_from_linear(linear_from_srgb(encoded)), encoded, rtol=0, atol=1e-5
    )


def test_known_points_of_the_standard():
    linear = linear_from_srgb(torch.tensor([0.0, 0.04045, 0.5, 1.0]))
    torch.testing.assert_close(
        linear, torch.tensor([0.0, 0.0031308, 0.2140411, 1.0]), atol=1e-6, rtol=0
    )


def test_sensor_saturates():
    assert srgb_from_linear(torch.tensor([-1.0, 7.0])).tolist() == pytest.approx([0.0, 1.0])


def test_rounding_gives_8_bit_steps():
    values = round_to_8_bit(torch.rand(1000) * 1.4 - 0.2) * 255
    torch.testing.assert_close(values, values.round(), atol=1e-4, rtol=0)
    assert values.min() >= 0
    assert values.max() <= 255
