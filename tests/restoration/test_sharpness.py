"""The blur estimate follows the length and direction of a blur, and knows its limits."""

from __future__ import annotations

import math
from functools import lru_cache

import pytest
import torch
from torch.nn import functional

from unsmear.restoration.sharpness import BLOCK, blocks, estimate_blur

SIDE = 3 * BLOCK


@lru_cache
def dead_leaves(seed: int, side: int = SIDE) -> torch.Tensor:
    """Opaque disks of all sizes on top of each other, a model of scenes: (3, side, side), 0..1."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(side) + 0.5
    scene = torch.full((3, side, side), 0.5)
    for _ in range(400):
        x, y, u, *color = torch.rand(6, generator=generator).tolist()
        radius = 4 / math.sqrt(u + 3e-3)
        inside = (radius - torch.hypot(axis[:, None] - y * side, axis - x * side) + 0.5).clamp(0, 1)
        scene = torch.lerp(scene, 0.1 + 0.8 * torch.tensor(color)[:, None, None], inside)
    return scene


def photograph(name: str) -> torch.Tensor:
    data = pytest.importorskip("skimage.data")
    image = torch.from_numpy(getattr(data, name)().copy())
    image = image[..., None].expand(-1, -1, 3) if image.ndim == 2 else image
    return image[:SIDE, :SIDE].permute(2, 0, 1).float() / 255


def smeared(picture: torch.Tensor, length: float, degrees: float = 0.0) -> torch.Tensor:
    """Motion blur: bilinear samples two thirds of a pixel apart."""
    count = max(round(1.5 * length), 1)
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    total = torch.zeros_like(picture)
    for way in torch.linspace(-length / 2, length / 2, count):
        dx, dy = way * math.cos(math.radians(degrees)), way * math.sin(math.radians(degrees))
        grid = torch.stack(
            (2 * (x + dx) / (width - 1) - 1, 2 * (y + dy) / (height - 1) - 1), dim=-1
        )
        total += functional.grid_sample(
            picture[None], grid[None], align_corners=True, padding_mode="reflection"
        )[0]
    return total / count


SCENES = [
    pytest.param(lambda: dead_leaves(0), id="leaves"),
    pytest.param(lambda: dead_leaves(5), id="other leaves"),
    pytest.param(lambda: photograph("astronaut"), id="astronaut"),
    pytest.param(lambda: photograph("coffee"), id="coffee"),
]


@pytest.mark.parametrize("make", SCENES)
def test_longer_blur_gives_a_longer_estimate(make):
    scene = make()
    for degrees in (0, 67.5):
        found = [estimate_blur(smeared(scene, length, degrees)).length for length in (1, 5, 10, 20)]
        assert all(length is not None for length in found)
        assert found == sorted(found)
        assert found[0] < 5 < found[2]  # bundled photographs are soft by themselves
        assert found[-1] > 1.5 * found[1] > 1.5 * found[0]


@pytest.mark.parametrize("make", SCENES[:2])
def test_defocus_is_blur_too(make):
    scene = make()
    weight = torch.arange(-6, 7.0)
    disk = (torch.hypot(weight[:, None], weight) <= 5).float()
    kernel = (disk / disk.sum()).expand(3, 1, -1, -1)
    soft = functional.conv2d(scene[None], kernel, padding=6, groups=3)[0]
    sharp, blurred = estimate_blur(scene), estimate_blur(soft)
    assert sharp.length is not None
    assert blurred.length is not None
    assert blurred.length > 4 > sharp.length


@pytest.mark.parametrize("degrees", [0, 45, 90, -45, 22.5])
def test_direction_is_found(degrees):
    estimate = estimate_blur(smeared(dead_leaves(1), 14, degrees))
    off = abs(math.degrees(estimate.angle) - degrees) % 180
    assert min(off, 180 - off) < 23
    assert estimate.direction > 0.6


@pytest.mark.parametrize("length", [1, 9])
def test_brightness_and_contrast_change_little(length):
    frame = smeared(dead_leaves(2), length)
    plain = estimate_blur(frame)
    for other in (frame + 0.05, 0.5 * frame, 0.5 * frame + 0.4, 1 - frame):
        changed = estimate_blur(other)
        # At half the contrast, the same detail stands out less from the rounding to 8 bits.
        allowed = 0.25 if other.std() < 0.9 * frame.std() else 0.01
        assert changed.length == pytest.approx(plain.length, rel=allowed)
        assert changed.angle == plain.angle


@pytest.mark.parametrize("make", SCENES[:3])
@pytest.mark.parametrize("grain", ["fine", "coarse"])
def test_noise_does_not_make_blurred_frames_sharp(make, grain):
    scene = make()
    noise = 0.02 * torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    if grain == "coarse":
        noise = functional.avg_pool2d(noise, 2, stride=1, padding=1)[:, :SIDE, :SIDE] * 2
    blurred = estimate_blur((smeared(scene, 12) + noise).clamp(0, 1))
    assert blurred.length is None or blurred.length > 4


def test_what_cannot_be_seen_is_unknown():
    generator = torch.Generator().manual_seed(4)
    noise = torch.randn(3, SIDE, SIDE, generator=generator)
    for frame in (
        torch.full((3, SIDE, SIDE), 0.4),
        torch.linspace(0, 1, SIDE).expand(3, SIDE, SIDE) * 0.02,
        0.03 + 0.03 * noise,
        dead_leaves(0)[:, :100],
    ):
        estimate = estimate_blur(frame)
        assert estimate.length is None
        assert estimate.confidence == 0
    least = estimate_blur(dead_leaves(0)[:, :BLOCK])
    assert least.length is not None
    mostly_flat = dead_leaves(0).clone()
    mostly_flat[:, BLOCK:] = 0.5
    assert 0 < estimate_blur(mostly_flat).confidence <= 1 / 3


def test_of_two_blocks_the_estimate_lies_between():
    scene = dead_leaves(6)[:, :BLOCK, :BLOCK]
    parts = scene, smeared(scene, 12)
    one, two, both = (estimate_blur(part).length for part in (*parts, torch.cat(parts, dim=2)))
    assert None not in (one, two, both)
    assert (1 + both) ** 2 == pytest.approx((1 + one) * (1 + two), rel=1e-3)


def test_letterbox_does_not_look_sharp():
    frame = smeared(dead_leaves(3), 12)
    alone = estimate_blur(frame[:, 80:-80])
    frame[:, :80] = frame[:, -80:] = 0
    barred = estimate_blur(frame)
    assert alone.length is not None
    assert barred.length is not None
    assert barred.length > 0.5 * alone.length


def test_a_blurred_part_shows_in_the_worst():
    scene = dead_leaves(6, 4 * BLOCK)
    frame = scene.clone()
    frame[:, : BLOCK - 20] = smeared(scene, 24)[:, : BLOCK - 20]
    partly, sharp, wholly = (estimate_blur(f) for f in (frame, scene, smeared(scene, 24)))
    for estimate in (partly, sharp, wholly):
        assert estimate.length is not None
        assert estimate.worst is not None
        assert estimate.length <= estimate.worst
    assert partly.length < 0.6 * wholly.length
    assert partly.worst > 1.5 * sharp.worst


def test_large_frames_are_measured_in_their_own_pixels():
    small = smeared(dead_leaves(7, 724), 6)
    large = functional.interpolate(small[None], scale_factor=2, mode="bilinear")[0]
    one, two = estimate_blur(small).length, estimate_blur(large).length
    assert one is not None
    assert two is not None
    assert two == pytest.approx(2 * one, rel=0.35)


def test_blocks_cover_frames_of_any_size():
    for height, width in ((128, 128), (129, 500), (720, 1280), (1440, 2560), (1080, 8000)):
        luma = torch.arange(height * width).float().view(height, width)
        cut = blocks(luma)
        assert cut.shape[1:] == (BLOCK, BLOCK)
        assert len(cut) <= 66
        assert cut[0, 0, 0] == 0
        assert cut[-1, -1, -1] == luma[-1, -1] or height == 129 or height < 192
