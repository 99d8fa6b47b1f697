"""The trails from the synthesis are those along which it blurred."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.data.test_synthesis import PLAIN, photographs, shot
from unsmear.data import synthesis
from unsmear.data.clips import Turn, turn_clips, turn_frames, turn_trails, unknown_clips
from unsmear.data.generators import Generators
from unsmear.data.motion import Motion, draw_motion
from unsmear.data.render import pixel_axes, render
from unsmear.data.shake import exposure_times, shutter_times
from unsmear.data.synthesis import SynthesisConfig, Synthesizer
from unsmear.data.trails import Trails, fit_trails, trails_under_layer, unknown_trails

CPU = torch.device("cpu")
TURNS = [Turn(k, m, r) for k in range(4) for m in (False, True) for r in (False, True)]


def sliding(vx, vy, frames=2, samples=7):
    """Homographies of a camera that moves by (vx, vy) during each exposure."""
    times = shutter_times(samples)
    found = torch.eye(3).repeat(1, frames, samples, 1, 1)
    found[..., 0, 2], found[..., 1, 2] = vx * times + 5, vy * times - 3
    return found


def shaking(frames=3, size=48):
    lengths = torch.tensor([2.0, 20.0])
    return draw_motion(lengths, frames, size, [], 0.0, Generators.seeded(3, CPU)).homographies


@pytest.mark.parametrize("samples", [3, 7])
def test_a_translation_leaves_trails_of_its_length(samples):
    found = fit_trails(sliding(7.0, -2.5, samples=samples), 32, 48)
    assert found.shape == (1, 2, 2, 4, 6)
    expected = torch.tensor([7.0, -2.5])[:, None, None].expand_as(found)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_rotation_leaves_trails_across_the_radius():
    angle = 0.08 * shutter_times(9)
    turning = torch.eye(3).repeat(1, 1, 9, 1, 1)
    turning[..., 0, 0] = turning[..., 1, 1] = torch.cos(angle)
    turning[..., 0, 1], turning[..., 1, 0] = -torch.sin(angle), torch.sin(angle)
    x, y = fit_trails(turning, 64, 64)[0, 0]
    across = (torch.arange(8) + 0.5) * 8 - 32
    torch.testing.assert_close(x, -0.08 * across[:, None].expand(8, 8), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(y, 0.08 * across.expand(8, 8), atol=1e-3, rtol=1e-3)


def test_trails_are_the_least_squares_slope_of_each_cell():
    """Single cells and frames, with a quadratic term fitted beside the slope; sizes of any kind."""
    homographies, height, width = shaking(), 44, 50
    found = fit_trails(homographies, height, width)
    assert found.shape == (2, 3, 2, 6, 7)
    times = shutter_times(homographies.shape[2]).double().numpy()
    powers = np.stack((times, times**2), axis=1)
    for clip, frame, row, column in ((0, 0, 0, 0), (1, 2, 5, 6), (1, 0, 3, 1)):
        point = np.array([8 * column + 4 - width / 2, 8 * row + 4 - height / 2, 1])
        matrices = homographies[clip, frame].double().numpy()
        ways = []
        for matrix in matrices:
            lands = np.linalg.inv(matrices[len(matrices) // 2]) @ matrix @ point
            ways.append(lands[:2] / lands[2] - point[:2])
        slope = np.linalg.lstsq(powers, np.array(ways), rcond=None)[0][0]
        np.testing.assert_allclose(found[clip, frame, :, row, column], slope, atol=2e-3)


def test_a_pixel_sees_what_lies_along_its_trail():
    """The sub-frame at time t shows at p what the one at mid-exposure shows at p + v * t."""
    canvas = torch.rand(1, 3, 60, 60)
    homographies = sliding(10.0, 5.0, frames=1, samples=5)  # sub-frames 2 and 1 pixels apart
    subframes = render(canvas, homographies, 32, 32)[0, :, 0]  # (3, S, H, W)
    vx, vy = fit_trails(homographies, 32, 32)[0, 0, :, 0, 0].tolist()
    assert (round(vx), round(vy)) == (10, 5)
    torch.testing.assert_close(
        subframes[:, -1, :30, :28], subframes[:, 2, 2:, 4:], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("samples", [1, 4])
def test_exposures_without_a_middle_are_refused(samples):
    with pytest.raises(ValueError, match=f"has {samples} moments"):
        fit_trails(sliding(1.0, 1.0, samples=samples), 16, 16)


def test_under_a_layer_its_own_trails_count_where_it_stays():
    camera, layer = torch.zeros(1, 1, 2, 2, 3), torch.ones(1, 1, 2, 2, 3)
    alpha = torch.zeros(1, 1, 3, 16, 20)  # the last column of cells is half beyond the frame
    alpha[..., :8, :8] = 1  # is there all the time
    alpha[:, :, 1, :8, 8:16] = 1  # is there for a moment
    alpha[..., 8:, :4] = 1  # covers half a cell
    alpha[..., 8:, 16:] = 1
    trails = trails_under_layer(camera, layer, alpha)
    assert trails.known.dtype == torch.float32
    assert trails.known[0, 0, 0].tolist() == [[1, 0, 1], [0, 1, 1]]
    assert trails.vectors[0, 0, 0].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert torch.equal(trails.vectors[:, :, 0], trails.vectors[:, :, 1])


@pytest.mark.parametrize("turn", TURNS)
def test_turned_trails_are_those_of_the_turned_camera(turn):
    """A turned frame is what a turned camera sees: turned coordinates show where each of its pixels
    came from. Reversed in time, frames and sub-frames come in reverse order.
    """
    size, homographies = 48, shaking()
    y, x = pixel_axes(size, size)
    places = torch.stack((x.expand(size, size), y[:, None].expand(size, size)))[None, None]
    places = turn_frames(places, [turn])[0, 0]  # (2, H, W): pixels of the original frame
    camera = torch.eye(3)
    camera[:2, 0] = places[:, 0, 1] - places[:, 0, 0]
    camera[:2, 1] = places[:, 1, 0] - places[:, 0, 0]
    turned = homographies @ camera
    if turn.reversed:
        turned = turned.flip(1, 2)
    expected = fit_trails(turned, size, size)
    vectors = fit_trails(homographies, size, size)
    known = torch.rand_like(vectors[:, :, :1])
    trails = turn_trails(Trails(vectors, known), [turn, turn])
    torch.testing.assert_close(trails.vectors, expected, atol=2e-3, rtol=1e-3)
    assert torch.equal(trails.known, turn_frames(known, [turn, turn]))


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


def test_of_video_and_photographs_each_clip_keeps_its_own_trails():
    config = SynthesisConfig(video_share=0.5, object_share=0)
    made = Synthesizer(config, photographs(), [shot()], [], CPU)
    clips = made.batch(12, 2, 48, Generators.seeded(4, CPU))
    known = clips.trails.known.flatten(1)
    assert torch.equal(known.amin(dim=1), known.amax(dim=1))
    assert 0 < known[:, 0].sum() < 12
    assert torch.equal(clips.trails.vectors.flatten(1).any(dim=1), known[:, 0] == 1)


def test_unknown_clips_stay_unknown_when_turned():
    clip = torch.rand(2, 3, 3, 20, 20)
    turned = turn_clips(unknown_clips(clip, clip), Generators.seeded(0, CPU))
    assert turned.trails.known.shape == unknown_trails(clip).known.shape == (2, 3, 1, 3, 3)
    assert not torch.cat([part.flatten() for part in turned.trails]).any()
    assert [tensor.shape for tensor in turned.tensors[:2]] == [clip.shape] * 2
