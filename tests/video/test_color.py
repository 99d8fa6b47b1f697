from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unsmear.clip import ColorTags, YuvPlanes
from unsmear.video.color import (
    add_change,
    beside,
    downsample_chroma,
    planes_from_rgb,
    resolve_matrix,
    rgb_from_planes,
    rgb_from_yuv_matrix,
    upsample_chroma,
    wipe,
)
from unsmear.video.formats import PixelFormat

formats = st.sampled_from([(1, 1), (1, 0), (0, 0)])


def planes_of(height, width, depth=8, down=(1, 1), matrix=1, full_range=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    small = ((height + (1 << down[1]) - 1) >> down[1], (width + (1 << down[0]) - 1) >> down[0])
    dtype = torch.uint8 if depth == 8 else torch.uint16
    unit = 1 << (depth - 8)

    def plane(low, high, shape):
        values = torch.randint(low * unit, high * unit, shape, generator=generator)
        return values.to(torch.int32).to(dtype)

    tags = ColorTags(matrix=matrix, primaries=1, transfer=1, full_range=full_range)
    return YuvPlanes(
        plane(60, 180, (height, width)), plane(110, 146, small), plane(110, 146, small),
        depth, down[0], down[1], tags,
    )  # fmt: skip


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 8, 9])
def test_white_grey_and_black_are_neutral(matrix):
    rgb = rgb_from_yuv_matrix(matrix) @ torch.tensor([[0.0, 0.5, 1.0], [0, 0, 0], [0, 0, 0]])
    torch.testing.assert_close(rgb, torch.tensor([[0.0, 0.5, 1.0]]).expand(3, 3))


@pytest.mark.parametrize(
    ("matrix", "red", "blue"),
    [
        (1, 1.5748, 1.8556),
        (4, 1.4, 1.78),
        (5, 1.402, 1.772),
        (6, 1.402, 1.772),
        (7, 1.576, 1.826),
        (9, 1.4746, 1.8814),
    ],
)
def test_matrices_agree_with_published_coefficients(matrix, red, blue):
    assert float(rgb_from_yuv_matrix(matrix)[0, 2]) == pytest.approx(red)
    assert float(rgb_from_yuv_matrix(matrix)[2, 1]) == pytest.approx(blue)


@pytest.mark.parametrize(
    ("depth", "full_range", "low", "high"),
    [(8, False, 16, 235), (8, True, 0, 255), (10, False, 64, 940), (12, True, 0, 4095)],
)
def test_range_ends_are_black_and_white(depth, full_range, low, high):
    dtype = torch.uint8 if depth == 8 else torch.uint16
    luma = torch.tensor([[low, high]], dtype=dtype)
    grey = torch.full((1, 2), 1 << (depth - 1), dtype=dtype)
    tags = ColorTags(matrix=1, full_range=full_range)
    rgb = rgb_from_planes(YuvPlanes(luma, grey, grey, depth, 0, 0, tags))
    torch.testing.assert_close(rgb, torch.tensor([[[0.0, 1.0]]]).expand(3, 1, 2))


def test_numbers_are_rounded_and_clipped_to_their_range():
    """Above the white and below the black of limited range, and where full range has no number."""
    luma, grey = (torch.tensor([row], dtype=torch.uint8) for row in ([0, 255], [128, 128]))
    planes = YuvPlanes(luma, grey, grey, 8, 0, 0, ColorTags(matrix=1))
    assert rgb_from_planes(planes).unique().tolist() == [0, 1]
    change = torch.tensor([-0.5, 0.5]).expand(3, 1, 2)
    assert add_change(planes, change).y.tolist() == [[0, 255]]
    middle = replace(planes, y=torch.tensor([[100, 100]], dtype=torch.uint8))
    assert add_change(middle, change * 1.2 / 219).y.tolist() == [[99, 101]]  # by 0.6, rounded
    blue = torch.tensor([0.0, 0, 1])[:, None, None]
    full = planes_from_rgb(blue, ColorTags(matrix=1, full_range=True), PixelFormat(8, 0, 0))
    assert (int(full.y), int(full.u)) == (18, 255)


@pytest.mark.parametrize(
    ("name", "matrix", "full_range"),
    [("ITU709", 1, False), ("ITU601", 6, False), ("ITU601", 6, True), ("ITU709", 1, True)],
)
def test_agrees_with_swscale(name, matrix, full_range):
    """FFmpeg's conversion of the same 4:4:4 planes, to within its rounding."""
    planes = planes_of(16, 24, down=(0, 0), matrix=matrix, full_range=full_range)
    frame = av.VideoFrame(24, 16, "yuv444p")
    for plane, values in zip(frame.planes, (planes.y, planes.u, planes.v), strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(16, plane.line_size)
        rows[:, :24] = values.numpy()
    theirs = frame.reformat(
        format="gbrp",
        src_colorspace=name,
        dst_colorspace=name,
        src_color_range="JPEG" if full_range else "MPEG",
        dst_color_range="JPEG",
    ).to_ndarray(format="rgb24")
    ours = rgb_from_planes(planes).permute(1, 2, 0).numpy() * 255
    assert np.abs(ours - theirs).max() < 2


@given(
    st.integers(1, 20), st.integers(1, 20), formats,
    st.sampled_from([8, 10, 12]), st.sampled_from([1, 5, 8, 9]), st.booleans(),
)  # fmt: skip
def test_no_change_leaves_every_number_as_decoded(height, width, down, depth, matrix, full):
    planes = planes_of(height, width, depth, down, matrix, full)
    same = add_change(planes, torch.zeros(3, height, width))
    for name in ("y", "u", "v"):
        assert torch.equal(getattr(planes, name), getattr(same, name))


@pytest.mark.parametrize("full", [False, True])
def test_ycgco_is_what_the_standard_says(full):
    """ITU-T H.273, MatrixCoefficients 8, in 8-bit values."""
    rgb = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
    red, green, blue = (rgb * 255 if full else rgb * 219 + 16).round()
    by_hand = (
        0.5 * green + 0.25 * (red + blue),
        0.5 * green - 0.25 * (red + blue) + 128,
        0.5 * (red - blue) + 128,
    )
    planes = planes_from_rgb(rgb, ColorTags(matrix=8, full_range=full), PixelFormat(8, 0, 0))
    for ours, theirs in zip((planes.y, planes.u, planes.v), by_hand, strict=True):
        assert (ours.float() - theirs).abs().max() <= 1.25
    torch.testing.assert_close(rgb_from_planes(planes), rgb, rtol=0, atol=2 / 255)


@given(
    st.integers(2, 20), st.integers(2, 20), formats, st.sampled_from([8, 10]),
    st.sampled_from([1, 8]),
)  # fmt: skip
def test_an_even_change_arrives_in_rgb(height, width, down, depth, matrix):
    planes = planes_of(height, width, depth, down, matrix)
    change = torch.tensor([0.05, -0.04, 0.03])[:, None, None].expand(3, height, width)
    before, after = rgb_from_planes(planes), rgb_from_planes(add_change(planes, change))
    step = 3 / 255 if depth == 8 else 1 / 255
    torch.testing.assert_close(after - before, change.contiguous(), rtol=0, atol=step)


@given(st.integers(1, 17), st.integers(1, 17), st.integers(0, 1), st.integers(0, 1))
def test_constant_chroma_survives_resampling(height, width, down_y, down_x):
    small = torch.full(
        (2, (height + down_y) // (1 + down_y), (width + down_x) // (1 + down_x)), 0.3
    )
    large = upsample_chroma(small, height, width, down_y, down_x)
    assert large.shape == (2, height, width)
    torch.testing.assert_close(large, torch.full((2, height, width), 0.3))
    torch.testing.assert_close(downsample_chroma(large, down_y, down_x), small)


def test_chroma_sits_with_the_left_luma_sample():
    """A ramp along x stays in place: chroma sample i lies at luma sample 2 i."""
    ramp = torch.arange(8.0).expand(1, 2, 8)
    large = upsample_chroma(ramp, 2, 16, 0, 1)
    torch.testing.assert_close(large[0, 0, :15], torch.arange(15.0) / 2)
    assert large[0, 0, 15] == 7
    again = downsample_chroma(large, 0, 1)
    torch.testing.assert_close(again[0, 0, 1:7], ramp[0, 0, 1:7])


def test_chroma_sits_between_its_two_rows():
    """A ramp along y stays in place: chroma sample i lies at luma row 2 i + 1/2."""
    ramp = torch.arange(4.0)[None, :, None].expand(1, 4, 2)
    large = upsample_chroma(ramp, 8, 2, 1, 0)
    torch.testing.assert_close(large[0, :, 0], ((torch.arange(8.0) - 0.5) / 2).clamp(0, 3))
    torch.testing.assert_close(downsample_chroma(large, 1, 0)[0, 1:3], ramp[0, 1:3])


@pytest.mark.parametrize(
    ("matrix", "size", "expected"),
    [
        (1, (64, 48), 1),
        (9, (64, 48), 9),
        (8, (64, 48), 8),
        (14, (64, 48), 6),
        (2, (1280, 720), 1),
        (2, (720, 576), 6),
        (2, (720, 577), 1),
        (2, (1280, 64), 1),
        (0, (640, 480), 6),
    ],
)
def test_untagged_clips_get_the_usual_guess(matrix, size, expected):
    assert resolve_matrix(ColorTags(matrix=matrix), *size) == expected


@given(st.integers(1, 12), st.integers(2, 13), formats)
def test_beside_holds_both_frames(height, width, down):
    left, right = planes_of(height, width, down=down), planes_of(height, width, down=down, seed=1)
    both = beside(left, right)
    even = width // 2 * 2
    assert both.y.shape == (height, 2 * even)
    assert torch.equal(both.y[:, :even], left.y[:, :even])
    assert torch.equal(both.y[:, even:], right.y[:, :even])
    assert both.u.shape[1] == (2 * even) >> down[0]


def test_a_wipe_has_a_white_line_at_an_even_column():
    left, right = planes_of(4, 8), planes_of(4, 8, seed=1)
    both = wipe(left, right, 5)
    assert torch.equal(both.y[:, :4], left.y[:, :4])
    assert torch.equal(both.y[:, 6:], right.y[:, 6:])
    assert both.y[:, 4:6].unique().tolist() == [235]
    assert torch.equal(both.u[:, :2], left.u[:, :2])
    assert torch.equal(both.v[:, 3:], right.v[:, 3:])
    assert both.u[:, 2].unique().tolist() == both.v[:, 2].unique().tolist() == [128]
    odd = planes_of(4, 7, seed=1)  # its last column has a chroma sample of its own
    assert torch.equal(wipe(planes_of(4, 7), odd, 3).u[:, 2:], odd.u[:, 2:])


@given(st.integers(2, 13), st.integers(2, 13), formats, st.integers(0, 13))
def test_one_below_the_other_is_side_by_side_turned(height, width, down, at):
    """`below` on transposed planes gives the transposed result."""
    first, second = planes_of(height, width, down=down), planes_of(height, width, down=down, seed=1)

    def turned(planes):
        y, u, v = (plane.T for plane in (planes.y, planes.u, planes.v))
        return replace(planes, y=y, u=u, v=v, down_x=planes.down_y, down_y=planes.down_x)

    for below, across in (
        (beside(turned(first), turned(second), below=True), beside(first, second)),
        (wipe(turned(first), turned(second), at, below=True), wipe(first, second, at)),
    ):
        for name in ("y", "u", "v"):
            assert torch.equal(getattr(turned(below), name), getattr(across, name))


def test_planes_from_rgb_come_back():
    smooth = (
        torch.linspace(0.2, 0.8, 16).expand(3, 12, 16) * torch.tensor([1, 0.9, 0.8])[:, None, None]
    )
    planes = planes_from_rgb(smooth, ColorTags(matrix=1))
    assert (planes.y.dtype, planes.u.shape) == (torch.uint8, (6, 8))
    torch.testing.assert_close(rgb_from_planes(planes), smooth, rtol=0, atol=3 / 255)
