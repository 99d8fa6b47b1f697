"""What headers of image files say, damaged ones included."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from tests.conftest import picture
from tests.video.exif import ENDINGS, oriented, png_chunk
from unsmear.video.headers import read_header


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp", "webp", "lossless.webp", "x.webp"])
def test_files_say_their_size(tmp_path, kind, orientation):
    path = tmp_path / f"a.{kind}"
    quality = [cv2.IMWRITE_WEBP_QUALITY, 101 if kind == "lossless.webp" else 80]
    pixels = picture(12, 17)
    if kind == "x.webp":
        pixels = np.dstack([pixels, np.full((12, 17), 128, np.uint8)])
    cv2.imwrite(str(path), pixels, quality)
    header = read_header(path)
    assert header.size == (17, 12)
    turned = dataclasses.replace(header, orientation=orientation)
    assert turned.upright_size == ((12, 17) if orientation == 6 else (17, 12))


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_profiles_of_other_files_are_seen(tmp_path, ending):
    path = oriented(tmp_path / f"a.{ending}", 1)
    data = path.read_bytes()
    chunk = png_chunk(b"iCCP", b"x\0\0") if ending == "png" else b"ICCP\2\0\0\0xx"
    path.write_bytes(data[:33] + chunk + data[33:] if ending == "png" else data + chunk)
    assert read_header(path).profile


@pytest.mark.parametrize("ending", ENDINGS)
def test_headers_that_are_damaged_say_nothing(tmp_path, ending):
    data = oriented(tmp_path / f"a.{ending}", 6).read_bytes()
    for end in range(min(len(data), 200)):
        (tmp_path / "cut").write_bytes(data[:end] + b"\xff" * 20 * (end % 2))
        assert read_header(tmp_path / "cut").orientation in range(1, 9)
