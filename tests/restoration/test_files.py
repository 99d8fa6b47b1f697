"""Restoring whole files: nothing is lost or left incomplete, and memory is bounded."""

from __future__ import annotations

import importlib.metadata

import pytest
import torch

from tests.conftest import (
    SMALL,
    audio_packets,
    awake,
    failing_after,
    mild,
    one_scene,
    stamps_of,
    write_frames,
    write_video,
)
from unsmear.errors import ConfigError, InputError, OutputError
from unsmear.models.network import DeblurNetwork
from unsmear.restoration import frames, store, stream
from unsmear.restoration.files import Outcome, restore_file
from unsmear.restoration.frames import restore_frames
from unsmear.restoration.paths import compare_path
from unsmear.restoration.preview import write_preview
from unsmear.restoration.quality import NETWORK_ALONE
from unsmear.restoration.settings import Settings
from unsmear.restoration.tiles import Tiler, TileSize
from unsmear.video.color import rgb_from_planes
from unsmear.video.encoding import EncodeChoice
from unsmear.video.folder import FolderReader
from unsmear.video.images import integer_from_unit, read_image, write_image
from unsmear.video.orientation import orientation_of, upright
from unsmear.video.reader import VideoReader


@pytest.fixture
def network():
    return mild()


VARIABLE = [0, 1001, 1500, 4000, 4001, 9000, 9999, 20000]


def test_video_keeps_frames_stamps_and_sound(tmp_path, network):
    source = write_video(tmp_path / "in.mp4", pts=VARIABLE, audio=True)
    seen = []
    outcome = restore_file(
        source, tmp_path / "out.mp4", network, 3, on_progress=lambda p: seen.append(p.done)
    )
    assert outcome == Outcome(8)
    assert seen == list(range(9))
    assert stamps_of(tmp_path / "out.mp4") == stamps_of(source)
    assert audio_packets(tmp_path / "out.mp4") == audio_packets(source)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_package_that_was_never_installed_restores_too(tmp_path, network, monkeypatch):
    """For example from a folder on PYTHONPATH, where no version is known."""

    def unknown(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", unknown)
    source = write_video(tmp_path / "in.mp4", frames=2)
    assert restore_file(source, tmp_path / "out.mp4", network, 1) == Outcome(2)


def test_window_all_reads_twice_and_reports_both_passes(tmp_path, network):
    source = write_video(tmp_path / "in.mp4", pts=VARIABLE, audio=True)
    seen = []
    outcome = restore_file(source, tmp_path / "out.mp4", network, "all", on_progress=seen.append)
    assert outcome == Outcome(8)
    assert [(p.doing, p.done) for p in seen] == [
        (doing, done) for doing in ("watching", "restoring") for done in range(9)
    ]
    assert stamps_of(tmp_path / "out.mp4") == stamps_of(source)
    assert audio_packets(tmp_path / "out.mp4") == audio_packets(source)


def test_features_of_the_first_pass_serve_the_second(tmp_path, network, monkeypatch):
    """The result equals that of a run without kept features, byte for byte, and no file is left
    behind.
    """
    source = write_video(tmp_path / "in.mp4", frames=6)
    encoded = []
    encode = Tiler.encode
    monkeypatch.setattr(
        Tiler, "encode", lambda self, frame: encoded.append(1) or encode(self, frame)
    )
    restore_file(source, tmp_path / "kept.mp4", network, "all")
    assert len(encoded) == 6
    monkeypatch.setattr(store, "MOST_KEPT", 0)
    restore_file(source, tmp_path / "anew.mp4", network, "all")
    assert len(encoded) == 6 + 12
    assert (tmp_path / "kept.mp4").read_bytes() == (tmp_path / "anew.mp4").read_bytes()
    assert {entry.name for entry in tmp_path.iterdir()} == {"in.mp4", "kept.mp4", "anew.mp4"}


@pytest.mark.parametrize("window", [5, "all"])
def test_tiles_change_nothing_in_a_folder(tmp_path, network, window):
    source = write_frames(tmp_path / "frames", one_scene(4, 70, 90), torch.uint16)
    for name, tiling in (("whole", "off"), ("tiled", TileSize(24, 32))):
        restore_file(source, tmp_path / name, network, window, Settings(tiling=tiling))
    for number in range(4):
        whole, tiled = (
            read_image(tmp_path / name / f"{number:02}.png").int() for name in ("whole", "tiled")
        )
        assert (whole - tiled).abs().max() <= 1  # of 65535


def test_restored_planes_are_the_network_output(tmp_path, network):
    """The encoded values are the decoded frame plus the network's change, within a code value."""
    source = write_video(tmp_path / "in.mkv", codec="ffv1", pixel_format="yuv444p")
    with VideoReader(source) as reader:
        for restored in restore_frames(network, reader, 3):
            # At the ends of the range YUV and RGB clip differently.
            both = torch.cat((restored.rgb, restored.frame.rgb))
            inside = ((both > 0.02) & (both < 0.98)).all(dim=0)
            assert inside.any()
            again = rgb_from_planes(restored.planes)
            assert (again - restored.rgb).abs()[:, inside].max() < 2.5 / 255


def test_a_network_that_changes_nothing_leaves_the_decoded_planes(tmp_path):
    source = write_video(tmp_path / "in.mp4")
    with VideoReader(source) as reader:
        for restored in restore_frames(DeblurNetwork(SMALL).eval(), reader, 5):
            for name in ("y", "u", "v"):
                before, after = getattr(restored.frame.planes, name), getattr(restored.planes, name)
                assert torch.equal(before, after)


def test_folder_keeps_names_and_sizes(tmp_path, network):
    source = tmp_path / "frames"
    source.mkdir()
    for name in ("0001", "0002", "0007"):
        write_image(source / f"{name}.png", integer_from_unit(torch.rand(3, 13, 21)))
    restore_file(source, tmp_path / "out", network, 3, Settings(compare="side"))
    assert [f.name for f in FolderReader(tmp_path / "out")] == ["0001", "0002", "0007"]
    assert read_image(tmp_path / "out" / "0001.png").shape == (3, 13, 21)
    assert read_image(tmp_path / "out_compare" / "0001.png").shape == (3, 13, 42)


def test_folder_of_16_bit_pictures_stays_16_bit(tmp_path, network):
    source = write_frames(tmp_path / "frames", [torch.rand(3, 8, 8)], torch.uint16)
    restore_file(source, tmp_path / "out", network, 1)
    assert read_image(tmp_path / "out" / "00.png").dtype == torch.uint16


def test_a_video_becomes_numbered_images_in_a_folder(tmp_path, network):
    source = write_video(tmp_path / "in.mp4", frames=3)
    restore_file(source, tmp_path / "out", network, 1)
    names = sorted(entry.name for entry in (tmp_path / "out").iterdir())
    assert names == ["000000.png", "000001.png", "000002.png"]
    assert read_image(tmp_path / "out" / "000000.png").dtype == torch.uint8


def test_pictures_of_a_deep_video_are_deep_and_what_they_lack_is_told(tmp_path, network):
    source, notes = tmp_path / "in.mkv", []
    options = {"pixel_format": "yuv420p10le", "tags": (1, 9, 16, 9), "audio": True}
    write_video(source, frames=2, codec="ffv1", **options)
    restore_file(source, tmp_path / "out", network, 1, on_note=notes.append)
    picture = read_image(tmp_path / "out" / "000001.png")
    assert picture.dtype == torch.uint16
    assert (picture.int() % 257).any()  # more than 8 bits, expanded to 16
    (sound, hdr) = notes
    assert (
        f"which has no sound: for a video, give a file name, such as '{tmp_path / 'out'}.mp4'"
        in sound
    )
    assert "HDR (PQ)" in hdr


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_comparison_shows_both(tmp_path, network, size):
    source = write_video(
        tmp_path / "in.mkv", size=size, codec="ffv1", pixel_format="yuv444p", frames=3
    )
    target = tmp_path / "out.mkv"
    restore_file(source, target, network, 1, Settings(compare="side"))
    with VideoReader(compare_path(target)) as both, VideoReader(source) as plain:
        width = size[0] // 2 * 2
        assert (both.info.width, both.info.height) == (2 * width, size[1])
        for pair, frame in zip(both, plain, strict=True):
            assert pair.pts == frame.pts
            left, right = pair.rgb[..., :width], pair.rgb[..., width:]
            assert torch.equal(left, frame.rgb[..., :width])  # FFV1 is lossless
            assert (right - left).abs().mean() > 0.001


def test_folder_to_video_is_refused_with_a_remedy(tmp_path, network):
    source = write_frames(tmp_path / "frames", [torch.rand(3, 8, 8)])
    with pytest.raises(OutputError, match=r"no frame rate.*'.*out'"):
        restore_file(source, tmp_path / "out.mp4", network, 1)


def test_a_window_larger_than_memory_is_told_before_the_work(tmp_path, network, monkeypatch):
    monkeypatch.setattr(stream, "physical_memory", lambda: 4 * 64 * 48 * 12)
    source = write_video(tmp_path / "in.mp4", frames=5)
    with pytest.raises(ConfigError, match="window is 9: buffering frames of 64x48"):
        restore_file(source, tmp_path / "out.mp4", network, 9)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_output_inside_the_input_folder_is_refused(tmp_path, network):
    source = write_frames(tmp_path / "frames", [torch.rand(3, 8, 8)])
    (source / "out").mkdir()
    for target in (source, source / "out", source / "new"):
        with pytest.raises(OutputError, match="choose another output"):
            restore_file(source, target, network, 1, Settings(overwrite=True))


def test_an_error_midway_leaves_nothing(tmp_path, network, monkeypatch):
    source = write_video(tmp_path / "in.mp4")
    breaks = failing_after(4, KeyboardInterrupt(), frames.add_change)
    monkeypatch.setattr(frames, "add_change", breaks)
    with pytest.raises(KeyboardInterrupt):
        restore_file(source, tmp_path / "out.mp4", network, 3, Settings(compare="side"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.mp4"]


def test_a_clip_that_breaks_off_leaves_nothing(tmp_path, network):
    source = write_video(tmp_path / "in.mkv", frames=40, size=(128, 96))
    contents = bytearray(source.read_bytes())
    (tmp_path / "cut.mkv").write_bytes(contents[:600])
    with pytest.raises(InputError, match=r"cut\.mkv"):
        restore_file(tmp_path / "cut.mkv", tmp_path / "out.mkv", network, 3)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cut.mkv", "in.mkv"]


def test_frames_that_cannot_be_right_are_given_as_they_came(tmp_path):
    source, notes = write_video(tmp_path / "in.mkv", codec="ffv1", frames=4), []
    wild = awake()  # changes too much to be plausible
    outcome = restore_file(source, tmp_path / "out.mkv", wild, 3, on_note=notes.append)
    assert outcome == Outcome(4, untouched=4)
    assert any("4 frames are left unchanged" in note for note in notes)
    with VideoReader(source) as one, VideoReader(tmp_path / "out.mkv") as two:
        for before, after in zip(one, two, strict=True):
            assert torch.equal(before.planes.y, after.planes.y)
            assert torch.equal(before.planes.u, after.planes.u)


@pytest.mark.parametrize("compare", [None, "side", "wipe"])
def test_pictures_of_a_turned_video_are_upright(tmp_path, compare):
    source, notes = write_video(tmp_path / "in.mp4", rotation=90, frames=2), []
    settings = Settings(compare=compare)
    restore_file(source, tmp_path / "out", mild(), 1, settings, on_note=notes.append)
    assert (
        notes[0] == "images are rotated by 90 degrees anticlockwise, as players display the video"
    )
    assert read_image(tmp_path / "out" / "000000.png").shape == (3, 64, 48)
    if compare:
        shape = read_image(tmp_path / "out_compare" / "000000.png").shape
        assert shape == (3, 64, 96 if compare == "side" else 48)
    write_preview(source, tmp_path / "p.png", mild(), 1, Settings())
    height, width = read_image(tmp_path / "p.png").shape[-2:]
    assert height > width


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
@pytest.mark.parametrize("compare", ["side", "wipe"])
def test_a_comparison_of_a_turned_video_reads_from_left_to_right(
    tmp_path, network, rotation, compare
):
    """In what players show, before is on the left and after on the right, on both sides of a wipe
    too.
    """
    frames = 40 if compare == "wipe" else 3
    source = write_video(tmp_path / "in.mp4", rotation=rotation, size=(66, 50), frames=frames)
    target, choice = tmp_path / "out.mkv", EncodeChoice(lossless=True)
    settings = Settings(compare=compare, encode=choice, quality=NETWORK_ALONE)
    restore_file(source, target, network, 1, settings)
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


def luma_as_shown(path):
    with VideoReader(path) as reader:
        turn = orientation_of(reader.info.display_matrix)
        return [upright(frame.planes.y, turn) for frame in reader]


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
