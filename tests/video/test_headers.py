"""What headers of image files say, damaged ones included."""

from __future__ import annotations

import dataclasses
import io

import cv2
import numpy as np
import pytest

from tests.conftest import picture
from tests.video.exif import ENDINGS, oriented, png_chunk, tiff
from unsmear.video.headers import parse_header, read_header


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp", "webp", "lossless.webp", "x.webp"])
def test_files_say_their_size(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    quality = [cv2.IMWRITE_WEBP_QUALITY, 101 if kind == "lossless.webp" else 80]
    pixels = picture(12, 17)
    if kind == "x.webp":
        pixels = np.dstack([pixels, np.full((12, 17), 128, np.uint8)])
    cv2.imwrite(str(path), pixels, quality)
    header = read_header(path)
    assert header.size == (17, 12)
    for orientation in range(1, 9):
        turned = dataclasses.replace(header, orientation=orientation)
        assert turned.upright_size == ((17, 12) if orientation <= 4 else (12, 17))


@pytest.mark.parametrize("ending", ["jpg", "webp", "bmp"])
def test_a_file_without_its_last_byte_is_truncated(ending):
    data = cv2.imencode(f".{ending}", picture(12, 17))[1].tobytes()
    assert not parse_header(io.BytesIO(data)).truncated
    assert parse_header(io.BytesIO(data[:-1])).truncated


def test_bmp_files_of_all_kinds_say_their_size():
    data = cv2.imencode(".bmp", picture(12, 17))[1].tobytes()
    top_first = data[:22] + (-12).to_bytes(4, "little", signed=True) + data[26:]
    assert parse_header(io.BytesIO(top_first)).size == (17, 12)
    sizes = b"".join(number.to_bytes(2, "little") for number in (12, 0, 17, 12))
    assert parse_header(io.BytesIO(data[:14] + sizes + bytes(8))).size == (17, 12)  # OS/2


def test_exif_of_webp_is_found_behind_a_chunk_of_odd_length(tmp_path):
    """Some writers begin it as in JPEG."""
    data = oriented(tmp_path / "a.webp", 6).read_bytes()
    at = data.index(b"EXIF")
    exif = b"EXIF" + (6 + len(tiff(6))).to_bytes(4, "little") + b"Exif\0\0" + tiff(6)
    odd = data[:at] + b"XMP \1\0\0\0x\0" + exif
    header = parse_header(io.BytesIO(odd))
    assert (header.orientation, header.exif) == (6, True)


def test_a_preview_in_a_tiff_file_is_no_page(tmp_path):
    path = tmp_path / "a.tif"
    cv2.imwritemulti(str(path), [picture(12, 17), picture(6, 8)])
    assert read_header(path).multi_image
    *pages, last = path.read_bytes().split(b"\xfe\0\4\0\1\0\0\0")  # the kind of each page
    path.write_bytes(b"\xfe\0\4\0\1\0\0\0".join([*pages, b"\1" + last[1:]]))
    assert not read_header(path).multi_image


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_profiles_of_other_files_are_seen(tmp_path, ending):
    path = oriented(tmp_path / f"a.{ending}", 1)
    data = path.read_bytes()
    chunk = png_chunk(b"iCCP", b"x\0\0") if ending == "png" else b"ICCP\2\0\0\0xx"
    path.write_bytes(data[:33] + chunk + data[33:] if ending == "png" else data + chunk)
    assert read_header(path).profile


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_exif_that_is_damaged_costs_nothing_else(tmp_path, ending, damaged):
    """Or whose preview is gone: some programs leave its offset behind."""
    path, exif = oriented(tmp_path / f"a.{ending}", 6), tiff(6)
    other = exif[:8] + b"\xff\xff" + exif[10:] if damaged else exif[:-4] + b"\xff\xff\xff\1"
    path.write_bytes(path.read_bytes().replace(exif, other))
    header = read_header(path)
    assert (header.orientation, header.size, header.exif) == (1 if damaged else 6, (32, 24), True)


@pytest.mark.parametrize("ending", ENDINGS)
def test_headers_that_are_damaged_say_nothing(tmp_path, ending):
    data = oriented(tmp_path / f"a.{ending}", 6).read_bytes()
    for end in range(min(len(data), 200)):
        (tmp_path / "cut").write_bytes(data[:end] + b"\xff" * 20 * (end % 2))
        assert read_header(tmp_path / "cut").orientation in range(1, 9)
