"""Image files as tensors and back: exact, upright, and in one line what cannot be done."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.conftest import picture
from tests.video.exif import ENDINGS, oriented, png_chunk, tiff
from unsmear.errors import InputError, OutputError
from unsmear.video.images import (
    eight_bit,
    integer_from_unit,
    paths_below,
    read_image,
    unit_from_integer,
    write_image,
)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_png_round_trip_is_exact(tmp_path, dtype):
    pixels = integer_from_unit(torch.rand(3, 7, 9), dtype)
    write_image(tmp_path / "ünïcode name.png", pixels)
    again = read_image(tmp_path / "ünïcode name.png")
    assert again.dtype == dtype
    assert torch.equal(again.int(), pixels.int())


def test_every_code_value_survives_the_float_detour():
    for dtype in (torch.uint8, torch.uint16):
        values = torch.arange(torch.iinfo(dtype).max + 1).to(torch.int32).to(dtype)
        assert torch.equal(integer_from_unit(unit_from_integer(values), dtype), values)
    assert integer_from_unit(torch.tensor([-0.5, 1.5])).tolist() == [0, 255]


def test_16_bits_are_rounded_to_8():
    deep = torch.tensor([0, 128, 129, 257, 65_407, 65_535]).to(torch.uint16)
    assert eight_bit(deep).tolist() == [0, 0, 1, 1, 255, 255]


def test_paths_below_a_folder_are_those_that_are_shown(tmp_path):
    """Through links too, but not around in circles."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder in (root / "a", root / ".git", root / "@eaDir", elsewhere / "deep"):
        folder.mkdir(parents=True)
        (folder / "1.png").touch()
        (folder / ".2.png").touch()
    (root / "link").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "back").symlink_to(root, target_is_directory=True)
    (root / "twin").symlink_to(root / "a", target_is_directory=True)
    assert [path.relative_to(root).as_posix() for path in paths_below(root)] == [
        "a", "a/1.png", "link", "link/back", "link/deep", "link/deep/1.png", "twin", "twin/1.png",
    ]  # fmt: skip
    assert paths_below(tmp_path / "gone") == []


def test_a_folder_that_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    def refuses(folder):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuses)
    with pytest.raises(InputError, match=rf"cannot read '{tmp_path}': Permission denied"):
        paths_below(tmp_path)


def test_grey_and_opaque_alpha_become_rgb_transparency_is_refused(tmp_path):
    grey = picture(8, 8)[..., 0]
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    assert torch.equal(read_image(tmp_path / "grey.png")[1], torch.from_numpy(grey))
    rgba = np.dstack([picture(8, 8), np.full((8, 8), 255, np.uint8)])
    cv2.imwrite(str(tmp_path / "opaque.png"), rgba)
    assert read_image(tmp_path / "opaque.png").shape == (3, 8, 8)
    deep = rgba.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    assert read_image(tmp_path / "deep.png").dtype == torch.uint16
    rgba[0, 0, 3] = 0
    deep[..., 3] = 255
    for clear in (rgba, deep):
        cv2.imwrite(str(tmp_path / "clear.png"), clear)
        with pytest.raises(InputError, match="transparent"):
            read_image(tmp_path / "clear.png")


WAYS = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: np.rot90(a),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_is_followed(tmp_path, orientation, ending):
    plain, told = tmp_path / f"plain.{ending}", tmp_path / f"told.{ending}"
    oriented(plain, 1)
    oriented(told, orientation)
    lying = read_image(plain).permute(1, 2, 0).numpy()
    assert (read_image(told).permute(1, 2, 0).numpy() == WAYS[orientation](lying)).all()
    if ending in ("jpg", "png"):  # formats that OpenCV rotates itself
        theirs = cv2.imread(str(told), cv2.IMREAD_COLOR)[..., ::-1]
        assert (read_image(told).permute(1, 2, 0).numpy() == theirs).all()


def test_deep_and_opaque_images_are_turned_too(tmp_path):
    deep = picture(24, 32).astype(np.uint16) * 257
    image = read_image(oriented(tmp_path / "deep.png", 6, deep))
    assert (image.dtype, image.shape) == (torch.uint16, (3, 32, 24))
    clear = np.dstack([picture(24, 32), np.full((24, 32), 255, np.uint8)])[..., [2, 1, 0, 3]]
    data = cv2.imencode(".png", np.ascontiguousarray(clear))[1].tobytes()
    (tmp_path / "opaque.png").write_bytes(data[:33] + png_chunk(b"eXIf", tiff(8)) + data[33:])
    assert read_image(tmp_path / "opaque.png").shape == (3, 32, 24)
    big_endian = oriented(tmp_path / "other.jpg", 6, order="big")
    assert read_image(big_endian).shape == (3, 32, 24)
    padded = big_endian.read_bytes()  # with fill bytes (ITU-T T.81, B.1.1.2)
    big_endian.write_bytes(padded[:2] + b"\xff\xff" + padded[2:])
    assert read_image(big_endian).shape == (3, 32, 24)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_full_device_is_one_line(tmp_path):
    (tmp_path / "a.png").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"a\.png': No space left on device$"):
        write_image(tmp_path / "a.png", torch.zeros(3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.gif2"])
def test_suffixes_that_nobody_knows_are_one_line(tmp_path, name):
    with pytest.raises(OutputError, match=r"no image format has the suffix .*use \.png"):
        write_image(tmp_path / name, torch.zeros(3, 8, 8, dtype=torch.uint8))
