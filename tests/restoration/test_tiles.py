"""Tiles compute the same as the whole frame, for any network, frame size and tile size."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.conftest import ALIGNED, SMALL, TRAILS, awake, one_scene
from unsmear.errors import ConfigError
from unsmear.models.config import NetworkConfig
from unsmear.models.layers import DenseBlock, ResidualBlock, conv3x3, receptive_radius
from unsmear.models.network import DeblurNetwork
from unsmear.restoration import tiles
from unsmear.restoration.stream import describe_scenes, restore_stream
from unsmear.restoration.tiles import (
    Layer,
    Tiler,
    TileSize,
    auto_tile,
    parse_tiling,
    run_tiled,
    tile_boxes,
)

NETWORKS = (
    SMALL,
    dataclasses.replace(SMALL, neighbours=0, stem=1, block="dense", dense_layers=2),
    dataclasses.replace(SMALL, stem=4, encoder_blocks=(0, 2, 1), decoder_blocks=(2, 0, 0)),
    NetworkConfig(
        widths=(6,), encoder_blocks=(2,), decoder_blocks=(1,), attention_levels=(), neighbours=2
    ),
)


@given(
    config=st.sampled_from(NETWORKS),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    tile_height=st.integers(8, 64),
    tile_width=st.integers(8, 64),
    window=st.sampled_from([1, 5]),
)
def test_tiled_equals_whole(config, height, width, tile_height, tile_width, window):
    network = awake(config)
    clip = one_scene(3, height, width)
    whole = list(restore_stream(network, clip, window, tiling="off"))
    tiled = list(restore_stream(network, clip, window, tiling=TileSize(tile_height, tile_width)))
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_the_first_pass_is_tiled_too(network):
    clip = one_scene(2, 60, 70)
    whole, tiled = (
        describe_scenes(network, clip, tiling=tiling) for tiling in ("off", TileSize(16, 24))
    )
    torch.testing.assert_close(tiled[0].contexts, whole[0].contexts, rtol=0, atol=1e-5)


def reach_of(run, height: int = 96) -> int:
    """How far beyond its own row an output of `run` depends on its input, by the gradient."""
    x = torch.rand(1, 3, height, height, requires_grad=True)
    out = run(x)
    stride = height // out.shape[-2]
    row = out.shape[-2] // 2
    out[..., row, :].sum().backward()
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    first, last = int(rows[0]), int(rows[-1])
    return max(row * stride - first, last - (row * stride + stride - 1))


@pytest.mark.parametrize("stem", [1, 2, 4])
def test_declared_reach_is_the_true_one(stem):
    """The halo computed from the network is neither too small nor wasteful."""
    network = awake(dataclasses.replace(SMALL, stem=stem, neighbours=0)).requires_grad_(True)
    true = reach_of(lambda x: network.encode_level(0, x))
    assert true <= network.encode_reach(0) < true + network.stride(0)


@pytest.mark.parametrize(
    ("module", "radius"),
    [
        (conv3x3(3, 3), 1),
        (ResidualBlock(3), 2),
        (nn.Sequential(ResidualBlock(3), ResidualBlock(3)), 4),
        (DenseBlock(3, 2, 3), 3),
        (nn.Conv2d(3, 3, 1), 0),
        (nn.Sequential(), 0),
    ],
)
def test_the_receptive_radius_counts_all_convolutions_in_a_row(module, radius):
    assert receptive_radius(module) == radius
    if any(True for _ in module.parameters()):
        assert reach_of(module) <= radius


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 30), st.integers(1, 30))
def test_boxes_cover_every_pixel_once(height, width, tile_height, tile_width):
    seen = torch.zeros(height, width)
    for box in tile_boxes(height, width, TileSize(tile_height, tile_width)):
        box.cut(seen, 1).add_(1)
    assert torch.equal(seen, torch.ones(height, width))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 9), st.sampled_from([1, 4, 8]))
def test_boxes_are_few_of_one_size_and_none_too_large(height, width, tiles, step):
    size = TileSize(step * tiles, step * tiles)
    boxes = list(tile_boxes(height, width, size, step))
    sides = [(box.bottom - box.top, box.right - box.left) for box in boxes]
    assert max(max(side) for side in sides) <= step * tiles
    assert all(box.top % step == 0 and box.left % step == 0 for box in boxes)
    fewest = -(-height // size.height) * -(-width // size.width)
    assert len(boxes) <= fewest
    # The last tiles lack less than a step for each of the others.
    down, across = -(-height // size.height), -(-width // size.width)
    assert sides[0][0] * down - height < step * down
    assert sides[0][1] * across - width < step * across


def test_a_halo_one_step_too_small_shows():
    """The tests detect a halo that is too small: the seams differ."""
    conv = conv3x3(2, 2)
    x = torch.rand(1, 2, 32, 32)

    def run(halo: int) -> Tensor:
        stage = lambda parts: conv(parts[0])  # noqa: E731
        return run_tiled(stage, [Layer(x, 1)], 1, TileSize(8, 8), halo)

    torch.testing.assert_close(run(1), conv(x))
    assert not torch.allclose(run(0), conv(x))


@pytest.mark.parametrize("too_small", [0, 32])
def test_the_halo_holds_the_longest_trails(monkeypatch, too_small):
    """All trails have their full length, on a frame much larger than a tile with its halo."""
    network = awake(dataclasses.replace(TRAILS, trail_levels=(1,)))
    assert network.trail_head is not None
    network.trail_head.leave.weight.zero_()
    network.trail_head.leave.bias.copy_(torch.tensor([100.0, 3.0]))  # 800 and 24 pixels, doubled
    original = network.decode_reach
    monkeypatch.setattr(
        network, "decode_reach", lambda level: original(level) - too_small * (level == 1)
    )
    clip = one_scene(2, 24, 320)
    whole = list(restore_stream(network, clip, 3, tiling="off"))
    tiled = list(restore_stream(network, clip, 3, tiling=TileSize(24, 8)))
    difference = max(float((a - b).abs().max()) for a, b in zip(whole, tiled, strict=True))
    assert (difference < 5e-5) == (too_small == 0)


def test_the_halo_holds_the_trails_that_a_level_hands_on():
    """A level without blocks: each pixel takes its trails from two pixels of the coarser level in
    each direction, and from nothing farther away.
    """
    network = awake(dataclasses.replace(TRAILS, trail_levels=(0,), decoder_blocks=(1, 0, 1)))
    fine, coarse = network.stride(1), network.stride(2)
    features = torch.rand(1, network.config.widths[1], 2, 16)
    below = torch.rand(1, *network.config.channels_below(1), 1, 8, requires_grad=True)
    with torch.enable_grad():
        network.decode_level(1, features, [below], None)[..., 8].sum().backward()
    assert below.grad is not None
    seen = below.grad.abs().amax(dim=(0, 1, 2)).nonzero().flatten()
    first, end = coarse * int(seen.min()), coarse * (int(seen.max()) + 1)
    assert max(fine * 8 - first, end - fine * 9) == network.decode_reach(1)


def columns_seen(x: Tensor) -> tuple[int, int]:
    """The first and the last column with a gradient."""
    assert x.grad is not None
    columns = x.grad.abs().amax(dim=(0, 1, 2)).nonzero()
    return int(columns.min()), int(columns.max())


@torch.enable_grad()
def test_the_halo_holds_what_the_estimate_of_trails_sees():
    network = awake(TRAILS)
    features = torch.rand(1, 16, 1, 41, requires_grad=True)
    below = [torch.rand(1, channels, 1, 41) for channels in network.config.channels_below(2)]
    network.decode_level(2, features, below, torch.rand(1, 6, 16))[..., 20].sum().backward()
    reach = network.decode_reach(2) // network.stride(2)
    assert columns_seen(features) == (20 - reach, 20 + reach)


@torch.enable_grad()
def test_the_halo_holds_what_the_fusion_of_neighbours_sees():
    """At a level that follows no trails, whose length would cover it."""
    network = awake(dataclasses.replace(ALIGNED, trail_levels=(1,), aligned_levels=(0,)))
    triplet = torch.rand(1, 9, 4, 96, requires_grad=True)
    below = [torch.rand(1, *network.config.channels_below(0), 1, 24), triplet]
    decoded = network.decode_level(0, torch.rand(1, 8, 2, 48), below, None)
    network.predict(decoded)[..., 48:50].sum().backward()
    reach = network.decode_reach(0)
    assert columns_seen(triplet) == (48 - reach, 49 + reach)


def test_a_gpu_out_of_memory_goes_on_in_tiles(network, monkeypatch):
    clip = one_scene(2, 40, 200)
    whole = list(restore_stream(network, clip, 3, tiling="off"))
    original, failures = network.decode_level, []

    def tight(level, features, below, context):
        if features.shape[-1] * network.stride(level) >= 200:
            failures.append(level)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(level, features, below, context)

    monkeypatch.setattr(network, "decode_level", tight)
    monkeypatch.setattr(tiles, "_TILE_AFTER_OUT_OF_MEMORY", 128)
    monkeypatch.setattr(tiles, "SMALLEST_TILE", 16)
    monkeypatch.setattr(tiles, "auto_tile", lambda *_: None)
    retried = list(restore_stream(network, clip, 3, tiling="auto"))
    torch.testing.assert_close(retried, whole, rtol=0, atol=1e-5)
    # It fails whole, in tiles of 128 (512 at the finest level) and of 64; then 32 is kept.
    assert failures == [2, 2, 2]
    with pytest.raises(
        ConfigError, match="not enough GPU memory for whole frames: use smaller tiles"
    ):
        list(restore_stream(network, clip, 3, tiling="off"))
    with pytest.raises(
        ConfigError, match="not enough GPU memory for tiles of 512x64: use smaller tiles"
    ):
        list(restore_stream(network, clip, 3, tiling=TileSize(64, 512)))
    monkeypatch.setattr(tiles, "SMALLEST_TILE", 64)
    with pytest.raises(
        ConfigError, match="not enough GPU memory for tiles of 64x64: use smaller tiles"
    ):
        list(restore_stream(network, clip, 3, tiling="auto"))


def test_a_gpu_out_of_memory_beside_the_levels_is_told(network, monkeypatch):
    def tight(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(network, "squeeze", tight)
    for work in (describe_scenes, lambda *given: list(restore_stream(*given, 3))):
        with pytest.raises(ConfigError, match=r"whole frames: use --device cpu, .* \(CUDA out"):
            work(network, one_scene(1, 16, 16))


def test_tiling_as_users_type_it():
    assert parse_tiling("auto") == "auto"
    assert parse_tiling("off") == "off"
    assert parse_tiling("640x384") == TileSize(height=384, width=640)
    assert parse_tiling("64x64") == TileSize(64, 64)
    # Python refuses to parse numbers with more than some thousand digits.
    for text in (
        "",
        "big",
        "512",
        "512x",
        "-512x512",
        "63x512",
        "0x0",
        "512X512",
        "9" * 5000 + "x64",
    ):
        with pytest.raises(ConfigError, match="tile is"):
            parse_tiling(text)


def test_auto_takes_tiles_on_a_cpu_and_on_a_gpu_that_is_too_small(network, monkeypatch):
    assert auto_tile(network, torch.empty(1, 3, 8, 8)) is not None

    class OnGpu:
        device = torch.device("cuda")
        shape = (1, 3, 2160, 3840)

    need = 2160 * 3840 * tiles.peak_bytes_per_pixel(network)
    for free, whole in ((2.1 * need, True), (1.9 * need, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (int(free), 1 << 40))
        assert (auto_tile(network, OnGpu()) is None) == whole


@pytest.mark.parametrize(
    ("height", "width", "near", "far"),
    [(720, 1280, 640, None), (1080, 1920, 640, 640), (2160, 3840, 320, 640)],
)
def test_on_a_cpu_the_halo_stays_a_small_part_of_the_work(height, width, near, far):
    """A network with trails at 1/2 looks 100 pixels beyond a tile at its finest level."""

    class Frames:
        device = torch.device("cpu")
        shape = (1, 3, height, width)

    def side(config) -> int | None:
        size = auto_tile(DeblurNetwork(config), Frames())
        return None if size is None else size.width

    assert side(dataclasses.replace(TRAILS, trail_levels=(1,))) == near
    assert side(TRAILS) == far


def test_odd_tile_sizes_are_rounded_to_what_the_network_takes(network):
    frames = torch.rand(1, 3, 64, 64)
    one, two = Tiler(network, TileSize(13, 21)), Tiler(network, "off")
    for tiled, whole in zip(one.encode(frames).features, two.encode(frames).features, strict=True):
        torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_a_worker_that_comes_while_tiles_are_chosen_takes_tiles_too(network, monkeypatch):
    """It finds either no choice, and makes one, or a complete one."""
    tiled, tiler, frames = [], Tiler(network), torch.rand(1, 3, 32, 32)

    def chosen(*_):
        monkeypatch.setattr(tiles, "auto_tile", lambda *_: TileSize(16, 16))
        tiler.encode(frames)  # another worker arrives here
        return TileSize(16, 16)

    def watched(*arguments):
        tiled.append(arguments)
        return run_tiled(*arguments)

    monkeypatch.setattr(tiles, "auto_tile", chosen)
    monkeypatch.setattr(tiles, "run_tiled", watched)
    tiler.encode(frames)
    assert len(tiled) == 2 * len(SMALL.widths)
