"""Measurements of a camera recover what was done to the image, within their accuracy."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.restoration.test_sharpness import dead_leaves, smeared
from unsmear.data.degrade import compress
from unsmear.data.light import round_to_8_bit
from unsmear.evaluate.camera import (
    CROP,
    MEASURES,
    CameraMeasures,
    CameraRecord,
    Spread,
    blocking,
    camera_lines,
    measure_camera,
    noise_level,
    pieces_of,
    spreads,
)
from unsmear.evaluate.origin import origin_of
from unsmear.evaluate.records import record_as_json, record_from_json
from unsmear.restoration.sharpness import luma_of

EVEN = torch.full((3, CROP, CROP), 0.4)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_noise(picture: torch.Tensor, sigma: float, seed: int = 0) -> torch.Tensor:
    """Add 8-bit noise of standard deviation sigma, equal in all channels."""
    noise = torch.randn(picture.shape[-2:], generator=seeded(seed)) * sigma / 255
    return round_to_8_bit((picture + noise).clamp(0, 1))


def level(picture: torch.Tensor) -> float:
    luma = luma_of(picture)
    found = noise_level(luma, luma)
    assert found is not None
    return found


@given(sigma=st.floats(0.7, 12), light=st.floats(0.25, 0.75), slope=st.floats(-0.2, 0.2))
def test_noise_of_even_pictures_is_found(sigma, light, slope):
    ramp = torch.linspace(-0.5, 0.5, CROP) * slope
    assert level(with_noise(EVEN - 0.4 + light + ramp, sigma)) == pytest.approx(sigma, rel=0.2)


@pytest.mark.parametrize("sigma", [0, 1, 2, 4, 8])
@pytest.mark.parametrize("seed", [0, 5])
def test_texture_passes_for_a_little_noise(sigma, seed):
    picture = smeared(dead_leaves(seed, CROP), 4, 30)
    assert 0.85 * sigma <= level(with_noise(picture, sigma)) <= 1.1 * sigma + 0.7


def test_noise_is_that_of_the_areas_where_it_is_not_cut_off():
    picture = torch.zeros(3, CROP, CROP)
    picture[:, :, CROP // 2 :] = 0.5
    assert level(with_noise(picture, 3)) == pytest.approx(3, rel=0.2)
    assert level(with_noise(1 - picture, 3)) == pytest.approx(3, rel=0.2)
    for flat in (0.0, 1.0):
        even = torch.full((CROP, CROP), flat)
        assert noise_level(even, even) is None
        assert measure_camera(even.expand(3, -1, -1), EVEN).color_noise is None


def test_grey_noise_has_no_colour_and_independent_noise_has():
    grey = measure_camera(with_noise(EVEN, 4), EVEN)
    assert grey.color_noise == pytest.approx(0, abs=1e-3)
    noise = torch.randn(EVEN.shape, generator=seeded(1)) * 4 / 255
    colored = measure_camera(EVEN + noise, EVEN)
    # Luma keeps 0.67 of independent noise, the colour differences 0.62 and 0.66.
    assert colored.noise == pytest.approx(0.67 * 4, rel=0.2)
    assert colored.color_noise == pytest.approx(0.64 * 4, rel=0.2)
    bluish = EVEN.clone()
    bluish[2] += noise[2]  # the differences have 0.50 and 0.08 of it
    assert measure_camera(bluish, EVEN).color_noise == pytest.approx(0.29 * 4, rel=0.2)
    halved = compress((EVEN + noise)[None, None], torch.tensor([100.0]))[0, 0]
    assert measure_camera(halved, EVEN).color_noise < 0.3 * colored.color_noise


@pytest.mark.parametrize("length", [0.5, 6])
@pytest.mark.parametrize("seed", [0, 5])
def test_blocking_rises_as_quality_falls(length, seed):
    clean = with_noise(smeared(dead_leaves(seed, CROP), length), 1)
    found = [blocking(luma_of(clean))]
    for quality in (90, 60, 30, 10):
        coded = compress(clean[None, None], torch.tensor([float(quality)]))[0, 0]
        found.append(blocking(luma_of(round_to_8_bit(coded.clamp(0, 1)))))
    assert found[0] == pytest.approx(1, abs=0.12)
    assert found[1:] == sorted(found[1:])
    assert found[3] > found[0] + 0.1
    assert found[-1] > found[0] + 0.5


def test_blocks_are_found_on_both_axes_and_only_on_the_grid():
    steps = torch.rand(CROP // 8, CROP // 8, generator=seeded(2))
    blocks = steps.repeat_interleave(8, dim=0).repeat_interleave(8, dim=1)
    assert blocking(blocks) is None  # no steps off the grid to compare with
    grain = blocks + 0.01 * torch.rand(CROP, CROP, generator=seeded(3))
    on_grid, beside = blocking(grain), blocking(grain.roll((3, 3), dims=(0, 1)))
    assert on_grid > 10
    assert beside < 0.1
    assert blocking(grain.rot90()) == pytest.approx(on_grid, rel=0.02)
    assert blocking(grain.flip(1)) == pytest.approx(on_grid, rel=0.02)


@pytest.mark.parametrize("step", [8, 12])
def test_duty_rises_with_the_time_that_the_shutter_is_open(step):
    means = []
    for duty in (0.05, 0.35, 0.6, 0.9):
        found = []
        for seed in (3, 9):
            scene = round_to_8_bit(smeared(dead_leaves(seed, CROP + 64), duty * step))
            first, second = scene[:, :CROP, 16 : 16 + CROP], scene[:, :CROP, 16 + step :]
            measured = measure_camera(first, second[..., :CROP])
            assert measured.step == pytest.approx(step, abs=0.5)
            found.append(measured.duty)
        means.append(sum(found) / len(found))
        if duty > 0.1:  # the blur estimate is off by a factor
            assert 0.8 * duty < means[-1] < 1.8 * duty
    assert means[0] < 0.35
    assert means[:3] == sorted(means[:3])
    assert means[3] > means[1] + 0.2


def test_duty_is_told_only_where_the_picture_moves():
    scene = dead_leaves(1, CROP)
    still = measure_camera(scene, scene)
    assert still.step < 0.5
    assert still.blur is not None
    assert still.duty is None
    for pixels, told in ((5, False), (7, True), (15, True), (17, False)):
        measured = measure_camera(scene, scene.roll(pixels, dims=-1))
        assert (measured.duty is not None) == told


@settings(max_examples=8)
@given(white=st.integers(0, CROP // 2), black=st.integers(0, CROP // 2))
def test_ends_of_the_scale_are_counted(white, black):
    def shares(above: int, below: int) -> tuple[float, float]:
        picture = torch.full((3, CROP, CROP), 0.5)
        picture[2, :white] = above / 255  # one channel is enough
        picture[:, CROP - black :] = below / 255
        found = measure_camera(picture, picture)
        assert found.brightness == pytest.approx(float(luma_of(picture).mean()))
        assert found.contrast == pytest.approx(float(luma_of(picture).std()))
        assert found.duty is None
        return found.white, found.black

    assert shares(254, 2) == pytest.approx((white / CROP, black / CROP))
    assert shares(253, 3) == (0, 0)


def test_frames_that_cannot_be_measured_are_refused():
    with pytest.raises(ValueError, match="must agree"):
        measure_camera(EVEN, EVEN[..., 1:])
    with pytest.raises(ValueError, match="at least 32"):
        measure_camera(EVEN[:, :31], EVEN[:, :31])


@given(height=st.integers(40, 400), width=st.integers(40, 400), seed=st.integers(0, 99))
def test_pieces_lie_on_the_grid_at_one_place_of_both_frames(height, width, seed):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frame = torch.stack((rows, columns, rows)).float()
    pieces = list(pieces_of(frame, frame + 1, 3, seeded(seed)))
    assert len(pieces) == 3
    for first, second in pieces:
        assert first.shape == (3, min(height, CROP), min(width, CROP))
        assert first[0, 0, 0] % 8 == first[1, 0, 0] % 8 == 0
        assert torch.equal(first + 1, second)


def measured(blur: float | None, white: float = 0.0) -> CameraMeasures:
    return CameraMeasures(blur, 1.0, None, 0.5, 0.5, 1.0, white, 0.0, 0.5, 0.2)


def test_percentiles_leave_out_what_cannot_be_told():
    found = spreads([measured(float(blur)) for blur in range(11)] + [measured(None)] * 11)
    assert tuple(found) == MEASURES
    assert found["blur"] == Spread(1.0, 5.0, 9.0, 0.5)
    assert found["duty"] is None
    assert found["step"] == Spread(1.0, 1.0, 1.0, 1.0)
    assert set(spreads([]).values()) == {None}


def test_a_record_survives_json_and_becomes_a_table():
    sides = {
        "phone": spreads([measured(2.0, 0.05), measured(None, 0.05)]),
        "synthesised": spreads([measured(12.0)]),
    }
    record = CameraRecord(
        "title", {"phone": 2, "synthesised": 1}, sides, origin_of(torch.device("cpu"))
    )
    assert record_from_json(CameraRecord, record_as_json(record)) == record
    table = camera_lines(record)
    assert "phone: 2, synthesised: 1" in table[0]
    assert table[2] == "| measure | phone | synthesised |"
    assert len(table) == 4 + len(MEASURES)
    assert "| blur, px | 2.00 (2.00 to 2.00), of 50 % | 12.0 (12.0 to 12.0) |" in table
    assert "| clipped to white, % | 5.00 (5.00 to 5.00) | 0.00 (0.00 to 0.00) |" in table
    assert any(line.startswith("| duty") and line.endswith("| - | - |") for line in table)
