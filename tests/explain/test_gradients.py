"""The receptive field against automatic differentiation of the whole, and its bounds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.conftest import SMALL, awake, one_scene
from tests.explain.test_maps import window_of
from unsmear.engines.base import as_engine
from unsmear.explain.gradients import ReceptiveField, receptive_field
from unsmear.explain.window import FrameWindow
from unsmear.models.config import NetworkConfig
from unsmear.models.flow import clip_motion
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import DeblurNetwork, Encoded, join_frames, pad_to_multiple
from unsmear.restoration.tiles import Tiler, prepared

SHALLOW = NetworkConfig(
    widths=(4, 6),
    encoder_blocks=(1, 1),
    decoder_blocks=(1, 1),
    attention_levels=(0, 1),
    spatial_maps=2,
    temporal_maps=2,
    neighbours=1,
)


def restore_current(network: DeblurNetwork, window: FrameWindow, pictures: Tensor) -> Tensor:
    """The restored frame, in one autograd graph from the images on."""
    encoded = [
        network.encode(pad_to_multiple(picture[None], network.config.size_multiple))
        for picture in pictures
    ]
    contexts = network.mix(join_frames([network.squeeze(encoded[i]) for i in window.attended]))
    return network.restore(encoded[window.current], contexts, around_of(network, window, encoded))[
        0
    ]


def around_of(
    network: DeblurNetwork, window: FrameWindow, encoded: Sequence[Encoded]
) -> Neighbourhood:
    """The neighbourhood of the current frame, with the given motion."""
    side, current, last = network.config.neighbours, window.current, len(encoded) - 1
    local = tuple(
        encoded[min(max(current + offset, 0), last)].local
        for offset in range(-side, side + 1)
        if offset
    )
    motion = None
    if network.config.trail_levels:
        clip = pad_to_multiple(window.pictures, network.config.size_multiple)[None]
        motion = clip_motion(clip)[current : current + 1]
    before = encoded[current - 1].frame if current else None
    after = encoded[current + 1].frame if current < last else None
    frames = (before, encoded[current].frame, after)
    return Neighbourhood.gathered(network.config, frames, local, motion)


def field_of(
    network: DeblurNetwork, window: FrameWindow, pixel: tuple[int, int], tile: int = 512
) -> ReceptiveField:
    with torch.no_grad():
        engine = as_engine(network)
        encoded = [network.encode(prepared(picture, engine)) for picture in window.pictures]
        descriptors = join_frames([network.squeeze(encoded[i]) for i in window.attended])
        around = around_of(network, window, encoded)
    current = encoded[window.current]
    return receptive_field(Tiler(network), window, current, descriptors, around, pixel, tile=tile)


@pytest.mark.parametrize(
    ("number", "window", "pixel", "tile"),
    [
        (2, 5, (14, 9), 512),
        (2, 3, (0, 0), 512),
        (0, 5, (44, 36), 512),  # the first frame is its own neighbour; padding repeats the corner
        (4, 1, (20, 30), 16),  # many tiles
        (2, 5, (20, 10), 16),
    ],
)
def test_field_is_the_gradient_of_the_whole(either, number, window, pixel, tile):
    network = either
    frames = window_of(one_scene(5, 37, 45), number, window, 1)
    field = field_of(network, frames, pixel, tile)
    pictures = frames.pictures.clone().requires_grad_()
    x, y = pixel
    value = restore_current(network, frames, pictures)[:, y, x].mean()
    (expected,) = torch.autograd.grad(value, pictures)
    scale = float(expected.abs().max())
    found = field.local + field.attention
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6 * scale)
    attended = torch.zeros(len(frames.pictures), dtype=torch.bool)
    attended[frames.attended.start : frames.attended.stop] = True
    assert not field.attention[~attended].any()
    assert all(part.any() for part in field.attention[attended])
    assert float(field.shares.sum()) == pytest.approx(1)


def test_tiles_divide_where_even_parts_would_not():
    network = awake(SMALL)  # 72 pixels are 5 parts of 14.4
    frames = window_of(one_scene(2, 16, 70), 0, 3, 1)
    whole, tiled = (field_of(network, frames, (33, 9), tile) for tile in (512, 16))
    torch.testing.assert_close(tiled.total, whole.total, rtol=1e-4, atol=1e-6)


def local_reach(network: DeblurNetwork) -> int:
    """How far convolutions see around a pixel of the result, in pixels of the frame."""
    levels = range(len(network.config.widths))
    own = network.config.size_multiple - 1  # depends on the pixel's position within a stride
    return own + sum(network.encode_reach(n) + network.decode_reach(n) for n in levels)


def far_from(pixel: tuple[int, int], reach: int, height: int, width: int) -> Tensor:
    """Mask (H, W) of pixels whose row or column is out of reach."""
    x, y = pixel
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return ((rows - y).abs() > reach) | ((columns - x).abs() > reach)


def test_local_part_ends_at_the_reach_of_the_convolutions_and_the_attention_does_not():
    network = awake(SHALLOW)
    reach = local_reach(network)
    frames = window_of(one_scene(5, 88, 96), 2, 5, 1)
    pixel = (40, 44)
    far = far_from(pixel, reach, 88, 96)
    assert 0.1 < far.float().mean() < 0.9
    field = field_of(network, frames, pixel)
    assert not field.local[:, :, far].any()
    assert not field.local[[0, 4]].any()  # frames beyond the local path
    near = far_from(pixel, reach // 2, 88, 96)  # the bound is tight
    assert all(part[:, near].any() for part in field.local[[1, 2, 3]])
    assert all((part != 0).float().mean() > 0.9 for part in field.attention[:, :, far])


def test_with_the_attention_cut_off_nothing_lies_beyond_the_reach():
    network = awake(SHALLOW)
    frames = window_of(one_scene(3, 88, 96), 1, 3, 1)
    for merge in network.merges.values():
        merge.weight.zero_()
    field = field_of(network, frames, (40, 44))
    assert not field.attention.any()
    assert not field.total[:, far_from((40, 44), local_reach(network), 88, 96)].any()
    assert field.total[1].any()


def test_an_untrained_network_depends_on_its_own_pixel_alone():
    network = DeblurNetwork(SMALL).eval().requires_grad_(False)
    frames = window_of(one_scene(3, 16, 24), 1, 3, 1)
    field = field_of(network, frames, (5, 7))
    expected = torch.zeros(3, 16, 24)
    expected[1, 7, 5] = 1.0
    torch.testing.assert_close(field.total, expected)
    assert field.shares[1].tolist() == pytest.approx([1, 0])
