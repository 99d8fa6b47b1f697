"""The maps are those that the network used: combined again, they give its output."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import ALIGNED, SMALL, TRAILS, awake, one_scene
from unsmear.errors import ConfigError
from unsmear.explain.maps import (
    FrameMaps,
    LevelMaps,
    explain_frame,
    half_weight_share,
    most_changed,
)
from unsmear.explain.window import FrameWindow
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import DeblurNetwork, pad_to_multiple
from unsmear.restoration.stream import restore_stream
from unsmear.restoration.tiles import TileSize


def window_of(clip: Tensor, number: int, window: int, side: int) -> FrameWindow:
    """The window, as `read_window` reads it from a file."""
    ahead = max(window // 2, side)
    first = max(number - ahead, 0)
    return FrameWindow(clip[first : number + ahead + 1], first, number - first, window)


def explained(network: DeblurNetwork) -> tuple[FrameMaps, Tensor]:
    """The third of five frames that differ strongly, so that mixing them up would show."""
    clip = torch.rand(5, 3, 22, 30) * torch.linspace(0.2, 1, 5)[:, None, None, None]
    return explain_frame(network, window_of(clip, 2, 5, network.config.neighbours)), clip


@pytest.fixture
def choosy() -> DeblurNetwork:
    """A network with very uneven attention over places, frames and elements."""
    network = awake()
    for level in SMALL.attention_levels:
        for part in network.attention(level).children():
            part.weight.mul_(30)
        network.merges[str(level)].weight.mul_(10)
    return network


def test_maps_sum_to_one_over_the_axis_of_their_softmax(choosy):
    maps, _ = explained(choosy)
    assert [level.level for level in maps.levels] == [1, 2]
    for level, stride in zip(maps.levels, (4, 8), strict=True):
        h, w = 24 // stride, 32 // stride
        assert level.stride == stride
        assert level.spatial.shape == (5, 3, h, w)
        assert level.temporal.shape == (2, 5)
        assert level.pixelwise.shape == (3, 2, h, w)
        for sums in (
            level.spatial.sum(dim=(-2, -1)),
            level.temporal.sum(dim=-1),
            level.pixelwise.sum(dim=(0, 1)),
            level.frame_shares.sum(dim=0),
        ):
            torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-5)
        for weights in (level.spatial, level.temporal, level.pixelwise):
            assert weights.max() > 1.2 * weights.mean()  # and they are not constant


def test_maps_put_together_again_give_the_output_of_the_network(choosy):
    network = choosy
    maps, clip = explained(network)
    encoded = network.encode(pad_to_multiple(clip, 8))
    current = type(encoded)(encoded.frame[2:3], tuple(level[2:3] for level in encoded.features))
    around = Neighbourhood((encoded.local[1:2], encoded.local[3:4]))

    def output(levels: tuple[LevelMaps, ...]) -> Tensor:
        contexts = []
        for level in levels:
            features = encoded.features[level.level]
            squeezed = torch.einsum("tmhw,tchw->tmc", level.spatial, features)  # eq. 2
            context = torch.einsum("nt,tmc->mnc", level.temporal, squeezed)  # eq. 4
            contexts.append(context.flatten(0, 1)[None])
            taken = torch.einsum("mnc,mnhw->chw", context, level.pixelwise)  # eq. 6
            own = network.attention(level.level).distribute(features[2:3], contexts[-1])[0]
            torch.testing.assert_close(taken, own, rtol=0, atol=1e-5)
        out = network.restore(current, tuple(contexts), around)
        return out[0, :, :22, :30].clamp(0, 1)

    torch.testing.assert_close(output(maps.levels), maps.after, rtol=0, atol=1e-5)
    torch.testing.assert_close(network(clip[None])[0, 2].clamp(0, 1), maps.after, rtol=0, atol=1e-5)
    # and only these maps match
    for change in ({"temporal": lambda x: x.flip(1)}, {"spatial": lambda x: x.flip(0)}):
        wrong = tuple(
            dataclasses.replace(
                level, **{name: turn(getattr(level, name)) for name, turn in change.items()}
            )
            for level in maps.levels
        )
        assert (output(wrong) - maps.after).abs().max() > 1e-3


@given(
    frames=st.integers(1, 6),
    number=st.integers(0, 5),
    window=st.sampled_from([1, 3, 7]),
    neighbours=st.integers(0, 2),
    base=st.sampled_from([SMALL, TRAILS, ALIGNED]),
)
def test_after_is_what_restoring_the_clip_gives(frames, number, window, neighbours, base):
    network = awake(dataclasses.replace(base if neighbours else SMALL, neighbours=neighbours))
    clip, number = one_scene(frames, 10, 18), min(number, frames - 1)
    maps = explain_frame(network, window_of(clip, number, window, neighbours), tiling="off")
    streamed = list(restore_stream(network, clip, window, tiling="off"))
    torch.testing.assert_close(maps.after, streamed[number], rtol=0, atol=5e-5)
    assert maps.levels[0].temporal.shape[1] == len(maps.window.attended)


def test_tiles_change_nothing(network):
    window = window_of(one_scene(3, 150, 90), 1, 3, 1)
    whole = explain_frame(network, window, tiling="off", pixel=(70, 80))
    tiled = explain_frame(network, window, tiling=TileSize(64, 64), pixel=(70, 80))
    torch.testing.assert_close(tiled.after, whole.after, rtol=0, atol=1e-5)
    for one, other in zip(tiled.levels, whole.levels, strict=True):
        torch.testing.assert_close(one.spatial, other.spatial, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(one.pixelwise, other.pixelwise, rtol=0, atol=1e-5)


def test_one_level_alone_is_explained_as_beside_others(network):
    window = window_of(one_scene(3, 16, 16), 1, 3, 1)
    both, one = explain_frame(network, window), explain_frame(network, window, level=2)
    assert [level.level for level in one.levels] == [2]
    assert torch.equal(one.levels[0].pixelwise, both.levels[1].pixelwise)
    assert torch.equal(one.after, both.after)
    with pytest.raises(ConfigError, match=r"level is 0: levels .*: 1, 2"):
        explain_frame(network, window, level=0)


def test_pixel_must_lie_in_the_frame(network):
    window = window_of(one_scene(1, 16, 24), 0, 1, 1)
    assert explain_frame(network, window, pixel=(23, 15)).field.pixel == (23, 15)
    with pytest.raises(ConfigError, match="pixel is 24,0: frames are 24x16, so X must be 0 to 23"):
        explain_frame(network, window, pixel=(24, 0))
    with pytest.raises(ConfigError, match=r"pixel is 0,16: .* Y 0 to 15"):
        explain_frame(network, window, pixel=(0, 16))


def test_a_network_without_attention_has_no_maps():
    network = awake(dataclasses.replace(SMALL, attention_levels=()))
    maps, _ = explained(network)
    assert maps.levels == ()
    assert not maps.field.attention.any()
    assert maps.field.local.any()


def test_strongest_and_effective_against_known_choices():
    sure = torch.zeros(2, 3, 1, 2)
    sure[1, 2, 0, 0] = 1  # place 0: element m=1, n=2
    sure[:, :, 0, 1] = 1 / 6  # place 1: all equal
    sure[0, 1, 0, 1] += 1e-4
    level = LevelMaps(0, 2, torch.ones(1, 2, 1, 2) / 2, torch.eye(3), sure)
    assert level.strongest.tolist() == [[1 * 3 + 2, 0 * 3 + 1]]
    torch.testing.assert_close(level.effective, torch.tensor([[1.0, 6.0]]), rtol=1e-3, atol=0)
    # Temporal map n selects frame n alone, so place 0 took from frame 2 alone.
    assert level.frame_shares[:, 0, 0].tolist() == [0, 0, 1]


def test_half_the_weight_lies_on_as_few_places_as_possible():
    assert half_weight_share(torch.full((10, 10), 0.01)) == pytest.approx(0.5, abs=0.011)
    spot = torch.full((10, 10), 0.4 / 99)
    spot[3, 4] = 0.6
    assert half_weight_share(spot) == pytest.approx(0.01)


def test_most_changed_is_a_patch_not_a_pixel():
    before = torch.zeros(3, 40, 60)
    after = before.clone()
    after[:, 5, 7] = 1.0  # one noisy pixel
    after[:, 26:35, 46:55] = 0.5
    assert most_changed(before, after) == most_changed(after, before) == (50, 30)
    assert most_changed(before, before) == (30, 20)
    after[:, :5, :5] = 0.6  # all of the patch around the corner
    assert most_changed(before, after) == (0, 0)
