from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unsmear.data.generators import Generators
from unsmear.data.light import (
    ResponseCurves,
    draw_curves,
    draw_exposures,
    encode_light,
    linear_from_srgb,
    linear_light,
    round_to_8_bit,
    srgb_from_linear,
)


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


def curves(gamma, contrast, other=True):
    return ResponseCurves(*(torch.tensor([value]) for value in (other, gamma, contrast)))


GAMMAS, CONTRASTS = st.floats(1.8, 2.6), st.floats(1.0, 1.35)


@given(GAMMAS, CONTRASTS)
def test_light_goes_through_a_curve_there_and_back(gamma, contrast):
    encoded = torch.linspace(0, 1, 1001)[None]
    curve = curves(gamma, contrast)
    linear = linear_light(encoded, curve)
    torch.testing.assert_close(encode_light(linear, curve), encoded, rtol=0, atol=1e-4)
    assert (linear.min(), linear.max()) == (0, 1)


@given(GAMMAS, CONTRASTS)
def test_more_light_is_never_encoded_as_less_and_the_sensor_saturates(gamma, contrast):
    light = torch.linspace(-0.5, 3, 3501)[None]
    encoded = encode_light(light, curves(gamma, contrast))[0]
    assert (encoded.diff() >= 0).all()
    assert ((encoded >= 0) & (encoded <= 1)).all()
    assert (encoded[light[0] <= 0] == 0).all()
    assert (encoded[light[0] >= 1] == 1).all()


def test_a_gamma_is_a_power_and_contrast_draws_apart():
    light = torch.tensor([[0.02, 0.25, 0.9]])
    torch.testing.assert_close(encode_light(light, curves(2.0, 1.0)), light.sqrt())
    bent = encode_light(light, curves(2.0, 1.3))
    assert bent[0, 0] < light[0, 0].sqrt()
    assert bent[0, 1] == pytest.approx(0.5)
    assert bent[0, 2] > light[0, 2].sqrt()


def test_each_clip_has_its_curve_and_srgb_stays_srgb_to_the_bit():
    light = torch.rand(3, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    mixed = ResponseCurves(
        torch.tensor([True, False, True]), torch.tensor([2.0, 2.2, 2.5]), torch.ones(3)
    )
    encoded = encode_light(light, mixed)
    assert torch.equal(encoded[1], srgb_from_linear(light)[1])
    assert torch.equal(linear_light(encoded, mixed)[1], linear_from_srgb(encoded)[1])
    torch.testing.assert_close(encoded[0], light[0].sqrt())
    torch.testing.assert_close(encode_light(light[2:], mixed.of([2])), encoded[2:])
    usual = draw_curves(3, 0, Generators.seeded(0, torch.device("cpu")))
    assert torch.equal(encode_light(light, usual), srgb_from_linear(light))
    assert torch.equal(linear_light(light, usual), linear_from_srgb(light))


def test_curves_that_are_drawn_keep_within_their_limits():
    drawn = draw_curves(4000, 0.25, Generators.seeded(0, torch.device("cpu")))
    assert 0.22 < drawn.other.float().mean() < 0.28
    assert 1.8 <= drawn.gamma.min() < 1.82
    assert 2.58 < drawn.gamma.max() <= 2.6
    assert 0.45 < (drawn.contrast == 1).float().mean() < 0.55
    assert 1.34 < drawn.contrast.max() <= 1.35
    assert drawn.contrast.min() >= 1


def test_exposures_are_drawn_in_their_shares():
    def drawn(share):
        random = Generators.seeded(0, torch.device("cpu"))
        return draw_exposures(4000, share, random), random.uniform(0, 1)

    usual, after = drawn(0.0)
    assert float(usual.min()) >= 0.45
    assert float(usual.max()) <= 1.2
    # On a logarithmic scale, half lie below the middle.
    assert float((usual < (0.45 * 1.2) ** 0.5).double().mean()) == pytest.approx(0.5, abs=0.03)
    some, _ = drawn(0.25)
    assert float((some > 1.2).double().mean()) == pytest.approx(0.25, abs=0.03)
    assert 2.9 < float(some.max()) <= 3.0
    assert float(some[some > 1.2].min()) < 1.22
    assert torch.equal(some[some <= 1.2], usual[some <= 1.2])
    random = Generators.seeded(0, torch.device("cpu"))
    random.uniform(0, 1, 4000)
    assert random.uniform(0, 1) == after  # with share 0, no further numbers are drawn
