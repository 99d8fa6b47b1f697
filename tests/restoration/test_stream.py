"""Streaming computes the same as everything at once, for any window and size."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from torch import Tensor

from tests.conftest import (
    ALIGNED,
    SMALL,
    TWO_ALIGNED,
    TWO_TRAILS,
    assert_same_frames,
    awake,
    one_scene,
)
from tests.restoration.conftest import restored_from
from tests.restoration.test_cuts import FASTER, walk
from unsmear.errors import ConfigError, InputError
from unsmear.models.flow import clip_motion
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import DeblurNetwork, join_frames, pad_to_multiple
from unsmear.models.zoo import ZOO
from unsmear.restoration import stream
from unsmear.restoration.guard import implausibility
from unsmear.restoration.quality import NETWORK_ALONE, QualityOptions
from unsmear.restoration.store import FeatureStore
from unsmear.restoration.stream import (
    check_memory,
    describe_scenes,
    frames_after,
    load_scenes,
    parse_window,
    restore_stream,
    save_scenes,
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
        (TWO_TRAILS, QualityOptions(burst=0), 5, 3),
        (TWO_TRAILS, QualityOptions(burst=1), 1, 0),
        (TWO_TRAILS, QualityOptions(burst=2), 5, 2),
        (TWO_TRAILS, QualityOptions(burst=3), 1, 4),
        (TWO_ALIGNED, QualityOptions(burst=0, refine=1), 5, 0),
        (TWO_ALIGNED, QualityOptions(burst=0, refine=2), 1, 3),
        (TWO_ALIGNED, QualityOptions(burst=0, refine=2), 5, 1),
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
    gc.freeze()  # ignore objects of earlier tests, which are many; see also tests/conftest.py
    for _ in stream:
        gc.collect()
        alive.append(sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()))
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
    for text in ("4", "0", "-1", "five", "", "\u0665", "9" * 5000):
        with pytest.raises(ConfigError, match="odd number of frames, "):
            parse_window(text)


def test_sizes_must_agree(network):
    with pytest.raises(ValueError, match="sizes must agree"):
        list(restore_stream(network, [torch.rand(3, 8, 8), torch.rand(3, 8, 16)], 1))


def test_scenes_as_a_file_and_of_another_ensemble(network, tmp_path, monkeypatch):
    clip = one_scene(4, 16, 24)
    scenes = describe_scenes(network, clip, ensemble=4)
    save_scenes(tmp_path / "scenes.safetensors", scenes)
    loaded = load_scenes(tmp_path / "scenes.safetensors", torch.device("cpu"))
    torch.testing.assert_close(
        [scene.contexts for scene in loaded], [scene.contexts for scene in scenes], rtol=0, atol=0
    )
    assert not torch.equal(loaded[0].contexts[0][0], loaded[0].contexts[1][0])

    def full(_tensors, path, _metadata):
        path.write_bytes(b"half")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(stream, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_scenes(tmp_path / "other.safetensors", scenes)
    assert not (tmp_path / "other.safetensors").exists()
    with pytest.raises(ValueError, match="described for another ensemble than one of 2"):
        list(
            restore_stream(network, clip, "all", scenes=loaded, quality=QualityOptions(ensemble=2))
        )


def test_the_default_dtype_of_callers_is_theirs(network):
    clip = one_scene(2, 16, 24)
    wanted = list(restore_stream(network, clip, 1, quality=QualityOptions(burst=2)))
    torch.set_default_dtype(torch.float64)
    try:
        found = list(restore_stream(network, clip, 1, quality=QualityOptions(burst=2)))
        assert not implausibility(clip[0], clip[0])
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
