"""Streaming computes the same as everything at once, for any window and size."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import ALIGNED, SMALL, TRAILS, Counted, assert_same_frames, awake, one_scene
from tests.restoration.conftest import restored_from
from tests.restoration.test_scenes import FASTER, walk
from unsmear.engines.base import TorchEngine
from unsmear.errors import ConfigError, InputError
from unsmear.models.flow import clip_motion
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import DeblurNetwork, join_frames, pad_to_multiple
from unsmear.models.zoo import ZOO
from unsmear.restoration import scene, stream, tiles
from unsmear.restoration.quality import NETWORK_ALONE, QualityOptions
from unsmear.restoration.store import FeatureStore
from unsmear.restoration.stream import (
    check_memory,
    describe_scenes,
    frames_after,
    parse_window,
    restore_stream,
)
from unsmear.restoration.tiles import Tiler, TileSize

# A rounding error in a place on a trail changes the interpolation weights. So networks with trails,
# random ones here, have a little more than the rounding error of 1e-5 of others.
ROUNDING = 5e-5


def all_at_once(network: DeblurNetwork, clip: Tensor, window: int) -> Tensor:
    """Each frame computed directly, from its whole window."""
    frames, _, height, width = clip.shape
    padded = pad_to_multiple(clip, network.config.size_multiple)
    encoded = [network.encode(frame[None]) for frame in padded]
    side = network.config.neighbours
    motion = clip_motion(padded[None]) if network.config.trail_levels else None
    out = []
    for index in range(frames):
        span = range(max(index - window // 2, 0), min(index + window // 2 + 1, frames))
        descriptors = join_frames([network.squeeze(encoded[i]) for i in span])
        local = tuple(
            encoded[min(max(index + offset, 0), frames - 1)].local
            for offset in range(-side, side + 1)
            if offset
        )
        before, after = (
            padded[n : n + 1] if 0 <= n < frames else None for n in (index - 1, index + 1)
        )
        moving = None if motion is None else motion[index : index + 1]
        triple = (before, encoded[index].frame, after)
        around = Neighbourhood.gathered(network.config, triple, local, moving)
        restored = network.restore(encoded[index], network.mix(descriptors), around)
        out.append(restored[0, :, :height, :width].clamp(0, 1))
    return torch.stack(out)


@given(
    frames=st.integers(1, 7),
    height=st.integers(3, 30),
    width=st.integers(3, 30),
    window=st.sampled_from([1, 3, 5, 9, 13]),
    neighbours=st.integers(0, 2),
    trail_levels=st.sampled_from([(), (0,), (1,), (0, 1)]),
    aligned_levels=st.sampled_from([(), (0,), (1,), (0, 1)]),
)
def test_streamed_equals_all_at_once(
    frames, height, width, window, neighbours, trail_levels, aligned_levels
):
    levels = trail_levels if neighbours else ()
    aligned = aligned_levels if levels else ()
    network = awake(
        dataclasses.replace(
            ALIGNED, neighbours=neighbours, trail_levels=levels, aligned_levels=aligned
        )
    )
    clip = one_scene(frames, height, width)
    streamed = torch.stack(list(restore_stream(network, clip, window)))
    assert streamed.shape == clip.shape
    torch.testing.assert_close(streamed, all_at_once(network, clip, window), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", list(ZOO))
def test_every_row_of_the_zoo_streams_and_tiles_exactly(name):
    """Everything at once, against frame by frame in tiles: each frame encoded once, any window, no
    seams. With the second window, the sum comes from a first pass.
    """
    network = DeblurNetwork(ZOO[name].config).eval().requires_grad_(False)
    torch.nn.init.normal_(network.head.weight, std=0.05)  # it starts at zero
    clip = one_scene(3, 32, 24)
    tiles = TileSize(24, 24)
    for window, span in ((3, 3), ("all", 9)):
        passes = {} if window == 3 else {"scenes": describe_scenes(network, clip, tiling=tiles)}
        streamed = restore_stream(network, clip, window, tiling=tiles, **passes)
        expected = all_at_once(network, clip, span)
        assert (expected - clip).abs().max() > 1e-3
        torch.testing.assert_close(torch.stack(list(streamed)), expected, rtol=0, atol=ROUNDING)


def test_window_over_the_whole_clip_equals_forward(either):
    clip = one_scene(5, 16, 24)
    streamed = torch.stack(list(restore_stream(either, clip, 9)))
    expected = either(clip[None])[0].clamp(0, 1)
    torch.testing.assert_close(streamed, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("window", "encodings_each"), [(1, 1), (9, 1), (11, 2), (41, 2)])
def test_look_ahead_is_bounded_and_long_windows_encode_again(
    network, monkeypatch, window, encodings_each
):
    """If memory is short, features wait for up to four frames; beyond that, frames are encoded
    again.
    """
    monkeypatch.setattr(scene, "MOST_KEPT", 0)
    encodings = []
    original = network.encode_level

    def counted(level, x):
        encodings.append(level)
        return original(level, x)

    monkeypatch.setattr(network, "encode_level", counted)
    clip = one_scene(20, 16, 16)
    frames = Counted(clip)
    for done, _ in enumerate(restore_stream(network, frames, window), start=1):
        assert frames.taken <= done + max(window // 2, 1)
    assert done == 20
    assert encodings.count(0) == 20 * encodings_each


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    height=st.integers(3, 30),
    width=st.integers(3, 30),
    neighbours=st.integers(0, 2),
)
def test_window_all_is_each_scene_at_once(lengths, height, width, neighbours):
    network = awake(dataclasses.replace(SMALL, neighbours=neighbours))
    clip = torch.cat([one_scene(length, height, width) for length in lengths])
    scenes = describe_scenes(network, clip)
    assert sum(scene.frames for scene in scenes) == len(clip)
    streamed = torch.stack(list(restore_stream(network, clip, "all", scenes=scenes)))
    parts = clip.split([scene.frames for scene in scenes])
    expected = torch.cat([all_at_once(network, part, 99) for part in parts])
    torch.testing.assert_close(streamed, expected, rtol=0, atol=1e-5)


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    room=st.integers(0, 12),
    neighbours=st.integers(0, 2),
    first=st.integers(0, 14),
)
def test_kept_features_change_no_bit(lengths, room, neighbours, first, tmp_path_factory):
    """For any number of frames that fit into the store, and any start."""
    network = awake(dataclasses.replace(SMALL, neighbours=neighbours))
    clip = torch.cat([one_scene(length, 13, 22) for length in lengths])
    first = min(first, len(clip))
    a_frame = sum(4 * x.numel() for x in network.encode(torch.zeros(1, 3, 16, 24)).features)
    with FeatureStore.opened(tmp_path_factory.mktemp("store"), room * a_frame) as store:
        scenes = describe_scenes(network, clip, store=store)
        assert len(store) == min(room, len(clip))
        wanted, found = (
            restored_from(first, network, clip, "all", scenes=scenes, store=where)
            for where in (None, store)
        )
    assert_same_frames(found, wanted)


def test_frames_whose_features_are_kept_are_not_encoded_again(network, tmp_path, monkeypatch):
    clip = one_scene(6, 16, 24)
    encoded = []
    encode = Tiler.encode
    monkeypatch.setattr(
        Tiler, "encode", lambda self, frame: encoded.append(1) or encode(self, frame)
    )
    a_frame = sum(4 * x.numel() for x in network.encode(torch.zeros(1, 3, 16, 24)).features)
    with FeatureStore.opened(tmp_path, 4 * a_frame) as store:
        scenes = describe_scenes(network, clip, store=store)
        assert len(encoded) == 6
        list(restore_stream(network, clip, "all", scenes=scenes, store=store))
    assert len(encoded) == 6 + 2


@pytest.mark.parametrize("window", [3, 15, "all"])
def test_scenes_do_not_mix(either, window):
    """The result for a scene does not depend on the scenes around it."""
    scenes = [one_scene(length, 24, 32) for length in (4, 1, 6)]

    def restored(clip: Tensor) -> Tensor:
        known = describe_scenes(either, clip) if window == "all" else ()
        return torch.stack(list(restore_stream(either, clip, window, scenes=known)))

    together = restored(torch.cat(scenes))
    alone = torch.cat([restored(scene) for scene in scenes])
    torch.testing.assert_close(together, alone, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    ("config", "quality"),
    [(SMALL, NETWORK_ALONE), (ALIGNED, QualityOptions(refine=1, burst=1))],
    ids=["alone", "quality"],
)
def test_scenes_are_the_same_wherever_a_stream_begins(config, quality):
    """Bit for bit, even if a cut depends on frames long before the start."""
    network, clip = awake(config), walk(FASTER)
    whole = list(restore_stream(network, clip, 3, quality=quality))
    for first in (12, 13):
        assert_same_frames(restored_from(first, network, clip, 3, quality), whole[first:])


@pytest.mark.parametrize(
    ("config", "quality", "window", "last"),
    [
        (TRAILS, QualityOptions(burst=0), 5, 3),
        (TRAILS, QualityOptions(burst=1), 1, 0),
        (TRAILS, QualityOptions(burst=2), 5, 2),
        (TRAILS, QualityOptions(burst=3), 1, 4),
        (ALIGNED, QualityOptions(burst=0, refine=1), 5, 0),
        (ALIGNED, QualityOptions(burst=0, refine=2), 1, 3),
        (ALIGNED, QualityOptions(burst=0, refine=2), 5, 1),
    ],
)
def test_frames_after_decide_and_no_others(config, quality, window, last):
    network = awake(config)
    clip = one_scene(12, 16, 16)
    whole = list(restore_stream(network, clip, window, quality=quality))
    after = frames_after(network, window, quality)
    assert last + after < len(clip) - 1
    part = list(restore_stream(network, clip[: last + 1 + after], window, quality=quality))
    assert torch.equal(part[last], whole[last])


def test_frames_that_wait_must_fit_into_memory(network, monkeypatch):
    monkeypatch.setattr(stream, "physical_memory", lambda: 4 << 30)
    message = (
        r"window is 99999: buffering frames of 1920x1080 .* 1,158\.7 GiB .*: use .*--window all"
    )
    with pytest.raises(ConfigError, match=message):
        check_memory(99999, 1920, 1080)
    check_memory(99999, 1920, 1080, frames=100)
    with pytest.raises(ConfigError, match=r" 4\.6 GiB of memory, but this machine has 4\.0"):
        check_memory(99999, 1920, 1080, frames=100, ensemble=2)
    check_memory("all", 1920, 1080)
    monkeypatch.setattr(stream, "physical_memory", lambda: None)
    check_memory(99999, 1920, 1080)


def test_scenes_must_be_those_of_the_frames(network):
    clip = one_scene(4, 16, 16)
    scenes = describe_scenes(network, clip)
    with pytest.raises(InputError, match=r"4 frames ended after 3: .* give a list"):
        list(restore_stream(network, clip[:3], "all", scenes=scenes))
    with pytest.raises(InputError, match="more frames came"):
        list(restore_stream(network, torch.cat([clip, clip]), "all", scenes=scenes))


def test_held_memory_does_not_grow(network):
    """The stream keeps as many tensors after 30 frames as after 10."""
    import gc

    alive = []
    stream = restore_stream(network, (frame for frame in one_scene(30, 32, 32)), 5)
    gc.freeze()  # ignore objects of earlier tests, which are many
    for _ in stream:
        gc.collect()
        alive.append(sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()))
    gc.unfreeze()
    assert 0 < max(alive[20:27]) <= max(alive[7:14])


def test_output_is_clamped_and_usable(network):
    out = next(iter(restore_stream(network, [torch.ones(3, 8, 8) * 4], 1)))
    assert out.min() >= 0
    assert out.max() <= 1
    out += 1  # fails for an inference-mode tensor


def test_no_frames_give_no_frames(network):
    assert list(restore_stream(network, [], 5)) == []


@pytest.mark.parametrize("window", [0, -1, 2, 10])
def test_windows_must_be_odd(network, window):
    with pytest.raises(ConfigError, match="odd"):
        list(restore_stream(network, [torch.rand(3, 8, 8)], window))


def test_windows_as_users_type_them():
    assert [parse_window(text) for text in ("1", "31", "all")] == [1, 31, "all"]
    for text in ("4", "0", "-1", "five", "", "\u0665"):
        with pytest.raises(ConfigError, match="odd number of frames, "):
            parse_window(text)


def test_sizes_must_agree(network):
    with pytest.raises(ValueError, match="sizes must agree"):
        list(restore_stream(network, [torch.rand(3, 8, 8), torch.rand(3, 8, 16)], 1))


class CountingEngine(TorchEngine):
    """Counts how often frames are encoded."""

    encoded = coarser = 0

    def encode_level(self, level, x):
        self.encoded += level == 0
        self.coarser += level > 0
        return super().encode_level(level, x)


def test_features_are_kept_while_memory_lasts_and_computed_again_beyond(network, monkeypatch):
    clip = one_scene(9, 16, 24)
    kept = CountingEngine(network)
    wanted = list(restore_stream(kept, clip, 7))
    assert kept.encoded == 9
    encoded = network.encode(pad_to_multiple(clip[:1], network.config.size_multiple))
    frame = sum(x.numel() * 4 for x in encoded.features)
    monkeypatch.setattr(scene, "ALWAYS_KEPT", 2)
    for most, times in ((3 * frame, 1), (3 * frame - 1, 2)):
        monkeypatch.setattr(scene, "MOST_KEPT", most)
        engine = CountingEngine(network)
        found = list(restore_stream(engine, clip, 7))
        assert engine.encoded == 9 * times
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_of_large_features_the_finest_level_is_computed_again(network, monkeypatch):
    clip = one_scene(6, 16, 24)
    wanted = list(restore_stream(network, clip, 5))
    monkeypatch.setattr(scene, "MOST_KEPT_WHOLE", 0)
    for window, times in ((5, 2), (1, 2)):
        engine = CountingEngine(network)
        found = list(restore_stream(engine, clip, window))
        assert engine.encoded == 6 * times
        assert engine.coarser == 6 * 2
        if window == 5:
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.fixture
def one_thread():
    """Bits depend on the number of torch's threads, but not on the number of workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("tiling", ["auto", TileSize(24, 16)])
@pytest.mark.parametrize(("window", "kept"), [(1, True), (5, True), (5, False), ("all", True)])
@pytest.mark.parametrize("config", [SMALL, ALIGNED], ids=["plain", "aligned"])
def test_workers_change_no_bit(config, monkeypatch, window, kept, tiling):
    """Scenes of one frame and of several, features kept or dropped, large and small frames."""
    network = awake(config)
    if not kept:
        monkeypatch.setattr(scene, "ALWAYS_KEPT", 0)
        monkeypatch.setattr(scene, "MOST_KEPT", 0)
    monkeypatch.setattr(tiles, "_LARGE", 0 if tiling == "auto" else 1 << 30)
    clip = torch.cat([one_scene(length, 40, 40) for length in (3, 1, 2)])

    def restored(workers: int) -> Tensor:
        engine = TorchEngine(network, workers=workers)
        known = describe_scenes(engine, clip, tiling=tiling) if window == "all" else ()
        return torch.stack(list(restore_stream(engine, clip, window, scenes=known, tiling=tiling)))

    alone = restored(1)
    for workers in (2, 3):
        assert torch.equal(restored(workers), alone)


def test_workers_look_ahead_no_further_than_there_are_of_them(network):
    frames = Counted(one_scene(20, 16, 16))
    for done, _ in enumerate(restore_stream(TorchEngine(network, workers=3), frames, 5), 1):
        assert frames.taken <= done + 2 + 2 * 2
    assert done == 20


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("lead", [1, 2, 3])
def test_a_lead_may_end_while_all_that_is_left_is_in_flight(lead):
    network, clip = awake(dataclasses.replace(SMALL, neighbours=0)), one_scene(4, 16, 16)
    wanted = list(restore_stream(network, clip, 5))[lead:]
    found = restore_stream(TorchEngine(network, workers=5), clip, 5, lead=lead)
    assert_same_frames(found, wanted)


def test_what_a_worker_raises_is_raised(network):
    class Broken(TorchEngine):
        def decode_level(self, level, features, below, context):
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        list(restore_stream(Broken(network, workers=2), one_scene(4, 16, 16), 3))
