"""An ensemble is the mean over views restored separately, streamed or not."""

from __future__ import annotations

import weakref
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SMALL, TRAILS, TWO_ALIGNED, Counted, awake, one_scene
from tests.restoration.conftest import restored_from
from unsmear.engines.base import TorchEngine
from unsmear.errors import ConfigError
from unsmear.restoration.burst import accumulate_bursts
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.store import FeatureStore
from unsmear.restoration.stream import (
    describe_scenes,
    restore_stream,
)
from unsmear.restoration.tiles import TileSize
from unsmear.restoration.views import ENSEMBLES, View, views_of


def one_by_one(network, clip, ensemble, window):
    """A clip of one scene, with each view restored in a run of its own."""
    total = torch.zeros_like(clip)
    for view in views_of(ensemble):
        seen = view.of(clip)
        scenes = describe_scenes(network, seen) if window == "all" else ()
        restored = torch.stack(list(restore_stream(network, seen, window, scenes=scenes)))
        total += view.back(restored)
    return total / ensemble


def test_the_eight_views_are_all_there_are():
    frame = torch.arange(12.0).view(1, 3, 4)
    seen = [view.of(frame) for view in views_of(8)]
    assert len({tuple(one.flatten().tolist()) for one in seen}) == 8
    for view, one in zip(views_of(8), seen, strict=True):
        assert torch.equal(view.back(one), frame)
    assert torch.equal(seen[0], frame)
    assert torch.equal(seen[1], frame.flip(-1, -2))
    assert views_of(1) == (View(0, mirrored=False),)
    for small, large in pairwise(ENSEMBLES):
        assert views_of(large)[:small] == views_of(small)


@settings(max_examples=5)
@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    ensemble=st.sampled_from([2, 4, 8]),
    window=st.sampled_from([1, 5, "all"]),
    burst=st.integers(0, 2),
    first=st.integers(0, 7),
)
def test_streamed_equals_each_view_by_itself(lengths, ensemble, window, burst, first):
    """Wherever the stream begins, and scenes never mix. Bit for bit for one scene. Window sums
    merge by frame number, so a second scene differs by rounding from the same scene alone.
    """
    network = awake(TRAILS)
    parts = [one_scene(length, 16, 24) for length in lengths]
    clip = torch.cat(parts)
    scenes = describe_scenes(network, clip, ensemble=ensemble)
    parts = clip.split([scene.frames for scene in scenes])
    expected = [
        frame
        for part in parts
        for frame in accumulate_bursts(one_by_one(network, part, ensemble, window), burst)
    ]
    first = min(first, len(clip) - 1)
    quality, known = QualityOptions(ensemble=ensemble, burst=burst), ()
    if window == "all":
        known = scenes
    found = restored_from(first, network, clip, window, quality, scenes=known)
    exact = burst == 0 and len(parts) == 1
    torch.testing.assert_close(found, expected[first:], rtol=0, atol=0 if exact else 2e-6)


@pytest.mark.parametrize(
    ("config", "ensemble"),
    [(SMALL, 4), (SMALL, 8), (TRAILS, 4), (TWO_ALIGNED, 8)],
    ids=["plain-4", "plain-8", "trails-4", "aligned-8"],
)
def test_what_is_turned_is_restored_alike(config, ensemble):
    """A network alone is not equivariant to rotation."""
    network, clip = awake(config), one_scene(2, 16, 24)
    turned = views_of(4)[2]

    def difference(views):
        quality = QualityOptions(ensemble=views, burst=0)
        upright, other = (
            torch.stack(list(restore_stream(network, seen, 3, quality=quality)))
            for seen in (clip, turned.of(clip))
        )
        return float((turned.back(other) - upright).abs().max())

    assert difference(1) > 1e-3
    assert difference(ensemble) < 1e-5


@pytest.mark.parametrize("window", [3, "all"])
@pytest.mark.parametrize("config", [SMALL, TWO_ALIGNED], ids=["plain", "aligned"])
def test_tiles_workers_and_kept_features_change_nothing(config, tmp_path, window):
    network = awake(config)
    clip, quality = one_scene(3, 40, 56), QualityOptions(ensemble=4, burst=0)

    def restored(model, tiling, store=None):
        scenes = ()
        if window == "all":
            scenes = describe_scenes(model, clip, tiling=tiling, ensemble=4, store=store)
        stream = restore_stream(
            model, clip, window, scenes=scenes, store=store, tiling=tiling, quality=quality
        )
        return torch.stack(list(stream))

    whole = restored(network, "off")
    with FeatureStore.opened(tmp_path) as store:
        tiled = restored(TorchEngine(network, workers=3), TileSize(24, 32), store)
        assert len(store) == (3 if window == "all" else 0)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-4)


def test_views_go_side_by_side(network):
    frames = Counted(one_scene(12, 16, 16))
    for done, _ in enumerate(
        restore_stream(network, frames, 5, quality=QualityOptions(ensemble=8, burst=0)), start=1
    ):
        assert frames.taken <= done + 2
    assert done == 12


@pytest.mark.parametrize("ensemble", [1, 4])
def test_frames_are_let_go_of_as_soon_as_all_views_had_them(network, ensemble):
    given = []

    def frames():
        for number in range(20):
            frame = torch.full((3, 16, 16), number / 20)
            given.append(weakref.ref(frame))
            yield frame

    most = 0
    for _ in restore_stream(
        network, frames(), 5, quality=QualityOptions(ensemble=ensemble, burst=1)
    ):
        most = max(most, sum(one() is not None for one in given))
    assert len(given) == 20
    assert most <= 7


@pytest.mark.parametrize("ensemble", [-1, 0, 3, 16, 2.0])
def test_there_are_one_two_four_or_eight(ensemble):
    with pytest.raises(ConfigError, match=f"ensemble is {ensemble}: must be 1"):
        views_of(ensemble)
    with pytest.raises(ConfigError, match="ensemble"):
        list(
            restore_stream(
                awake(), one_scene(3, 16, 16), 1, quality=QualityOptions(ensemble=ensemble)
            )
        )
