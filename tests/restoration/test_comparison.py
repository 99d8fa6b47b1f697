"""Before and after in one frame, as players show it."""

from __future__ import annotations

import av
import pytest
import torch

from tests.conftest import ONE_LEVEL, mild, write_video
from unsmear.restoration.comparison import before_after_picture, compared_images
from unsmear.restoration.files import restore_file
from unsmear.restoration.paths import compare_path
from unsmear.restoration.quality import NETWORK_ALONE
from unsmear.restoration.settings import Settings, Span
from unsmear.video.encoding import EncodeChoice
from unsmear.video.orientation import orientation_of, upright
from unsmear.video.reader import VideoReader


@pytest.fixture
def network():
    return mild()


def test_images_show_before_on_the_left_and_after_on_the_right():
    before, after = torch.zeros(3, 4, 7), torch.ones(3, 4, 7)
    assert compared_images(before, after, "side")[0, 0].tolist() == [0] * 7 + [1] * 7
    assert compared_images(before, after, "wipe")[0, 0].tolist() == [0] * 3 + [1] * 4


def test_a_picture_of_both_enlarges_what_changed_most():
    before = torch.full((3, 96, 120), 0.5)
    after = before.clone()
    after[:, 64:80, 72:90] = 1
    shown = before_after_picture(before, after)
    assert shown.shape == (3, 2 * 96, 2 * 120 + 6)
    left, right = (shown[:, 96:, place] > 250 for place in (slice(120), slice(126, None)))
    assert not left.any()
    assert float(right.float().mean()) == pytest.approx(16 * 18 / (32 * 40), abs=0.03)
    pixel = torch.zeros(3, 1, 1)
    assert before_after_picture(pixel, pixel).shape == (3, 2, 2 + 6)


def test_the_line_of_a_wipe_starts_with_the_stretch(tmp_path, network):
    source, target = write_video(tmp_path / "in.mp4", frames=34), tmp_path / "out.mkv"
    settings = Settings(
        compare="wipe", encode=EncodeChoice(lossless=True), quality=NETWORK_ALONE,
        span=Span(start=1),
    )  # fmt: skip
    restore_file(source, target, network, 1, settings)
    first, *_ = luma_as_shown(compare_path(target))
    assert int((first == 235).all(dim=0).int().argmax()) == 0


def luma_as_shown(path):
    with VideoReader(path) as reader:
        turn = orientation_of(reader.info.display_matrix)
        return [upright(frame.planes.y, turn) for frame in reader]


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_comparison_shows_both(tmp_path, network, size):
    source = write_video(
        tmp_path / "in.mkv", size=size, codec="ffv1", pixel_format="yuv444p", frames=3, audio=True
    )
    target = tmp_path / "out.mkv"
    restore_file(source, target, network, 1, Settings(compare="side"))
    for path, sounds in ((target, 1), (compare_path(target), 0)):
        with av.open(str(path)) as container:
            assert len(container.streams.audio) == sounds
    with VideoReader(compare_path(target)) as both, VideoReader(source) as plain:
        width = size[0] // 2 * 2
        assert (both.info.width, both.info.height) == (2 * width, size[1])
        for pair, frame in zip(both, plain, strict=True):
            assert pair.pts == frame.pts
            left, right = pair.rgb[..., :width], pair.rgb[..., width:]
            assert torch.equal(left, frame.rgb[..., :width])  # FFV1 is lossless
            assert (right - left).abs().mean() > 0.001


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
@pytest.mark.parametrize("compare", ["side", "wipe"])
def test_a_comparison_of_a_turned_video_reads_from_left_to_right(tmp_path, rotation, compare):
    """In what players show, before is on the left and after on the right, on both sides of a wipe
    too.
    """
    frames = 40 if compare == "wipe" else 3
    source = write_video(tmp_path / "in.mp4", rotation=rotation, size=(66, 50), frames=frames)
    target, choice = tmp_path / "out.mkv", EncodeChoice(lossless=True)
    settings = Settings(compare=compare, encode=choice, quality=NETWORK_ALONE)
    restore_file(source, target, mild(ONE_LEVEL), 1, settings)
    shown = [luma_as_shown(path) for path in (source, target, compare_path(target))]
    lines = []
    for before, after, both in zip(*shown, strict=True):
        width = before.shape[1]
        if compare == "side":
            assert torch.equal(both[:, :width], before)
            assert torch.equal(both[:, width:], after)
            continue
        line = int((both == 235).all(dim=0).int().argmax())
        assert torch.equal(both[:, :line], before[:, :line])
        assert torch.equal(both[:, line + 2 :], after[:, line + 2 :])
        lines.append(line)
    assert lines == sorted(lines)
    assert not lines or lines[-1] - lines[0] > 10
    assert not torch.equal(shown[0][0], shown[1][0])


def test_a_comparison_of_a_turned_video_of_odd_sides(tmp_path, network):
    source = write_video(
        tmp_path / "in.mp4", codec="libvpx-vp9", rotation=90, size=(49, 33), frames=2
    )
    settings = Settings(compare="side", encode=EncodeChoice(lossless=True))
    restore_file(source, tmp_path / "out.mkv", network, 1, settings)
    (before, *_), (both, *_) = (
        luma_as_shown(path) for path in (source, tmp_path / "out.compare.mkv")
    )
    assert before.shape == (49, 33)
    assert both.shape == (49, 64)
    assert torch.equal(both[:, :32], before[:, :32])
