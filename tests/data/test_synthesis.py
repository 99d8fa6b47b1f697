from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from tests.conftest import picture
from tests.data.conftest import PLAIN, hand, photographs, psnr, shot, sliding
from unsmear.data import synthesis
from unsmear.data.generators import Generators
from unsmear.data.motion import Motion, draw_motion
from unsmear.data.night import Lamps
from unsmear.data.shake import exposure_times
from unsmear.data.synthesis import SynthesisConfig, Synthesizer, draw_blur_lengths
from unsmear.errors import ConfigError

CPU = torch.device("cpu")


def sharpness(clip):
    return float((clip[..., 1:] - clip[..., :-1]).square().mean())


def psnrs(one, two):
    return -10 * torch.log10((one - two).square().mean(dim=(1, 2, 3, 4)))


def test_a_camera_at_rest_sees_pixels_not_what_lies_between():
    still = torch.eye(3).expand(1, 1, 3, 3, 3)
    for size in (48, 49):
        assert synthesis._canvas_side(still, size) % 2 == size % 2


def test_what_smears_further_gets_more_sub_frames():
    still = torch.full((2,), 0.1)
    counts = [
        draw_motion(still, 2, 32, [], 0, Generators.seeded(0, CPU), further).times.shape[2]
        for further in (0, 12, 30, 500)
    ]
    assert counts == [7, 7, 15, 33]
    config = dataclasses.replace(PLAIN, object_share=1.0, blur_mean=32.0, blur_most=32.0)
    made = Synthesizer(config, photographs(), [], [], CPU)
    counted = []
    original = made._layer

    def layer(motion, *rest):
        counted.append((motion.times.shape[2], float(rest[1].max())))
        return original(motion, *rest)

    made._layer = layer
    for seed in range(4):
        made.batch(1, 2, 32, Generators.seeded(seed, CPU))
    assert len(counted) == 4
    assert all(2 * samples >= length for samples, length in counted)
    assert max(length for _, length in counted) > 20


def test_blur_lengths_follow_the_config():
    config = SynthesisConfig(sharp_share=0.25, blur_mean=5, blur_most=20)
    lengths = draw_blur_lengths(config, 20000, Generators.seeded(0, CPU))
    assert lengths.max() <= 20
    faint_of_long = 1 - torch.exp(torch.tensor(-1 / 5.0))
    expected = 0.25 + 0.75 * faint_of_long
    assert abs(float((lengths < 1).float().mean()) - float(expected)) < 0.02


def test_batches_have_the_promised_shape_range_and_steps():
    synthesizer = Synthesizer(
        SynthesisConfig(video_share=0.5), photographs(), [shot()], [hand()], CPU
    )
    random = Generators.seeded(1, CPU)
    for _ in range(3):
        blurry, sharp, *_ = synthesizer.batch(4, 3, 48, random)
        assert blurry.shape == sharp.shape == (4, 3, 3, 48, 48)
        assert torch.isfinite(blurry).all()
        for side in (blurry, sharp):
            assert side.min() >= 0
            assert side.max() <= 1
        steps = blurry * 255
        torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("video", [False, True])
def test_blur_blurs_and_the_sharp_frame_lies_at_mid_exposure(video):
    shots, pictures = ([shot()], []) if video else ([], photographs())
    config = dataclasses.replace(PLAIN, blur_mean=10, video_share=float(video))
    blurry, sharp, *_ = Synthesizer(config, pictures, shots, [], CPU).batch(
        8, 3, 64, Generators.seeded(2, CPU)
    )
    assert sharpness(blurry) < 0.85 * sharpness(sharp)
    # The blur is centred: the sharp frame fits better than the next one.
    late = torch.cat((sharp[:, 1:], sharp[:, :1]), dim=1)
    assert psnrs(blurry, sharp).mean() > psnrs(blurry, late).mean()


def test_without_motion_and_noise_nothing_is_lost():
    config = dataclasses.replace(PLAIN, blur_mean=1e-4, blur_most=1e-4)
    blurry, sharp, *_ = Synthesizer(config, photographs(), [], [], CPU).batch(
        4, 2, 48, Generators.seeded(0, CPU)
    )
    assert psnrs(blurry, sharp).min() > 50  # only 8-bit rounding


def test_same_seed_same_batch_and_state_can_be_restored():
    synthesizer = Synthesizer(SynthesisConfig(), photographs(), [shot()], [hand()], CPU)
    random = Generators.seeded(5, CPU)
    synthesizer.batch(2, 3, 32, random)
    saved = random.host.get_state(), random.device.get_state()
    first = synthesizer.batch(2, 3, 32, random)
    random.host.set_state(saved[0])
    random.device.set_state(saved[1])
    again = synthesizer.batch(2, 3, 32, random)
    for one, two in zip(first.tensors, again.tensors, strict=True):
        assert torch.equal(one, two)
    other = synthesizer.batch(2, 3, 32, Generators.seeded(6, CPU))
    assert not torch.equal(first[0], other[0])


def test_a_seed_gives_what_it_gave_before():
    """Changing these numbers changes what every seed trains on; model_cards/LADDER.md records when
    (last on 2026-11-29, with sharper sub-frames).
    """
    config = SynthesisConfig(video_share=0.5, object_share=0.8, relief_share=0.5)
    random = Generators.seeded(5, CPU)
    clips = Synthesizer(config, photographs(), [shot()], [hand()], CPU).batch(6, 3, 48, random)
    assert float(clips.blurry.mean()) == pytest.approx(0.4777053, abs=1e-4)
    assert float(clips.sharp.mean()) == pytest.approx(0.4670479, abs=1e-4)
    # A mean does not say where anything lies.
    weights = torch.rand(clips.sharp.shape, generator=torch.Generator().manual_seed(0))
    assert float((clips.sharp * weights).sum()) == pytest.approx(29091.32, abs=0.5)
    assert float(clips.trails.vectors.abs().mean()) == pytest.approx(1.115005, abs=1e-3)
    # The same count of random numbers was drawn.
    assert float(random.uniform(0, 1)) == pytest.approx(0.7092087, abs=1e-6)
    assert float(torch.rand((), generator=random.device)) == pytest.approx(0.8319810, abs=1e-6)


def test_curves_change_pictures_and_without_any_not_a_bit():
    config = SynthesisConfig(video_share=0.5, object_share=0.8)
    found = {}
    for share in (None, 0.0, 1.0):
        wanted = {} if share is None else {"curve_share": share}
        synthesizer = Synthesizer(
            dataclasses.replace(config, **wanted), photographs(), [shot()], [hand()], CPU
        )
        random = Generators.seeded(5, CPU)
        clips = synthesizer.batch(6, 2, 48, random)
        found[share] = (
            *clips.tensors,
            random.uniform(0, 1),
            torch.rand(1, generator=random.device),
        )
    for one, two in zip(found[None], found[0.0], strict=True):
        assert torch.equal(one, two)
    assert all(not torch.equal(found[0.0][side], found[1.0][side]) for side in (0, 1))


def test_a_curve_is_on_both_sides_and_nothing_is_lost_by_it():
    """A still image is unchanged except for its exposure, on both sides."""
    config = dataclasses.replace(PLAIN, blur_mean=1e-4, blur_most=1e-4, curve_share=1.0)
    blurry, sharp, *_ = Synthesizer(config, photographs(), [], [], CPU).batch(
        8, 2, 48, Generators.seeded(0, CPU)
    )
    assert psnrs(blurry, sharp).min() > 50  # only 8-bit rounding


def test_a_share_of_the_clips_has_curves_whichever_group_made_them():
    """Everything else stays: curves are drawn before anything that makes the images."""
    config = dataclasses.replace(PLAIN, video_share=0.5, curve_share=0.5)
    synthesizer = Synthesizer(config, photographs(), [shot()], [], CPU)
    seen = []
    whole = synthesizer._light
    synthesizer._light = lambda canvas, curves, random: (
        seen.append(curves.other) or whole(canvas, curves, random)
    )
    random = Generators.seeded(1, CPU)
    synthesizer.batch(24, 2, 32, random)
    assert sum(map(len, seen)) == 24
    assert 4 < int(torch.cat(seen).sum()) < 20


def test_bright_clips_are_clipped_on_both_sides():
    def white(share):
        config = dataclasses.replace(PLAIN, bright_share=share)
        clips = Synthesizer(config, photographs(), [], [], CPU).batch(
            8, 2, 48, Generators.seeded(0, CPU)
        )
        return [float((side > 0.999).double().mean()) for side in clips.pair]

    assert all(more > less + 0.05 for more, less in zip(white(1.0), white(0.0), strict=True))


def test_moving_layers_are_there():
    """A layer covers part of the image: some pixels differ."""
    still = dataclasses.replace(PLAIN, blur_mean=1e-4, blur_most=1e-4)
    with_layers = dataclasses.replace(still, object_share=1.0)
    pictures = [
        torch.full((3, 200, 260), 40, dtype=torch.uint8),
        torch.full((3, 200, 260), 220, dtype=torch.uint8),
    ]
    blurry, *_ = Synthesizer(with_layers, pictures, [], [], CPU).batch(
        8, 1, 64, Generators.seeded(1, CPU)
    )
    spread = blurry.flatten(1).std(dim=1)
    assert (spread > 0.05).any()
    assert (spread < 0.9).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sharp_share": 1.5}, "sharp_share"),
        ({"blur_mean": 0}, "blur_mean"),
        ({"blur_mean": 40.0}, "blur_most"),
        ({"blur_most": math.inf}, "blur_most inf: both must be finite and above 0"),
        ({"blur_mean": math.inf, "blur_most": math.inf}, "blur_mean is inf, .* must be finite"),
        ({"blur_mean": math.nan}, "blur_mean is nan"),
        ({"noise_most": math.nan}, "noise_most is nan"),
        ({"video_share": math.nan}, "video_share is nan"),
        ({"noise_most": -1}, "noise_most"),
        ({"coarse_share": 0.5}, "no clips are encoded: use 0, or a coder_share above 0"),
    ],
)
def test_impossible_configs_raise_when_made(change, message):
    with pytest.raises(ConfigError, match=message):
        SynthesisConfig(**change)


def test_no_sources_are_an_error():
    with pytest.raises(ConfigError, match="at least one photograph"):
        Synthesizer(SynthesisConfig(), [], [], [], CPU)


def test_synthesis_blurs_along_its_trails(monkeypatch):
    """For motion along a diagonal, the blurry frame varies less along the diagonal of its trails
    than along the other one, however the clip was turned.
    """

    def slide(lengths, frames, size, logs, share, random, further):
        homographies = sliding(9.0, 9.0, frames, 15).expand(len(lengths), -1, -1, -1, -1)
        return Motion(homographies, exposure_times(frames, 15, torch.ones(len(lengths))))

    monkeypatch.setattr(synthesis, "draw_motion", slide)
    made = Synthesizer(PLAIN, photographs(), [], [], CPU)
    blurry, _, trails, *_ = made.batch(12, 2, 48, Generators.seeded(0, CPU))
    assert trails.known.min() == 1
    torch.testing.assert_close(trails.vectors.abs(), torch.full((12, 2, 2, 6, 6), 9.0))
    along = (blurry[..., 1:, 1:] - blurry[..., :-1, :-1]).square().flatten(1).mean(dim=1)
    against = (blurry[..., 1:, :-1] - blurry[..., :-1, 1:]).square().flatten(1).mean(dim=1)
    falling = trails.vectors[:, 0, :, 0, 0].prod(dim=1) > 0
    assert torch.equal(falling, along < against)
    assert 0 < falling.sum() < 12


def test_layers_have_trails_of_their_own():
    config = dataclasses.replace(PLAIN, blur_mean=1e-4, blur_most=1e-4)
    with_layers = dataclasses.replace(config, object_share=1.0, blur_mean=10, blur_most=10.01)
    for chosen, moves in ((config, False), (with_layers, True)):
        made = Synthesizer(chosen, photographs(), [], [], CPU)
        trails = made.batch(6, 2, 96, Generators.seeded(2, CPU)).trails
        assert trails.vectors.shape == (6, 2, 2, 12, 12)
        assert (trails.known.min() == 0) == moves
        assert set(trails.known.unique().tolist()) <= {0, 1}
        # The camera's motion field is smooth: only the edges of layers make it jump.
        jumps = trails.vectors.diff(dim=-1).abs().amax()
        assert (jumps > 3) == moves


@pytest.mark.parametrize(("video", "size"), [(True, 48), (False, 52)])
def test_trails_of_video_and_of_odd_sizes_are_unknown(video, size):
    config = dataclasses.replace(PLAIN, video_share=float(video))
    made = Synthesizer(config, [] if video else photographs(), [shot()] if video else [], [], CPU)
    clips = made.batch(3, 2, size, Generators.seeded(2, CPU))
    side = -(-size // 8)
    assert clips.trails.vectors.shape == (3, 2, 2, side, side)
    assert clips.trails.known.shape == (3, 2, 1, side, side)
    assert not clips.trails.vectors.any()
    assert not clips.trails.known.any()


def test_videos_that_are_too_short_are_left_to_photographs():
    """A clip of three frames takes five: flow leads to those before and after it."""
    config = dataclasses.replace(PLAIN, video_share=1.0)
    for frames, from_photographs in ((4, 1), (5, 0)):
        made = Synthesizer(config, photographs(1), [shot(frames)], [], CPU)
        known = made.batch(1, 3, 32, Generators.seeded(0, CPU)).trails.known
        assert known.unique().tolist() == [from_photographs]


def test_of_video_and_photographs_each_clip_keeps_its_own_trails():
    config = SynthesisConfig(video_share=0.5, object_share=0)
    made = Synthesizer(config, photographs(), [shot()], [], CPU)
    clips = made.batch(12, 2, 48, Generators.seeded(4, CPU))
    known = clips.trails.known.flatten(1)
    assert torch.equal(known.amin(dim=1), known.amax(dim=1))
    assert 0 < known[:, 0].sum() < 12
    assert torch.equal(clips.trails.vectors.flatten(1).any(dim=1), known[:, 0] == 1)


def test_synthesis_smears_lamps_to_streaks_as_white_as_they_are():
    """The blurry frame has more saturated pixels; blurring the image would leave fewer."""
    config = dataclasses.replace(PLAIN, blur_mean=12.0, blur_most=12.01, night_share=1.0)
    day, night = (
        Synthesizer(dataclasses.replace(config, night_share=share), photographs(), [], [], CPU)
        for share in (0.0, 1.0)
    )
    clips = night.batch(12, 1, 96, Generators.seeded(3, CPU))
    blurry, sharp = (side > 0.999 for side in clips.pair)
    assert blurry.sum() > 1.2 * sharp.sum() > 100
    lit = day.batch(12, 1, 96, Generators.seeded(3, CPU))
    assert clips.blurry.mean() < 0.6 * lit.blurry.mean()


def test_layers_are_as_dim_as_the_night_around_them(monkeypatch):
    none = Lamps(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, 3), torch.zeros(0))
    monkeypatch.setattr(synthesis, "draw_lamps", lambda *_: none)
    config = dataclasses.replace(PLAIN, blur_mean=1.0, night_share=1.0, object_share=1.0)
    light = torch.full((3, 100, 100), 220, dtype=torch.uint8)
    sharp = Synthesizer(config, [light], [], [], CPU).batch(
        6, 1, 32, Generators.seeded(0, CPU)
    ).sharp  # fmt: skip
    # 0.72 in linear light, dimmed to at most 0.4 of it, exposed by up to 1.2, balance up to 1.1
    assert sharp.max() < 0.66


def test_synthesis_smears_near_parts_further_only_where_asked():
    config = dataclasses.replace(PLAIN, blur_mean=12.0, blur_most=12.01)
    for share in (0.0, 1.0):
        made = Synthesizer(
            dataclasses.replace(config, relief_share=share), photographs(), [], [], CPU
        )
        vectors = made.batch(8, 2, 96, Generators.seeded(1, CPU)).trails.vectors
        lengths = vectors.norm(dim=2).flatten(1)
        uneven = lengths.std(dim=1) / lengths.mean(dim=1)
        assert (float(uneven.median()) > 0.3) == bool(share)


def test_coded_clips_differ_from_their_twins_by_the_codec_alone():
    photographs = [torch.from_numpy(picture(150, 150).transpose(2, 0, 1).copy())]

    def batch(share, coarse=0.0):
        config = SynthesisConfig(coder_share=share, coarse_share=coarse)
        synthesizer = Synthesizer(config, photographs, [], [], CPU)
        return synthesizer.batch(4, 3, 32, Generators.of_shard(3, 0, 0, CPU))

    plain, coded, coarse = batch(0.0), batch(1.0), batch(1.0, coarse=1.0)
    assert torch.equal(plain.sharp, coded.sharp)
    assert torch.equal(plain.trails.vectors, coded.trails.vectors)
    kept = [psnr(plain.blurry.flatten(0, 1), one.blurry.flatten(0, 1)) for one in (coded, coarse)]
    assert 20 < kept[0] < 50
    assert kept[1] < kept[0] - 2
    assert torch.equal(coded.blurry, batch(1.0).blurry)
