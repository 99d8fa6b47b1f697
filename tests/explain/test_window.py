"""The frames that explain a frame are those that its restoration uses."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import image, write_video
from unsmear.errors import ConfigError, InputError
from unsmear.explain.window import read_window
from unsmear.video.images import write_image
from unsmear.video.reader import read_rgb8


@pytest.fixture
def two_scenes(tmp_path):
    """Frames 0-3 from one scene, 4-6 from another."""
    folder = tmp_path / "two scenes"
    folder.mkdir()
    for index in range(7):
        frame = image(48, 64, 0 if index < 4 else 9)
        write_image(folder / f"f{index}.png", frame.roll(index, dims=-1))
    return folder


@pytest.mark.parametrize(
    ("number", "window", "side", "first", "count", "attended"),
    [
        (2, 3, 0, 1, 3, [1, 2, 3]),
        (0, 5, 1, 0, 3, [0, 1, 2]),
        (3, 5, 0, 1, 3, [1, 2, 3]),  # not across the cut
        (4, 5, 0, 4, 3, [4, 5, 6]),
        (6, 3, 2, 4, 3, [5, 6]),  # the local path reaches farther than the attention
        (5, 1, 1, 4, 3, [5]),
    ],
)
def test_window_holds_what_the_scene_has(two_scenes, number, window, side, first, count, attended):
    found = read_window(two_scenes, number, window, side)
    assert (found.first, len(found.pictures), found.number) == (first, count, number)
    assert [found.first + index for index in found.attended] == attended
    assert found.name == f"f{number}"
    assert found.pts is None
    seed = 0 if number < 4 else 9
    expected = image(48, 64, seed).roll(number, dims=-1).float() / 255
    assert torch.equal(found.pictures[found.current], expected)


def test_video_frames_are_those_of_the_reader(tmp_path):
    clip = write_video(tmp_path / "clip.mp4", frames=6, rotation=90)
    found = read_window(clip, 4, 3, 1)
    frames = list(read_rgb8(clip))
    assert found.first == 3
    assert ((found.pictures * 255) - torch.stack(frames[3:6])).abs().max() <= 0.5 + 1e-3
    assert float(found.pts) == pytest.approx(4 * 1001 / 30000, abs=1e-3)
    assert found.name is None
    assert found.rotation % 180 == 90


def test_a_frame_that_is_not_there(two_scenes, tmp_path):
    with pytest.raises(InputError, match=r"frame is 7: .* has 7 frames, numbered 0 to 6"):
        read_window(two_scenes, 7, 3, 1)
    with pytest.raises(ConfigError, match="frame is -1: must be 0 or more"):
        read_window(two_scenes, -1, 3, 1)
    with pytest.raises(ConfigError, match="window is 4"):
        read_window(two_scenes, 0, 4, 1)
    for window in ("all", 10_001):
        with pytest.raises(ConfigError, match=f"window is {window}: must be at most 9999"):
            read_window(two_scenes, 0, window, 1)
    with pytest.raises(InputError, match="no such file"):
        read_window(tmp_path / "nothing.mp4", 0, 3, 1)
