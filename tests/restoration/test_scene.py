"""One scene: what is kept and made again, workers side by side, and refinement, which runs the
network again on its own results, with restored neighbours.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import SMALL, TWO_ALIGNED, Counted, assert_same_frames, awake, one_scene
from tests.restoration.conftest import restored_from
from unsmear.engines.base import TorchEngine
from unsmear.models.flow import clip_motion
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import DeblurNetwork, join_frames, pad_to_multiple
from unsmear.restoration import scene, tiles
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.store import FeatureStore
from unsmear.restoration.stream import (
    describe_scenes,
    restore_stream,
)
from unsmear.restoration.tiles import TileSize

ROUNDING = 2e-4  # random trails, from neighbours with rounding errors of their own


def alone(refine: int) -> QualityOptions:
    """Refinement without burst."""
    return QualityOptions(refine=refine, burst=0)


def once_more(network: DeblurNetwork, clip: Tensor, seen: Tensor, window: int) -> Tensor:
    """Another round, computed directly: own features, with the neighbours in `seen`."""
    frames, _, height, width = clip.shape
    multiple, side = network.config.size_multiple, network.config.neighbours
    blurry, beside = pad_to_multiple(clip, multiple), pad_to_multiple(seen, multiple)
    motion = clip_motion(beside[None])
    encoded = [network.encode(frame[None]) for frame in blurry]
    out = []
    for index in range(frames):
        span = range(max(index - window // 2, 0), min(index + window // 2 + 1, frames))
        context = network.mix(join_frames([network.squeeze(encoded[i]) for i in span]))
        around = [index + offset for offset in range(-side, side + 1) if offset]
        local = tuple(encoded[min(max(i, 0), frames - 1)].local for i in around)
        before = beside[index - 1 : index] if index else None
        after = beside[index + 1 : index + 2] if index + 1 < frames else None
        triple = (before, blurry[index : index + 1], after)
        moving = motion[index : index + 1]
        found = Neighbourhood.gathered(network.config, triple, local, moving)
        out.append(network.restore(encoded[index], context, found)[0, :, :height, :width])
    return torch.stack(out).clamp(0, 1)


@settings(max_examples=8)
@given(
    frames=st.integers(1, 6),
    height=st.integers(3, 30),
    width=st.integers(3, 30),
    window=st.sampled_from([1, 3, 9]),
    refine=st.integers(1, 2),
    workers=st.integers(1, 3),
)
def test_streamed_equals_all_at_once(frames, height, width, window, refine, workers):
    network = awake(TWO_ALIGNED)
    clip = one_scene(frames, height, width)
    expected = torch.stack(list(restore_stream(network, clip, window)))
    for _ in range(refine):
        expected = (expected + once_more(network, clip, expected, window)) / 2
    engine = TorchEngine(network, workers=workers)
    found = torch.stack(list(restore_stream(engine, clip, window, quality=alone(refine))))
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)


def test_what_training_shows_is_what_is_shown():
    """`forward` over the whole clip, given the restored frames, computes the same."""
    network = awake(TWO_ALIGNED)
    clip = one_scene(5, 16, 24)
    once = network(clip[None]).clamp(0, 1)  # the result is half first pass, half second
    again = network(clip[None], motion=clip_motion(once), seen=once)[0].clamp(0, 1)
    found = torch.stack(list(restore_stream(network, clip, 9, quality=alone(1))))
    torch.testing.assert_close(found, (once[0] + again) / 2, rtol=0, atol=ROUNDING)
    assert (found - once[0]).abs().max() > 1e-3


@settings(max_examples=5)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=2),
    refine=st.integers(1, 3),
    burst=st.integers(0, 2),
    first=st.integers(0, 9),
    window=st.sampled_from([1, 5, "all"]),
)
def test_a_stream_is_the_same_wherever_it_begins(lengths, refine, burst, first, window):
    """Bit for bit, given the frames before it that `frames_before` asks for."""
    network, quality = awake(TWO_ALIGNED), QualityOptions(refine=refine, burst=burst)
    clip = torch.cat([one_scene(length, 16, 24) for length in lengths])
    scenes = describe_scenes(network, clip) if window == "all" else ()
    whole = list(restore_stream(network, clip, window, scenes=scenes, quality=quality))
    first = min(first, len(clip) - 1)
    found = restored_from(first, network, clip, window, quality, scenes=scenes)
    assert_same_frames(found, whole[first:])


@pytest.mark.parametrize("window", [5, "all"])
def test_scenes_never_mix(window):
    network, quality = awake(TWO_ALIGNED), QualityOptions(refine=2, burst=1)
    first, *others = (one_scene(4, 16, 24) for _ in range(3))

    def restored(clip):
        scenes = describe_scenes(network, clip)
        assert scenes[0].frames == 4
        known = scenes if window == "all" else ()
        return list(restore_stream(network, clip, window, scenes=known, quality=quality))[:4]

    alone = restored(first)
    for other in others:
        assert_same_frames(restored(torch.cat((first, other))), alone)


def test_tiles_and_features_that_are_made_again_change_nothing(monkeypatch, tmp_path):
    network = awake(TWO_ALIGNED)
    clip = one_scene(4, 40, 56)
    whole = torch.stack(list(restore_stream(network, clip, 3, quality=alone(1), tiling="off")))
    tiled = restore_stream(network, clip, 3, quality=alone(1), tiling=TileSize(24, 32))
    torch.testing.assert_close(torch.stack(list(tiled)), whole, rtol=0, atol=2e-3)
    with FeatureStore.opened(tmp_path, 1 << 30) as store:
        scenes = describe_scenes(network, clip, store=store, tiling="off")
        kept = restore_stream(
            network, clip, "all", scenes=scenes, store=store, quality=alone(1), tiling="off"
        )
        wide = restore_stream(network, clip, 9, quality=alone(1), tiling="off")
        expected = torch.stack(list(wide))
        torch.testing.assert_close(torch.stack(list(kept)), expected, rtol=0, atol=ROUNDING)
    monkeypatch.setattr(scene, "MOST_KEPT", 0)
    monkeypatch.setattr(scene, "MOST_KEPT_WHOLE", 0)
    dropped = torch.stack(list(restore_stream(network, clip, 3, quality=alone(1), tiling="off")))
    torch.testing.assert_close(dropped, whole, rtol=0, atol=ROUNDING)


def test_a_broken_frame_does_not_spoil_its_neighbours():
    class Broken(TorchEngine):
        """Returns NaN for an all-white frame."""

        def decode_level(self, level, features, below, context):
            out = super().decode_level(level, features, below, context)
            return out * torch.nan if level == 0 and below[-1][:, 3:6].min() == 1 else out

    clip = one_scene(5, 16, 16)
    clip[2] = 1.0
    found = list(restore_stream(Broken(awake(TWO_ALIGNED)), clip, 3, quality=alone(2)))
    assert [bool(frame.isfinite().all()) for frame in found] == [True, True, False, True, True]


def test_memory_does_not_grow_with_the_length():
    frames = Counted(one_scene(16, 16, 16))
    engine = TorchEngine(awake(TWO_ALIGNED), workers=2)
    for done, _ in enumerate(
        restore_stream(engine, frames, 5, quality=QualityOptions(refine=2, burst=1)), 1
    ):
        assert frames.taken <= done + 2 + 2 + 1 + 3 + 2
    assert done == 16


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
@pytest.mark.parametrize("config", [SMALL, TWO_ALIGNED], ids=["plain", "aligned"])
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

    assert torch.equal(restored(2 if tiling == "auto" else 3), restored(1))


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
