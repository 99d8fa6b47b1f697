from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.conftest import picture
from unsmear.data import motion, synthesis
from unsmear.data.canvas import cut_canvas, cut_flow
from unsmear.data.clips import turn_clips, unknown_clips
from unsmear.data.generators import Generators
from unsmear.data.motion import draw_motion
from unsmear.data.shake import OrientationLog, blur_length, rotation_matrices, smooth_path
from unsmear.data.sources import Shot
from unsmear.data.synthesis import (
    SynthesisConfig,
    Synthesizer,
    draw_blur_lengths,
)
from unsmear.data.trails import fit_trails
from unsmear.errors import ConfigError

CPU = torch.device("cpu")
PLAIN = SynthesisConfig(
    sharp_share=0, object_share=0, video_share=0, compressed_share=0, noise_most=0
)


def photographs(count=3):
    return [
        torch.from_numpy(picture(200, 260, seed).transpose(2, 0, 1).copy()) for seed in range(count)
    ]


def shot(frames=9, pan=3):
    wide = picture(96, 200, seed=4)
    views = [wide[:, pan * i : pan * i + 144] for i in range(frames)]
    stack = torch.from_numpy(np.ascontiguousarray(np.stack(views).transpose(0, 3, 1, 2)))
    forward = torch.zeros(frames - 1, 2, 96, 144, dtype=torch.float16)
    forward[:, 0] = -pan
    return Shot(stack, forward, -forward)


def hand(samples=400):
    generator = torch.Generator().manual_seed(3)
    angles = torch.randn(samples, 3, generator=generator).cumsum(0) * 0.002
    return OrientationLog(
        torch.arange(samples, dtype=torch.float64) / 200, rotation_matrices(angles).double()
    )


def sharpness(clip):
    return float((clip[..., 1:] - clip[..., :-1]).square().mean())


def psnrs(one, two):
    return -10 * torch.log10((one - two).square().mean(dim=(1, 2, 3, 4)))


@pytest.mark.parametrize("logs", [[], [hand()]])
def test_motion_has_the_wanted_blur(logs):
    random = Generators.seeded(0, CPU)
    wanted = torch.tensor([0.5, 3.0, 10.0, 25.0] * 4)
    drawn = draw_motion(wanted, 4, 96, logs, 1.0, random)
    found = blur_length(drawn.homographies, 96, 96).mean(dim=1)
    torch.testing.assert_close(found, wanted, rtol=0.15, atol=0.1)


def test_a_recorded_hand_turns_and_what_is_made_up_adds_little(monkeypatch):
    """The recorded rotation causes most of the blur, however large the synthetic path is."""
    wanted = torch.full((12,), 10.0)
    made = {}
    for times in (0.0, 1.0, 1e3):
        monkeypatch.setattr(
            motion, "smooth_path", lambda *rest, times=times: times * smooth_path(*rest)
        )
        drawn = draw_motion(wanted, 2, 96, [hand()], 1.0, Generators.seeded(0, CPU))
        made[times] = fit_trails(drawn.homographies, 96, 96)
    torch.testing.assert_close(made[1.0], made[1e3], atol=1e-2, rtol=1e-3)
    assert 0 < float((made[1.0] - made[0.0]).norm() / made[0.0].norm()) < 0.4


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


def test_canvas_of_a_small_picture_is_mirrored():
    small = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4).expand(3, 3, 4)
    canvas = cut_canvas(small, 9, (0.5, 0.5), half=False) * 255
    assert canvas.shape == (3, 9, 9)
    assert set(canvas.round().int().flatten().tolist()) == set(range(12))
    torch.testing.assert_close(canvas[0, 3:6, 2:6], small[0].float())
    torch.testing.assert_close(canvas[0, 3:6, 1], small[0, :, 1].float())


def test_flow_leads_to_the_next_picture_in_the_mirror_too():
    """A pan on a canvas larger than the image: every pixel is found where its flow points."""
    wide = torch.randint(0, 256, (3, 20, 40), dtype=torch.uint8)
    frames = torch.stack((wide[:, 4:16, 10:26], wide[:, 3:15, 12:28]))  # content moves by (-2, +1)
    flow = torch.tensor([-2.0, 1.0])[None, :, None, None].expand(1, 2, 12, 16).half()
    first, second = cut_canvas(frames, 24, (0.5, 0.5), half=False)
    x, y = cut_flow(flow, 24, (0.5, 0.5))[0].int()
    assert set(x.flatten().tolist()) == {-2, 2}
    assert set(y.flatten().tolist()) == {-1, 1}
    found = 0
    for row in range(24):
        for column in range(24):
            to_row, to_column = row + int(y[row, column]), column + int(x[row, column])
            # What leaves the image, and thus its mirror image, cannot be found.
            own_row, own_column = (row - 6) % 22, (column - 4) % 30
            own_row, own_column = min(own_row, 22 - own_row), min(own_column, 30 - own_column)
            if own_row + 1 < 12 and own_column >= 2 and 0 <= to_row < 24 and 0 <= to_column < 24:
                assert torch.equal(first[:, row, column], second[:, to_row, to_column])
                found += 1
    assert found > 300


def test_half_canvas_averages():
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    canvas = cut_canvas(image, 32, (0.0, 0.0), half=True)
    expected = image[:, :2, :2].float().mean(dim=(1, 2)) / 255
    torch.testing.assert_close(canvas[:, 0, 0], expected)


def test_turns_treat_both_sides_alike():
    clip = torch.rand(6, 3, 3, 8, 8)
    blurry, sharp, *_ = turn_clips(unknown_clips(clip, clip.clone()), Generators.seeded(0, CPU))
    assert torch.equal(blurry, sharp)
    assert not torch.equal(blurry, clip)
    torch.testing.assert_close(blurry.sum(dim=(1, 2, 3, 4)), clip.sum(dim=(1, 2, 3, 4)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sharp_share": 1.5}, "sharp_share"),
        ({"blur_mean": 0}, "blur_mean"),
        ({"blur_mean": 40.0}, "blur_most"),
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
