from __future__ import annotations

import errno
import os
import sys

import cv2
import numpy as np
import pytest
import torch

from tests.conftest import disk_full, image, picture
from tests.video.conftest import restored
from tests.video.exif import oriented, png_chunk, retagged
from unsmear import clip as clip_module
from unsmear.errors import CombinedError, InputError, MidwayError, OutputError
from unsmear.restoration.files import Outcome
from unsmear.video.folder import FolderReader, publish_images
from unsmear.video.headers import read_header
from unsmear.video.images import integer_from_unit, read_image, unit_from_integer, write_image


@pytest.fixture
def images(tmp_path):
    """A folder of new images, to be published."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_frames_come_in_order_of_their_names_and_numbers_count(tmp_path):
    names = ["b", "a", "10", "9", "shot2-10", "shot2-9", "shot10-1", "\u06630"]  # Arabic digit 3
    images = {name: image(12, 16, i) for i, name in enumerate(names)}
    for name, pixels in images.items():
        write_image(tmp_path / f"{name}.png", pixels)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_text("not a picture")
    reader = FolderReader(tmp_path)
    frames = list(reader)
    wanted = ["9", "10", "a", "b", "shot2-9", "shot2-10", "shot10-1", "\u06630"]
    assert [frame.name for frame in frames] == wanted
    assert [frame.pts for frame in frames] == list(range(8))
    assert reader.info.frames == 8
    for frame in frames:
        assert torch.equal(integer_from_unit(frame.rgb), images[frame.name])


def test_sizes_must_agree(tmp_path):
    write_image(tmp_path / "1.png", image(12, 16))
    write_image(tmp_path / "2.png", image(12, 18))
    with pytest.raises(InputError, match=r"2\.png.*18x12.*16x12"):
        FolderReader(tmp_path)  # before the first frame is restored
    with (tmp_path / "2.png").open("r+b") as file:  # a wrong header
        file.seek(16)
        file.write((16).to_bytes(4, "big"))
    reader = FolderReader(tmp_path)
    with pytest.raises(MidwayError, match=r"2\.png"):
        list(reader)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp", "webp"])
def test_images_that_are_cut_off_are_told_before_the_first_frame(tmp_path, kind):
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.{kind}"), picture(48, 64))
        assert not read_header(tmp_path / f"{name}.{kind}").truncated
    for name in "bc":
        with (tmp_path / f"{name}.{kind}").open("r+b") as file:
            file.truncate(file.seek(0, os.SEEK_END) * 9 // 10)
    why = "is not an image" if kind == "tif" else "is truncated"
    with pytest.raises(CombinedError, match=rf"2 .*b\.{kind}' {why}.*remove it.*c\.{kind}' {why}"):
        FolderReader(tmp_path)


def test_what_only_seems_cut_off_is_read(tmp_path):
    write_image(tmp_path / "a.bmp", image(12, 16))
    with (tmp_path / "a.bmp").open("r+b") as file:  # a wrong file size
        file.seek(2)
        file.write((10**6).to_bytes(4, "little"))
    assert len(list(FolderReader(tmp_path))) == 1


def test_a_folder_says_what_it_turns_and_drops(tmp_path):
    for number, orientation in enumerate((6, 6, 1)):
        pixels = picture(24, 32) if orientation == 6 else picture(32, 24)
        oriented(tmp_path / f"{number}.jpg", orientation, pixels)
    reader = FolderReader(tmp_path)
    assert (reader.info.width, reader.info.height) == (24, 32)
    assert reader.notes == [
        "2 of 3 images are rotated upright, as their EXIF says",
        "the EXIF metadata of 3 of 3 images is not kept",
    ]
    assert [frame.rgb.shape for frame in reader] == [(3, 32, 24)] * 3
    for number in range(3):
        file = tmp_path / f"{number}.jpg"
        body = b"ICC_PROFILE\0\1\1" + bytes(128)
        part = b"\xff\xe2" + (len(body) + 2).to_bytes(2, "big") + body
        file.write_bytes(b"\xff\xd8" + part + file.read_bytes()[2:])
    notes = FolderReader(tmp_path).notes
    assert "the colour profiles (ICC) of 3 of 3 images are not kept" in notes
    target = tmp_path.with_name(f"{tmp_path.name}-out")
    assert restored(tmp_path, target)[0] == Outcome(3)


@pytest.mark.parametrize("first", [False, True])
def test_pictures_of_8_and_16_bits_make_16(tmp_path, first):
    deep = picture(24, 32).astype(np.uint16) * 250 + np.arange(32, dtype=np.uint16)[:, None]
    shallow = picture(24, 32, 1)
    oriented(tmp_path / "0.png", 1, deep if first else shallow)
    oriented(tmp_path / "1.tif", 1, shallow if first else deep)
    reader = FolderReader(tmp_path)
    assert reader.dtype == torch.uint16
    assert reader.notes[0] == "1 of 2 images have 16 bits: all are written with 16"
    out = tmp_path.with_name(f"{tmp_path.name}-out")
    restored(tmp_path, out)
    one = read_image(out / ("0.png" if first else "1.png"))
    assert one.dtype == torch.uint16
    assert unit_from_integer(one).unique().numel() > 256
    assert FolderReader(out).notes == []


def test_tiffs_that_opencv_misreads_are_refused(tmp_path):
    """All are named before the work; OpenCV inverts white-is-zero itself in 8 bits only."""
    grey = picture(12, 16)[..., 0]
    shallow = cv2.imencode(".tif", grey)[1].tobytes()
    (tmp_path / "white.tif").write_bytes(retagged(shallow, 262, 0))
    assert (read_image(tmp_path / "white.tif")[0].numpy() == 255 - grey).all()
    deep, color = (
        cv2.imencode(".tif", x.astype(np.uint16))[1].tobytes() for x in (grey, picture(12, 16))
    )
    (tmp_path / "x.tif").write_bytes(retagged(deep, 262, 0))
    (tmp_path / "y.tif").write_bytes(retagged(color, 284, 2))
    (tmp_path / "z.tif").write_bytes(retagged(shallow, 277, 2))
    (tmp_path / "z8.tif").write_bytes(
        retagged(cv2.imencode(".tif", picture(12, 16))[1].tobytes(), 262, 8)
    )
    (tmp_path / "z16.tif").write_bytes(retagged(color, 262, 8))
    told = (
        r"x\.tif.*white as zero.*y\.tif.*one after the other.*z8\.tif.*CIELAB.*z16\.tif.*CIELAB"
        r".*z\.tif.*grey with transparency"
    )
    with pytest.raises(CombinedError, match=told):
        FolderReader(tmp_path)
    for name in ("z", "z8", "z16"):
        (tmp_path / f"{name}.tif").unlink()
    (tmp_path / "y.tif").write_bytes(color)
    (tmp_path / "x.tif").write_bytes(retagged(deep, 284, 2))  # a single channel
    assert FolderReader(tmp_path).dtype == torch.uint16


def test_several_images_in_one_file_are_refused(tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    cv2.imwritemulti(str(pages / "a.tif"), [picture(24, 32), picture(24, 32, 1)])
    with pytest.raises(InputError, match=r"a\.tif' contains more than one image: save each"):
        FolderReader(pages)
    moving = tmp_path / "moving"
    moving.mkdir()
    data = oriented(moving / "a.webp", 1).read_bytes()
    frame = b"ANIM\6\0\0\0" + bytes(6)
    (moving / "a.webp").write_bytes(data + frame)
    with pytest.raises(InputError, match="more than one image"):
        FolderReader(moving)
    still = oriented(tmp_path / "a.png", 1).read_bytes()
    (tmp_path / "a.png").write_bytes(still[:33] + png_chunk(b"acTL", bytes(8)) + still[33:])
    with pytest.raises(InputError, match="more than one image"):
        FolderReader(tmp_path)


def test_an_image_too_large_is_told_by_its_size(tmp_path, monkeypatch):
    write_image(tmp_path / "1.png", image(12, 16))
    monkeypatch.setattr(clip_module, "MOST_PIXELS", 12 * 16)
    FolderReader(tmp_path)
    monkeypatch.setattr(clip_module, "MOST_PIXELS", 12 * 16 - 1)
    with pytest.raises(InputError, match=r"1\.png' declares 16x12: .* scale it down"):
        FolderReader(tmp_path)


def test_a_folder_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"cannot read '.*gone': No such file"):
        FolderReader(tmp_path / "gone")


def test_two_images_of_one_name_are_refused(tmp_path, monkeypatch):
    write_image(tmp_path / "1.png", image(12, 16))
    write_image(tmp_path / "1.bmp", image(12, 16))
    with pytest.raises(InputError, match="two images named '1'"):
        FolderReader(tmp_path)
    (tmp_path / "1.png").rename(tmp_path / "A.png")
    (tmp_path / "1.bmp").rename(tmp_path / "a.bmp")
    assert FolderReader(tmp_path).info.frames == 2
    monkeypatch.setattr(sys, "platform", "darwin")  # A.png would be a.png
    with pytest.raises(InputError, match=r"two images named '[aA]'"):
        FolderReader(tmp_path)


@pytest.mark.parametrize("contents", [b"", b"not a picture"])
def test_files_that_are_no_images_are_named(tmp_path, contents):
    (tmp_path / "1.png").write_bytes(contents)
    with pytest.raises(InputError, match=r"1\.png"):
        FolderReader(tmp_path)


def test_images_get_their_name_at_once(tmp_path, images):
    write_image(images / "0.png", image(12, 16))
    publish_images(images, tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["0.png"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_an_existing_folder_keeps_everything_else(tmp_path, images):
    target = tmp_path / "out"
    target.mkdir()
    (target / "0.png").write_text("old")
    (target / "precious.txt").write_text("precious")
    write_image(images / "0.png", image(12, 16))
    publish_images(images, target)
    assert (target / "precious.txt").read_text() == "precious"
    assert read_image(target / "0.png").shape == (3, 12, 16)


def test_nothing_is_replaced_where_something_stands_in_the_way(tmp_path, images):
    target = tmp_path / "out"
    (target / "b.png").mkdir(parents=True)
    for name in "ab":
        write_image(images / f"{name}.png", image(12, 16))
    (target / "a.png").write_text("old")
    with pytest.raises(OutputError, match=r"out/b\.png' is a folder"):
        publish_images(images, target)
    assert (target / "a.png").read_text() == "old"


def test_the_file_that_speaks_for_the_others_comes_last(tmp_path, images, monkeypatch):
    target = tmp_path / "out"
    target.mkdir()
    for name in ("a.html", "b.png"):
        (images / name).write_text("new")
    moved = []
    monkeypatch.setattr("os.replace", lambda file, _: moved.append(file.name))
    publish_images(images, target, last="a.html")
    assert moved == ["b.png", "a.html"]


def test_a_folder_on_another_file_system_is_filled_too(tmp_path, images, monkeypatch):
    """The output is a link to it, so files made beside the link cannot be renamed into it."""
    there, replace = tmp_path / "disk", os.replace
    there.mkdir()
    (tmp_path / "out").symlink_to(there)
    for name in "ab":
        write_image(images / f"{name}.png", image(12, 16))
    (images / "c").mkdir()
    write_image(images / "c" / "d.png", image(12, 16))

    def on_one_disk(file, place):
        if file.parent != place.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(file, place)

    monkeypatch.setattr("os.replace", on_one_disk)
    publish_images(images, tmp_path / "out")
    assert sorted(file.name for file in there.iterdir()) == ["a.png", "b.png", "c"]
    for place in ("a.png", "c/d.png"):
        assert torch.equal(read_image(there / place), image(12, 16))
    assert list(images.iterdir()) == []

    def half(file, place):
        place.write_bytes(b"half")
        disk_full()

    monkeypatch.setattr("shutil.copyfile", half)
    write_image(images / "a.png", image(12, 16, 1))
    with pytest.raises(OutputError, match="No space left"):
        publish_images(images, tmp_path / "out")
    assert torch.equal(read_image(there / "a.png"), image(12, 16))


def test_skipping_passes_over_images(tmp_path):
    for name in "abc":
        write_image(tmp_path / f"{name}.png", image(12, 16))
    reader = FolderReader(tmp_path)
    reader.skip(1)
    reader.skip(1)
    assert [(frame.name, frame.pts) for frame in reader] == [("c", 2)]


def test_missing_parent_is_a_clear_error(tmp_path):
    with pytest.raises(OutputError, match="nowhere"):
        publish_images(tmp_path, tmp_path / "nowhere" / "out")
