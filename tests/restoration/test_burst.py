"""Burst: restored frames are fused with what their neighbours show sharper, and nothing else."""

from __future__ import annotations

import dataclasses
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.conftest import ALIGNED, TRAILS, Counted, assert_same_frames, awake, one_scene
from tests.models.test_polish import TINY, lively
from tests.restoration.conftest import restored_from
from unsmear.demo import shaky_clip
from unsmear.engines.base import TorchEngine
from unsmear.errors import ConfigError
from unsmear.evaluate.metrics import psnr
from unsmear.models.flow import luma_of
from unsmear.models.polish import PolishConfig, PolishNetwork
from unsmear.models.zoo import load_model
from unsmear.restoration import burst
from unsmear.restoration.burst import (
    Corrections,
    accumulate,
    accumulate_bursts,
    aligned,
    fusions_of,
)
from unsmear.restoration.overlap import Workers
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.stream import (
    describe_scenes,
    frames_before,
    restore_stream,
)
from unsmear.restoration.tiles import TileSize


def texture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """A grey image (3, H, W), 0..1, with detail at several scales."""
    random = torch.Generator().manual_seed(seed)
    layers = [
        functional.interpolate(
            torch.rand(1, 1, -(-height // size) + 1, -(-width // size) + 1, generator=random),
            scale_factor=size,
            mode="bicubic",
        )[0, :, :height, :width]
        for size in (4, 8, 16, 32)
    ]
    return torch.stack(layers).mean(0).clamp(0, 1).expand(3, -1, -1)


def smeared(picture: torch.Tensor, along: int) -> torch.Tensor:
    """Motion blur of 9 pixels along rows (0) or columns (1)."""
    size = [1, 1]
    size[1 - along] = 9
    kernel = torch.full((3, 1, *size), 1 / 9)
    pad = (4, 4, 0, 0) if along == 0 else (0, 0, 4, 4)
    padded = functional.pad(picture[None], pad, mode="replicate")
    return functional.conv2d(padded, kernel, groups=3)[0]


@given(
    height=st.integers(1, 3), width=st.integers(1, 3), neighbours=st.integers(1, 4),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_windows_equal_a_plain_loop(height, width, neighbours, seed):
    """Each 64x64 window on its own, with numpy in double precision."""
    height, width = 17 * height, 19 * width
    random = np.random.default_rng(seed)
    stack = random.random((neighbours + 1, height, width))
    padded = np.pad(stack, ((0, 0), (32, 96), (32, 96)), mode="edge")
    bell = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 64))
    taper = bell[:, None] * bell
    out = np.zeros(padded.shape[1:])
    for top in range(0, height + 32, 32):
        for left in range(0, width + 32, 32):
            place = (slice(top, top + 64), slice(left, left + 64))
            spectra = [np.fft.rfft2(one[place] * taper, norm="ortho") for one in padded]
            powers = []
            for spectrum in spectra:
                power = np.pad(np.abs(spectrum) ** 2, 1)
                around = [
                    power[row : row + 64, column : column + 33]
                    for row in range(3)
                    for column in range(3)
                ]
                powers.append(sum(around) / 9 + 2.5e-5)
            weights = [np.full_like(powers[0], np.exp(2.5))]
            weights += [np.minimum(one / powers[0], 1e6) ** 5 for one in powers[1:]]
            joined = sum(w * s for w, s in zip(weights, spectra, strict=True)) / sum(weights)
            out[place] += np.fft.irfft2(joined, s=(64, 64), norm="ortho") * taper
    found = accumulate(
        torch.from_numpy(stack[0]).float(), torch.from_numpy(stack[1:]).float()
    ).numpy()
    wanted = out[32 : 32 + height, 32 : 32 + width]
    wanted = np.clip(wanted, stack.min(axis=0) - 0.01, stack.max(axis=0) + 0.01)
    np.testing.assert_allclose(found, wanted, atol=2e-4)


def test_what_one_frame_lost_another_lends():
    """One scene, blurred along rows, along columns and along rows again."""
    truth = texture(96, 128)
    clip = [smeared(truth, along) for along in (0, 1, 0)]
    before = [psnr(frame, truth) for frame in clip]
    after = [psnr(frame, truth) for frame in accumulate_bursts(clip, 1)]
    assert min(a - b for a, b in zip(after, before, strict=True)) > 2


def test_a_neighbour_that_moved_is_warped_to_fit():
    large = texture(128, 160)
    sharp = [large[:, 16:112, 16 + 3 * n : 144 + 3 * n] for n in range(3)]
    clip = [smeared(frame, n % 2) for n, frame in enumerate(sharp)]
    restored = list(accumulate_bursts(clip, 1))
    assert psnr(restored[1], sharp[1]) > psnr(clip[1], sharp[1]) + 2


def test_frames_that_are_alike_stay_as_they_are():
    clip = [texture(70, 50)] * 4
    for frame in accumulate_bursts(clip, 2):
        torch.testing.assert_close(frame, clip[0], rtol=0, atol=2e-5)


def test_what_a_neighbour_does_not_show_is_not_taken_from_it():
    """Something bright hides half of the neighbour."""
    own = texture(64, 96)[None, :1]
    neighbour = smeared(own[0].expand(3, -1, -1), 0)[None, :1].clone()
    neighbour[..., 48:] = 1
    still = torch.zeros(1, 2, 8, 12)
    found = aligned(own, neighbour, still)
    assert (found - own)[..., 60:].abs().max() < 1e-3
    shown = (neighbour - own)[..., :36]
    assert (found - own)[..., :36].abs().mean() > 0.8 * shown.abs().mean()


def test_where_the_motion_is_torn_nothing_is_taken():
    """A thin line hardly differs between the frames, but around it the motion is discontinuous."""
    own = torch.full((1, 1, 64, 96), 0.5)
    neighbour = own.clone()
    neighbour[..., 40] = 0.4
    motion = torch.zeros(1, 2, 8, 12)
    line = (aligned(own, neighbour, motion) - own)[..., 40]
    assert line.mean() < -0.08
    motion[:, 0, :, 5] = 6
    assert (aligned(own, neighbour, motion) - own).abs().max() < 1e-3


def test_no_value_lies_beyond_those_that_went_into_it():
    """A misaligned edge would ring through its window."""
    own, neighbour = torch.zeros(64, 64), torch.zeros(1, 64, 64)
    own[:, 30:] = 0.5
    neighbour[:, :, 34:] = 1
    found = accumulate(own, neighbour)
    assert (found[:, :28] - 0).abs().max() <= 0.0101
    assert found.max() <= 1.0101


def test_saturated_parts_stay_within_the_range():
    hard = (4 * texture(64, 96) - 1.5).clamp(0, 1)
    clip = [smeared(hard, 0), hard, smeared(hard, 1)]
    for frame in accumulate_bursts(clip, 1):
        assert 0 <= frame.min() <= frame.max() <= 1


def test_one_of_other_content_changes_nothing_visible():
    clip = [texture(64, 64, 1), texture(64, 64, 2), texture(64, 64, 3)]
    restored = list(accumulate_bursts(clip, 1))
    assert psnr(restored[1], clip[1]) > 32


@given(
    count=st.integers(0, 7), burst=st.integers(1, 4), skipped=st.integers(0, 5),
    threads=st.integers(1, 3),
)  # fmt: skip
def test_one_after_the_other_is_all_at_once(count, burst, skipped, threads):
    """Each frame depends only on its neighbours, whatever the clip's length, the start and the
    workers.
    """
    clip = [smeared(texture(24, 40, 5) + 0.01 * n, n % 2) for n in range(count)]
    frames = Counted(clip)

    with Workers(threads) as workers:
        found = []
        for frame in accumulate_bursts(frames, burst, workers, skipped):
            found.append(frame)
            assert frames.taken <= skipped + len(found) + burst + threads - 1
    assert len(found) == max(count - skipped, 0)
    for number, frame in enumerate(found, start=skipped):
        around = clip[max(number - burst, 0) : number + burst + 1]
        place = min(number, burst)
        assert torch.equal(frame, list(accumulate_bursts(around, burst))[place])


def test_a_broken_frame_neither_lends_nor_spoils_others():
    spot = texture(40, 40, 1).clone()
    spot[0, 7, 9] = torch.inf
    for broken in (torch.full_like(spot, torch.nan), spot):
        clip = [texture(40, 40), broken, texture(40, 40)]
        restored = list(accumulate_bursts(clip, 1))
        for found, wanted in zip(restored, clip, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


@settings(max_examples=8)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=2),
    burst=st.integers(0, 3),
    first=st.integers(0, 20),
    window=st.sampled_from([1, 5, "all"]),
)
def test_a_stream_is_each_scene_by_itself_wherever_it_begins(lengths, burst, first, window):
    """Bit for bit, given the frames before it that `frames_before` asks for. Scenes never mix."""
    network = awake(TRAILS)
    clip = torch.cat([one_scene(length, 16, 24) for length in lengths])
    scenes = describe_scenes(network, clip)
    known = scenes if window == "all" else ()
    plain = list(restore_stream(network, clip, window, scenes=known))
    parts = torch.stack(plain).split([scene.frames for scene in scenes])
    expected = [frame for part in parts for frame in accumulate_bursts(part, burst)]
    first = min(first, len(clip) - 1)
    found = restored_from(first, network, clip, window, QualityOptions(burst=burst), scenes=known)
    assert_same_frames(found, expected[first:])


def test_tiles_and_workers_change_nothing():
    network = awake(TRAILS)
    clip, quality = one_scene(5, 40, 56), QualityOptions()
    whole = torch.stack(list(restore_stream(network, clip, 3, quality=quality, tiling="off")))
    engine = TorchEngine(network, workers=3)
    tiled = restore_stream(engine, clip, 3, quality=quality, tiling=TileSize(24, 32))
    torch.testing.assert_close(torch.stack(list(tiled)), whole, rtol=0, atol=1e-3)


class Returned(PolishNetwork):
    """Returns some of what it is given, in place of a correction."""

    def __init__(self, channels: slice, *, told: bool = False, passes: int = 1) -> None:
        config = PolishConfig(width=2, blocks=1, deep_blocks=1, kernel=1, told=told, passes=passes)
        super().__init__(config)
        self._channels = channels

    def forward(self, fusion: torch.Tensor) -> torch.Tensor:
        return fusion[:, self._channels]


FUSED, BLURRY, RESTORED = Returned(slice(0, 3)), Returned(slice(3, 6)), Returned(slice(6, 9))


@settings(max_examples=8)
@given(
    lengths=st.lists(st.integers(2, 6), min_size=1, max_size=2),
    quality=st.builds(
        QualityOptions, burst=st.integers(1, 3), ensemble=st.sampled_from([1, 2]),
        refine=st.integers(0, 1), polish=st.just(True),
    ),
    first=st.integers(0, 20),
    window=st.sampled_from([1, 5, "all"]),
    workers=st.integers(1, 3),
)  # fmt: skip
def test_frames_to_polish_meet_the_frames_they_came_from(lengths, quality, first, window, workers):
    """Wherever a stream begins and whatever runs before: a network that returns the blurry frame
    gives the clip back, and one that returns the restored or the fused one changes nothing.
    """
    network = awake(ALIGNED)
    engine = TorchEngine(network, workers=workers)
    clip = torch.cat([one_scene(length, 13, 22) for length in lengths])
    scenes = describe_scenes(network, clip, ensemble=quality.ensemble)
    first = min(first, len(clip) - 1)

    def restored(quality, polish=None):
        lead = min(first, frames_before(network, window, quality))
        return [
            *restore_stream(
                engine, clip[first - lead :], window, quality=quality, polish=polish,
                scenes=scenes if window == "all" else (), first=first - lead, lead=lead,
            )
        ]  # fmt: skip

    assert_same_frames(restored(quality, BLURRY), clip[first:].clamp(0, 1))
    plain = dataclasses.replace(quality, polish=False)
    assert_same_frames(restored(quality, FUSED), restored(plain))
    alone = [frame.clamp(0, 1) for frame in restored(dataclasses.replace(plain, burst=0))]
    assert_same_frames(restored(quality, RESTORED), alone)


def test_a_network_that_must_be_told_needs_reblurring():
    with pytest.raises(ConfigError, match="must be told what reblurring finds: set reblur"):
        next(
            restore_stream(
                awake(ALIGNED), one_scene(3, 16, 16), 1, quality=QualityOptions(polish=True),
                polish=Returned(slice(0, 3), told=True),
            )
        )  # fmt: skip


def test_a_frame_by_itself_is_not_polished():
    frame = texture(24, 40)
    corrections = Corrections(iter([smeared(frame, 0)]), lively())
    assert_same_frames(accumulate_bursts([frame], 2, corrections=corrections), [frame])


@pytest.mark.parametrize("told", [False, True])
def test_polishing_in_tiles_is_polishing_as_a_whole(monkeypatch, told):
    network, truth = lively(dataclasses.replace(TINY, told=told), 0.05), texture(150, 202)
    clip = [smeared(truth, n % 2) for n in range(3)]

    def polished():
        corrections = Corrections(iter(clip), network, reblur=told)
        return [*accumulate_bursts(clip, 1, corrections=corrections)][1]

    whole = polished()
    assert psnr(whole, [*accumulate_bursts(clip, 1)][1]) < 40
    monkeypatch.setattr(burst, "_TILE", TileSize(64, 96))
    torch.testing.assert_close(polished(), whole, rtol=0, atol=1e-5)


def test_training_sees_what_restoration_polishes():
    """`fusions_of` stacks for each frame what reaches the network while a clip is restored."""
    truth = texture(48, 64)
    clip = [smeared(truth, n % 2) + 0.02 * n for n in range(4)]
    blurry = [smeared(frame, 0) for frame in clip]
    seen = []

    class Noted(Returned):
        def forward(self, fusion):
            seen.append(fusion[0].clone())
            return super().forward(fusion)

    for told in (True, False):
        corrections = Corrections(iter(blurry), Noted(slice(0, 3), told=told), reblur=told)
        fused = list(accumulate_bursts(clip, 2, corrections=corrections))
    with_evidence, without = seen[:4], seen[4:]
    for network, places, wanted in (
        (FUSED, (3, 1), [without[3], without[1]]),
        (Returned(slice(0, 3), told=True), range(4), with_evidence),
    ):
        found = fusions_of(clip, blurry, 2, places, network)
        assert_same_frames([one for (one,) in found], wanted)
    for found, other in zip(with_evidence, without, strict=True):
        assert torch.equal(found[:13], other)
        assert (found[13:].abs().amax((1, 2)) > 0.01).all()
    for number, found in enumerate(without):
        assert torch.equal(found[:3], fused[number])
        assert torch.equal(found[3:6], blurry[number])
        assert torch.equal(found[6:9], clip[number])
        # Before and after, then the second ones; the frame itself where the scene has none.
        own = luma_of(clip[number][None])[0, 0]
        for place, other in enumerate((number - 1, number + 1, number - 2, number + 2), start=9):
            assert torch.equal(found[place], own) == (not 0 <= other < len(clip))


def test_later_passes_correct_what_the_one_before_gave():
    truth = texture(48, 64)
    clip = [smeared(truth, n % 2) for n in range(3)]
    blurry = [smeared(frame, 0) for frame in clip]
    seen = []

    class Halfway(Returned):
        def forward(self, fusion):
            seen.append(fusion[0].clone())
            return fusion[:, :3].lerp(fusion[:, 3:6], 0.5)

    network = Halfway(slice(0, 3), told=True, passes=3)
    corrections = Corrections(iter(blurry), network, reblur=True)
    frames = list(accumulate_bursts(clip, 1, corrections=corrections))
    passes = [seen[3 * number : 3 * number + 3] for number in range(3)]
    seen.clear()
    for number, found in enumerate(fusions_of(clip, blurry, 1, range(3), network)):
        assert_same_frames(found, passes[number])
    assert len(seen) == 3 * 2
    for number, (first, second, third) in enumerate(passes):
        for before, after in ((first, second), (second, third)):
            wanted = before[:3].lerp(before[3:6], 0.5)
            torch.testing.assert_close(after[:3], wanted, rtol=0, atol=1e-6)
            assert torch.equal(after[3:13], before[3:13])
            assert (after[13:] - before[13:]).abs().max() > 0.01
        # What the last pass gave is then corrected by reblurring, which changes luma alone.
        change = frames[number] - third[:3].lerp(third[3:6], 0.5)
        torch.testing.assert_close(change, change[:1].expand(3, -1, -1), rtol=0, atol=1e-6)


def test_released_weights_bring_results_of_released_networks_nearer_to_the_truth():
    model, (blurry, sharp) = load_model("lite"), shaky_clip(5, 192, 256)
    quality = QualityOptions()

    def means(quality):
        frames = restore_stream(model.network, blurry, model.window, quality=quality)
        return fmean(psnr(*both) for both in zip(frames, sharp, strict=True))

    assert means(dataclasses.replace(quality, polish=True)) > means(quality) + 0.1
