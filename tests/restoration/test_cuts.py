from __future__ import annotations

import pytest
import torch

from tests.conftest import Counted, image
from unsmear.restoration.cuts import MEMORY, likeness, number_scenes, split_scenes, thumbnail

# Likeness of each frame to the one before: a clear cut, then a camera that moves faster and faster.
# The last scene begins at frame 12. Exactly the eight likenesses before show that 0.45 is a drop:
# compared with one fewer or one more, it would be nearly normal.
FASTER = (0.9, 0.9, 0.1, *[0.9] * 4, *[0.62] * 4, 0.45, 0.9, 0.9)
SCENES_OF_FASTER = [0] * 3 + [1] * 9 + [2] * 3


def view(index: int, shift: int = 0, gain: float = 1.0) -> torch.Tensor:
    """Part of an image, (3, 72, 128), 0..1, as seen by a camera shifted by `shift`."""
    whole = image(100, 256, index) / 255
    return (whole[:, 10:82, shift : shift + 128] * gain).clamp(0, 1)


def walk(likenesses) -> torch.Tensor:
    """Frames (T, 3, 18, 32), 0..1, with the given likeness of each to the one before."""
    random = torch.Generator().manual_seed(0)

    def fresh(before: torch.Tensor) -> torch.Tensor:
        other = torch.randn(18 * 32, generator=random, dtype=torch.float64)
        other = other - other.mean()
        other = other - (other @ before) * before
        return other / other.norm()

    frames = [fresh(torch.zeros(18 * 32, dtype=torch.float64))]
    for alike in likenesses:
        frames.append(alike * frames[-1] + (1 - alike**2) ** 0.5 * fresh(frames[-1]))
    clip = (0.5 + 2 * torch.stack(frames)).float()
    assert 0 <= clip.min() <= clip.max() <= 1
    return clip.view(-1, 1, 18, 32).expand(-1, 3, -1, -1)


def scenes_of(frames) -> list[int]:
    return [scene for scene, _ in number_scenes(frames)]


def test_cuts_are_found_where_they_are():
    frames = [view(1, s) for s in range(4)] + [view(5, s) for s in range(3)] + [view(9)] * 2
    assert scenes_of(frames) == [0] * 4 + [1] * 3 + [2] * 2


@pytest.mark.parametrize("pace", [1, 2, 4])
def test_a_moving_camera_is_no_cut(pace):
    assert set(scenes_of([view(3, pace * t) for t in range(12)])) == {0}


def test_where_no_frame_resembles_the_next_they_stay_together():
    """A whirling camera gives at most one cut, not one at each frame."""
    assert max(scenes_of([view(index) for index in range(12)])) <= 1


def test_cuts_are_the_same_wherever_one_begins_to_look():
    clip = walk(FASTER)
    assert scenes_of(clip) == SCENES_OF_FASTER
    for first in range(1, len(clip)):
        before, found = scenes_of(clip[max(first - MEMORY, 0) : first + 1])[-2:]
        assert found - before == SCENES_OF_FASTER[first] - SCENES_OF_FASTER[first - 1]


def test_changes_of_exposure_and_noise_are_no_cuts():
    torch.manual_seed(0)
    frames = [view(2, gain=gain) for gain in (1, 0.3, 1.6, 0.5)]
    frames += [(view(2) + 0.2 * torch.randn(3, 72, 128)).clamp(0, 1) for _ in range(4)]
    assert set(scenes_of(frames)) == {0}


def test_black_frames_are_a_scene_of_their_own():
    black = torch.zeros(3, 72, 128)
    assert scenes_of([view(1), black, black, black + 0.01, view(1)]) == [0, 1, 1, 1, 2]
    assert scenes_of([black, black + 0.5]) == [0, 1]
    grey = view(1).mean().expand(3, 72, 128)  # as bright, but without content
    assert scenes_of([view(1), view(1), grey, grey]) == [0, 0, 1, 1]


def test_scenes_are_handed_on_frame_by_frame():
    frames = Counted([view(1), view(1), view(5), view(5)])
    seen = []
    for scene in split_scenes(frames):
        for position, _ in enumerate(scene):
            seen.append((frames.taken, position))
    assert seen == [(1, 0), (2, 1), (3, 0), (4, 1)]
    assert list(split_scenes([])) == []


def test_likeness_ignores_brightness_and_contrast_and_has_a_sign():
    one = thumbnail(view(4))
    assert likeness(one, 0.5 * one + 0.2) == pytest.approx(1, abs=1e-4)
    assert likeness(one, 1 - one) == pytest.approx(-1, abs=1e-4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (2160, 16)])
def test_frames_of_any_size_have_a_thumbnail(height, width):
    assert thumbnail(torch.rand(3, height, width)).shape == (3, 18, 32)
