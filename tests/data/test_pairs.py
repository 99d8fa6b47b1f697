"""Pairs of blurry and sharp frames: published layouts, order, and what does not match."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import picture
from tests.data.conftest import pair_folder, save
from unsmear.data.pairs import (
    DEFAULT_LAYOUTS,
    PAIR_LAYOUTS,
    PairLayout,
    add_layout,
    find_layout,
    find_pairs,
    some_pairs,
)
from unsmear.data.sources import find_training_files, load_photograph, training_record
from unsmear.errors import ConfigError, InputError
from unsmear.video.images import write_image


@pytest.mark.parametrize(
    ("layout", "blurry", "sharp", "name"),
    [
        ("gopro", "test/G1/blur", "test/G1/sharp", "test/G1"),
        ("dvd", "q/720p/input", "q/720p/GT", "q/720p"),
        ("bsd", "BSD_1ms8ms/test/000/Blur/RGB", "BSD_1ms8ms/test/000/Sharp/RGB", "000"),
        ("reds", "val/val_blur/000", "val/val_sharp/000", "val/val_blur/000"),
        ("vrt", "test_GT_blurred/IMG_1", "test_GT/IMG_1", "test_GT_blurred/IMG_1"),
        ("cdvd", "test/blur/IMG_1", "test/gt/IMG_1", "test/blur/IMG_1"),
    ],
)
def test_published_layouts_are_found(tmp_path, monkeypatch, layout, blurry, sharp, name):
    for folder in (blurry, sharp):
        for index in range(2):
            save(tmp_path / folder / f"{index:08d}.png")
    for layouts in ([find_layout(layout)], DEFAULT_LAYOUTS):
        (pair,) = find_pairs(tmp_path, layouts)
        assert pair.name.endswith(name)
        assert pair.layout == layout
        assert pair.blurry[0].parent == tmp_path / blurry
        assert pair.sharp[1].parent == tmp_path / sharp
    assert find_training_files([tmp_path]).photographs == ()
    above = (tmp_path / blurry).parent  # may hold one side only, such as `val_blur` and `Blur`
    save(above / "RAW" / "a.png")  # without a sharp side
    files = find_training_files([above])
    assert not files.photographs or (tmp_path / sharp).is_relative_to(above)
    assert [pair.name for pair in files.pairs] == [name.split("/")[-1]]
    record = training_record(files, [above])
    for place, root in ((above, Path()), (above / "RAW", Path(".."))):
        monkeypatch.chdir(place)
        assert find_training_files([root]) == files
        assert training_record(files, [root]) == record
        assert find_pairs(root) == list(files.pairs)
    one_side = find_training_files([tmp_path / blurry])
    assert one_side.photographs == ()
    assert [pair.sharp for pair in one_side.pairs] == [files.pairs[0].sharp]
    told = training_record(one_side, [tmp_path / blurry])
    assert told != record
    name = Path(blurry).name
    for place, root in ((above, Path(name)), (above / "RAW", Path("..", name))):
        monkeypatch.chdir(place)
        assert find_training_files([root]) == one_side
        assert training_record(one_side, [root]) == told
    (tmp_path / sharp / "00000001.png").write_bytes(b"")
    assert training_record(files, [above]) != record


def test_sequences_that_share_a_folder_are_told_apart_by_their_names(tmp_path):
    """The layout of GOPRO in MPRNet and NAFNet."""
    for side in ("input", "target"):
        for name in ("GOPR0372_07_00", "GOPR0374_11_00"):
            for number in (9, 10, 11):
                save(tmp_path / "train" / side / f"{name}-{number:06d}.png", seed=number)
    files = find_training_files([tmp_path])
    assert files.photographs == ()
    assert [pair.name for pair in files.pairs] == ["train/GOPR0372_07_00", "train/GOPR0374_11_00"]
    for pair in files.pairs:
        assert [path.stem[-6:] for path in pair.blurry] == ["000009", "000010", "000011"]
        assert [path.name for path in pair.blurry] == [path.name for path in pair.sharp]
        assert {path.parent.name for path in pair.blurry} == {"input"}
        assert {path.parent.name for path in pair.sharp} == {"target"}
    (one, _) = find_pairs(tmp_path / "train", [find_layout("gopro-flat")])
    assert one.name == "GOPR0372_07_00"


def test_single_pictures_of_a_flat_folder_are_no_sequence(tmp_path):
    """HIDE, beside frames that only have numbers."""
    for side in ("input", "target"):
        for name in ("1fromGOPR0950", "2fromGOPR1096"):
            save(tmp_path / "HIDE" / "test" / side / f"{name}.png")
        for number in range(2):
            save(tmp_path / "mine" / side / f"frame_{number}.png")
    with pytest.raises(
        InputError, match=r"cannot tell whether '1fromGOPR0950.png' and '2from.*HIDE.test.input' "
    ):
        find_training_files([tmp_path])
    (pair,) = find_pairs(tmp_path / "mine")
    assert len(pair.blurry) == 2


def test_a_program_may_add_a_layout(tmp_path):
    for side in ("lq", "gt"):
        save(tmp_path / "day" / "s1" / side / "0.png")
    assert find_pairs(tmp_path) == []
    for layouts, named in (
        (DEFAULT_LAYOUTS, r"such as NAME/blur and NAME/sharp \(layouts: gopro, gopro-flat, "),
        ([find_layout("reds")], r"such as NAME_blur and NAME_sharp \(layouts: reds\)$"),
    ):
        with pytest.raises(InputError, match=named):
            some_pairs(tmp_path, layouts)
    add_layout(PairLayout("mine", "lq", "gt"))
    try:
        (pair,) = find_pairs(tmp_path)
        files = find_training_files([tmp_path])
        assert find_layout("mine").sharp == "gt"
        known = len(PAIR_LAYOUTS), len(DEFAULT_LAYOUTS)
        add_layout(PairLayout("mine", "lq", "gt"))
        for name in ("mine", "gopro"):
            with pytest.raises(ConfigError, match=f"layout '{name}' is already there, as "):
                add_layout(PairLayout(name, "low", "high"))
        assert known == (len(PAIR_LAYOUTS), len(DEFAULT_LAYOUTS))
    finally:
        for table in (PAIR_LAYOUTS, DEFAULT_LAYOUTS):
            table.pop()
    assert (pair.name, pair.layout) == ("day/s1", "mine")
    assert (files.photographs, files.pairs) == ((), (pair,))


def test_frames_without_leading_zeros_are_in_order(tmp_path):
    for side in ("blur", "sharp"):
        for index in range(12):
            save(tmp_path / "seq" / side / f"{index}.png")
    (pair,) = find_pairs(tmp_path)
    assert [int(path.stem) for path in pair.blurry] == list(range(12))


def test_unknown_layouts_name_the_known():
    with pytest.raises(InputError, match="gopro, gopro-gamma, gopro-flat, dvd, bsd, reds, vrt"):
        find_layout("kitti")


def test_pairs_read_in_order(tmp_path):
    pair_folder(tmp_path, "seq", frames=4)
    save(tmp_path / "seq" / "sharp" / "000002.png", seed=9)
    (pair,) = find_pairs(tmp_path)
    blurry, sharp = pair.read(1, 2)
    assert blurry.shape == sharp.shape == (2, 3, 24, 32)
    for side, seeds in ((blurry, (1, 2)), (sharp, (1, 9))):
        for frame, seed in zip(side, seeds, strict=True):
            assert torch.equal(
                frame, torch.from_numpy(picture(24, 32, seed).transpose(2, 0, 1).copy())
            )
    assert pair.read()[0].shape[0] == 4
    for path in pair.blurry:  # cameras write JPEG beside a truth in PNG
        path.rename(path.with_suffix(".jpg"))
    (mixed,) = find_pairs(tmp_path)
    assert mixed.blurry[2].name == "000002.jpg"
    assert mixed.sharp == pair.sharp


def test_pairs_with_different_names_are_an_error(tmp_path):
    pair_folder(tmp_path, "seq")
    (tmp_path / "seq" / "sharp" / "000001.png").unlink()
    with pytest.raises(InputError, match=r"same names.*3 and 2; .*: '[^']*blur.000001.png'; add"):
        find_pairs(tmp_path)
    save(tmp_path / "seq" / "sharp" / "1.png")
    with pytest.raises(InputError, match=r"blur.000001.png' and '[^']*sharp.1.png'; add"):
        find_pairs(tmp_path)


def test_frames_of_different_size_are_an_error(tmp_path):
    pair_folder(tmp_path, "seq")
    save(tmp_path / "seq" / "blur" / "000001.png", width=40)
    with pytest.raises(InputError, match=r"000001\.png"):
        find_pairs(tmp_path)[0].read()


def test_pairs_of_sixteen_bits_are_read_as_photographs_are(tmp_path):
    fine = torch.randint(0, 65536, (3, 16, 24), dtype=torch.int32).to(torch.uint16)
    for side in ("blur", "sharp"):
        (tmp_path / "s" / side).mkdir(parents=True)
        write_image(tmp_path / "s" / side / "0.png", fine)
    (pair,) = find_pairs(tmp_path)
    for frames in pair.read():
        assert frames.dtype == torch.uint8
        assert torch.equal(frames[0], load_photograph(pair.sharp[0], 99))
        assert (frames[0] * 257.0 - fine.float()).abs().max() <= 128.5
