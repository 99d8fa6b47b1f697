"""Images with EXIF orientations, alone or in folders; 16 bits, animations, colour profiles."""

from __future__ import annotations

import zlib
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.conftest import picture, write_video
from tests.video.conftest import restored
from unsmear.clip import ClipInfo
from unsmear.errors import CombinedError, InputError, OutputError
from unsmear.restoration.files import Outcome
from unsmear.video.folder import FolderReader
from unsmear.video.headers import read_header
from unsmear.video.images import read_image, unit_from_integer, write_image
from unsmear.video.orientation import left_as_shown, orientation_of, upright
from unsmear.video.reader import VideoReader
from unsmear.video.stills import geometry_notes

ENDINGS = ["jpg", "png", "webp", "tif"]


def tiff(orientation, order="little"):
    """EXIF data with nothing but an orientation."""

    def short(value):
        return value.to_bytes(2, order)

    entry = short(274) + short(3) + (1).to_bytes(4, order) + short(orientation) + bytes(2)
    start = b"II*\0" if order == "little" else b"MM\0*"
    return start + (8).to_bytes(4, order) + short(1) + entry + bytes(4)


def oriented(path, orientation, pixels=None, order="little"):
    """An image file with an EXIF orientation."""
    pixels = picture(24, 32) if pixels is None else pixels
    kind = path.suffix
    flags = [cv2.IMWRITE_WEBP_QUALITY, 101] if kind == ".webp" else []
    data = cv2.imencode(kind, np.ascontiguousarray(pixels[..., ::-1]), flags)[1].tobytes()
    exif = tiff(orientation, order)
    if kind == ".jpg":
        body = b"Exif\0\0" + exif
        data = data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]
    elif kind == ".png":
        data = data[:33] + png_chunk(b"eXIf", exif) + data[33:]
    elif kind == ".webp":
        size = (31).to_bytes(3, "little") + (23).to_bytes(3, "little")
        extended = b"VP8X" + (10).to_bytes(4, "little") + b"\x08\0\0\0" + size
        more = b"EXIF" + len(exif).to_bytes(4, "little") + exif
        body = b"WEBP" + extended + data[12:] + more
        data = b"RIFF" + len(body).to_bytes(4, "little") + body
    else:
        data = turned_tiff(data, orientation)
    path.write_bytes(data)
    return path


def png_chunk(kind, data):
    crc = zlib.crc32(kind + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + kind + data + crc


def retagged(data, tag, value):
    """A TIFF file, little-endian, with another first value of a tag."""
    at = int.from_bytes(data[4:8], "little")
    entry = data.index(tag.to_bytes(2, "little") + b"\3\0\1\0\0\0", at)
    return data[: entry + 8] + value.to_bytes(2, "little") + data[entry + 10 :]


def turned_tiff(data, orientation):
    """A TIFF file with an orientation added to its directory, which moves to the end."""
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    rows = [data[at + 2 + 12 * n : at + 14 + 12 * n] for n in range(count)]
    rows = [row for row in rows if row[:2] != (274).to_bytes(2, "little")]
    rows.append(tiff(orientation)[10:22])
    rows.sort(key=lambda row: int.from_bytes(row[:2], "little"))
    table = len(rows).to_bytes(2, "little") + b"".join(rows) + bytes(4)
    return data[:4] + len(data).to_bytes(4, "little") + data[8:] + table


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


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_profiles_of_other_files_are_seen(tmp_path, ending):
    path = oriented(tmp_path / f"a.{ending}", 1)
    data = path.read_bytes()
    chunk = png_chunk(b"iCCP", b"x\0\0") if ending == "png" else b"ICCP\2\0\0\0xx"
    path.write_bytes(data[:33] + chunk + data[33:] if ending == "png" else data + chunk)
    assert read_header(path).profile


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


def test_deep_tiffs_that_opencv_misreads_are_refused(tmp_path):
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
    with pytest.raises(CombinedError, match=r"x\.tif.*white as zero.*y\.tif.*one after the other"):
        FolderReader(tmp_path)
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


@pytest.mark.parametrize("ending", ENDINGS)
def test_headers_that_are_damaged_say_nothing(tmp_path, ending):
    data = oriented(tmp_path / f"a.{ending}", 6).read_bytes()
    for end in range(min(len(data), 200)):
        (tmp_path / "cut").write_bytes(data[:end] + b"\xff" * 20 * (end % 2))
        assert read_header(tmp_path / "cut").orientation in range(1, 9)


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_a_display_matrix_is_an_orientation(tmp_path, rotation):
    source = write_video(tmp_path / "in.mp4", rotation=rotation, frames=1)
    with VideoReader(source) as reader:
        orientation = orientation_of(reader.info.display_matrix)
        notes = geometry_notes(reader.info)
        image = next(iter(reader)).rgb
    assert orientation == {0: 1, 90: 8, 180: 3, -90: 6}[rotation]
    turned = np.rot90(image.permute(1, 2, 0).numpy(), rotation // 90)
    assert (upright(image, orientation).permute(1, 2, 0).numpy() == turned).all()
    assert len(notes) == (rotation != 0)
    assert all("90 degrees" in note or "180 degrees" in note for note in notes)


def test_other_matrices_turn_nothing(tmp_path):
    source = write_video(tmp_path / "in.mp4", rotation=30, frames=1)
    with VideoReader(source) as reader:
        assert orientation_of(reader.info.display_matrix) is None
        assert "not rotated" in geometry_notes(reader.info)[0]
    wide = ClipInfo(width=8, height=8, frames=1, pixel_aspect=Fraction(4, 3))
    assert geometry_notes(wide) == ["the pixel aspect ratio, 4/3, is not kept in images"]
    image = torch.rand(3, 4, 6)
    assert upright(image, None) is image
    assert orientation_of(None) == 1
    mirrored = (-65_536, 0, 0, 0, 65_536, 0, 0, 0, 1 << 30)
    assert torch.equal(upright(image, orientation_of(mirrored)), image.flip(-1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_left_is_where_it_is_shown(orientation):
    marks = torch.arange(4).reshape(2, 2)
    sides = {"left": marks[:, 0], "right": marks[:, 1], "top": marks[0], "bottom": marks[1]}
    shown = {*upright(marks, orientation)[:, 0].tolist()}
    assert shown == {*sides[left_as_shown(orientation)].tolist()}
    assert left_as_shown(None) == "left"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
def test_a_full_device_is_one_line(tmp_path):
    (tmp_path / "a.png").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"a\.png': No space left on device$"):
        write_image(tmp_path / "a.png", torch.zeros(3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.gif2"])
def test_suffixes_that_nobody_knows_are_one_line(tmp_path, name):
    with pytest.raises(OutputError, match=r"no image format has the suffix .*use \.png"):
        write_image(tmp_path / name, torch.zeros(3, 8, 8, dtype=torch.uint8))
