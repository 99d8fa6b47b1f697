from __future__ import annotations

import shutil
import time

import numpy as np
import pytest
import torch

from tests.conftest import picture, write_video
from tests.data.conftest import pair_folder, save
from unsmear.data import sources
from unsmear.data.pairs import find_layout, find_pairs
from unsmear.data.sources import (
    find_training_files,
    fingerprint,
    load_all,
    load_photograph,
    load_shots,
    training_record,
    validation_record,
)
from unsmear.errors import InputError
from unsmear.video.images import write_image


def test_layout_tells_what_is_what(tmp_path):
    save(tmp_path / "stills" / "a.jpg")
    save(tmp_path / "b.png")
    write_video(tmp_path / "videos" / "v.mp4") if (tmp_path / "videos").mkdir() is None else None
    save(tmp_path / "clips" / "walk" / "0.png")
    pair_folder(tmp_path / "GOPRO", "GOPR0001")
    pair_folder(tmp_path / "DVD", "720p", ("input", "GT"))
    (tmp_path / "notes.txt").write_text("ignored")
    files = find_training_files([tmp_path])
    assert [p.name for p in files.photographs] == ["b.png", "a.jpg"]
    assert [p.name for p in files.clips] == ["walk", "v.mp4"]
    assert [p.name for p in files.pairs] == ["GOPRO/GOPR0001", "DVD/720p"]
    clip = find_training_files([tmp_path / "clips" / "walk"])
    assert (clip.photographs, clip.clips) == ((), (tmp_path / "clips" / "walk",))


def test_linked_folders_are_gone_into_but_not_in_circles(tmp_path):
    save(tmp_path / "disk" / "PHOTOS" / "a.png")
    pair_folder(tmp_path / "disk" / "GOPRO" / "train", "seq")
    data = tmp_path / "data"
    data.mkdir()
    (data / "photos").symlink_to(tmp_path / "disk" / "PHOTOS")
    (data / "gopro").symlink_to(tmp_path / "disk" / "GOPRO")
    (tmp_path / "disk" / "GOPRO" / "train" / "again").symlink_to(data)  # an endless circle
    files = find_training_files([data])
    assert files.photographs == (data / "photos" / "a.png",)
    assert [pair.name for pair in files.pairs] == ["gopro/train/seq"]


def test_what_is_found_twice_counts_once(tmp_path):
    save(tmp_path / "a" / "0.png")
    save(tmp_path / "a" / "clips" / "walk" / "0.png")
    pair_folder(tmp_path / "a", "seq", frames=1)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    once = find_training_files([tmp_path / "a"])
    again = [tmp_path / "a", tmp_path / "b", tmp_path / "a" / "seq", tmp_path / "b" / "clips"]
    assert find_training_files(again) == once
    assert [len(kind) for kind in (once.photographs, once.clips, once.pairs)] == [1, 1, 1]
    (tmp_path / "a" / "linked").symlink_to(tmp_path / "a" / "seq")
    assert len(find_pairs(tmp_path)) == 1  # for `--val` and `unsmear eval`


def test_a_record_counts_and_tells_logs_by_name_and_size(tmp_path):
    root, log = tmp_path / "a", tmp_path / "log.txt"
    save(root / "0.png")
    pair_folder(root, "seq", frames=2)
    log.write_text("log")
    files = find_training_files([root])
    plain = training_record(files, [root])
    shaken = training_record(files, [root], [log])
    assert plain.summary == "1 photographs, 0 clips, 0 shake logs, 1 paired sequences"
    assert shaken.summary == "1 photographs, 0 clips, 1 shake logs, 1 paired sequences"
    assert plain.fingerprint == fingerprint(files, [root])
    moved = tmp_path / "elsewhere" / log.name
    moved.parent.mkdir()
    log.rename(moved)
    assert training_record(files, [root], [moved]) == shaken
    moved.write_text("longer log")
    told = {fingerprint(files, [root], logs) for logs in ([], [moved])}
    assert len(told | {shaken.fingerprint}) == 3
    measured = validation_record(files.pairs, root)
    assert measured.summary == "1 sequences of 2 frames"
    assert measured.fingerprint not in (plain.fingerprint, shaken.fingerprint)


def test_files_are_told_from_others_by_names_sizes_and_order(tmp_path):
    def told(*roots):
        return fingerprint(find_training_files(roots), roots)

    save(tmp_path / "a" / "0.png")
    save(tmp_path / "a" / "clips" / "walk" / "0.png")
    pair_folder(tmp_path / "a", "seq", frames=2)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    save(tmp_path / "c" / "0.png", width=40)
    first = told(tmp_path / "a")
    assert told(tmp_path / "b") == first
    assert told(tmp_path / "c") != first
    assert told(tmp_path / "a", tmp_path / "c") != told(tmp_path / "c", tmp_path / "a")
    for place in ("0.png", "clips/walk/0.png", "seq/sharp/000001.png"):
        usual = (tmp_path / "b" / place).read_bytes()
        (tmp_path / "b" / place).write_bytes(usual + b".")
        assert told(tmp_path / "b") != first
        (tmp_path / "b" / place).write_bytes(usual)
    (tmp_path / "b" / "0.png").rename(tmp_path / "b" / "1.png")
    assert told(tmp_path / "b") != first


def test_gamma_corrected_blur_is_neither_trained_on_nor_a_photograph(tmp_path):
    pair_folder(tmp_path, "seq")
    pair_folder(tmp_path, "seq", ("blur_gamma", "sharp"))
    files = find_training_files([tmp_path])
    assert files.photographs == ()
    (pair,) = files.pairs
    assert pair.blurry[0].parent.name == "blur"
    (gamma,) = find_pairs(tmp_path, [find_layout("gopro-gamma")])
    assert gamma.blurry[0].parent.name == "blur_gamma"


@pytest.mark.parametrize(
    "folder",
    [
        "BSD_3ms24ms/train/000/Sharp/RAW", "BSD_3ms24ms/train/000/Blur/RAW",
        "DVD/qualitative_datasets/alley/input", "train/lq", "mine/Blurry",
        "GoPro/train/input_crops", "GoPro/train/blur_crops",
        "REDS/train/train_sharp_bicubic/X4/000", "kaggle/motion_blurred", "photos-blurred",
        "Blurry frames", "deblurred", "train_GT_blurred/IMG_1", "train/input/IMG_1", "mine/Inputs",
        ".thumbnails", "photos/@eaDir/a.png", "photos/.cache/small",
    ],
)  # fmt: skip
def test_pictures_that_published_sets_hold_beside_sharp_ones_are_no_photographs(tmp_path, folder):
    save(tmp_path / folder / "000.png")
    for beside in ("train/gt", "mine/Target"):
        (tmp_path / beside).mkdir(parents=True)
    save(tmp_path / "photos" / "raw" / "a.png")
    save(tmp_path / "photos" / "input" / "a.png")
    save(tmp_path / "for_deblurring" / "train" / "a.png")
    save(tmp_path / "unblurred" / "a.png")
    found = find_training_files([tmp_path]).photographs
    assert [path.parent.name for path in found] == ["train", "input", "raw", "unblurred"]


def test_an_interrupt_does_not_wait_for_all_files():
    loaded = []

    def load(number):
        if number == 0:
            raise KeyboardInterrupt
        loaded.append(number)
        time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt):
        load_all(load, range(5), 1)
    assert loaded in ([], [1])


def test_nothing_usable_and_missing_folders_are_errors(tmp_path):
    save(tmp_path / "my blurs" / "a.png")
    with pytest.raises(
        InputError, match=r"no training data .* named after blur are not used as photographs"
    ):
        find_training_files([tmp_path])
    with pytest.raises(InputError, match="not a folder"):
        find_training_files([tmp_path / "missing"])


def test_photographs_shrink_but_never_grow(tmp_path):
    save(tmp_path / "a.png", 40, 80)
    assert load_photograph(tmp_path / "a.png", 40).shape == (3, 20, 40)
    assert load_photograph(tmp_path / "a.png", 400).shape == (3, 40, 80)
    board = (torch.arange(16)[:, None] + torch.arange(24)) % 2 * 255
    write_image(tmp_path / "b.png", board.to(torch.uint8).expand(3, -1, -1).contiguous())
    halved = load_photograph(tmp_path / "b.png", 12)
    assert halved.shape == (3, 8, 12)
    assert set(halved.unique().tolist()) <= {127, 128}  # a mean, not every other pixel


def test_clips_become_shots_with_flow_and_cuts_split_them(tmp_path):
    folder = tmp_path / "clips" / "scene"
    wide = picture(64, 200, seed=1)
    for index in range(21):  # a last scene of three frames is too short
        scene = 255 - picture(64, 200, seed=5) if 9 <= index < 18 else wide
        image = np.ascontiguousarray(scene[:, 3 * index : 3 * index + 96].transpose(2, 0, 1))
        folder.mkdir(parents=True, exist_ok=True)
        write_image(folder / f"{index:03d}.png", torch.from_numpy(image))
    shots = load_shots(folder, short_side=64)
    assert [len(shot.frames) for shot in shots] == [9, 9]
    for shot in shots:
        assert shot.forward.shape == shot.backward.shape == (8, 2, 64, 96)
        for flow, pan in ((shot.forward, -3), (shot.backward, 3)):  # to the right
            inner = flow[:, 0, 16:-16, 24:-24].float()
            assert abs(float(inner.median()) - pan) < 0.6
    assert load_shots(folder, short_side=32)[0].frames.shape[-2:] == (32, 48)


def test_a_clip_of_frames_of_two_sizes_is_an_error_not_a_crash(tmp_path):
    for index in range(8):
        save(tmp_path / "clips" / "c" / f"{index}.png", width=32 if index < 5 else 40)
    with pytest.raises(InputError, match=r"5\.png' is 40x24, but the first .* 32x24"):
        load_shots(tmp_path / "clips" / "c")


def test_a_clip_too_small_to_measure_motion_is_named(tmp_path):
    for index in range(2):
        save(tmp_path / "clips" / "c" / f"{index}.png", 15, 40)
    with pytest.raises(InputError, match="c' has frames of 40x15: must be at least 16x16"):
        load_shots(tmp_path / "clips" / "c")


def test_video_files_become_shots(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.mp4", frames=10, size=(96, 64))
    (shot,) = load_shots(path)
    assert shot.frames.shape == (10, 3, 64, 96)
    monkeypatch.setattr(sources, "_MOST_FRAMES", 8)  # the rest of a long one is not held
    assert len(load_shots(path)[0].frames) == 8
