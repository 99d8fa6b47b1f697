"""Metadata of frames: what cannot be kept is named, what PyAV does not know is passed over."""

from __future__ import annotations

import av
import pytest
from av.sidedata.sidedata import Type

from tests.conftest import picture, write_video
from tests.video.conftest import restored
from tests.video.exif import oriented
from unsmear.restoration.files import Outcome
from unsmear.video import sidedata
from unsmear.video.describe import describe_streams
from unsmear.video.reader import VideoReader


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Type.DYNAMIC_HDR_PLUS, "HDR10+"),
        (Type.DYNAMIC_HDR_VIVID, "HDR Vivid"),
        (Type.DOVI_METADATA, "Dolby Vision"),
        (Type.DOVI_RPU_BUFFER, "Dolby Vision"),
        (Type.STEREO3D, "stereoscopic"),
        (Type.SPHERICAL, "spherical"),
        (Type.A53_CC, "captions"),
        (Type.ICC_PROFILE, "ICC"),
    ],
)
def test_what_is_not_kept_is_named(monkeypatch, kind, name):
    """Found by its kind alone: there are no samples of most."""
    monkeypatch.setattr(sidedata, "side_data_of", lambda frame: {kind: b""})
    (told,) = sidedata.lost_side_data(av.VideoFrame(16, 16))
    assert name in told


def test_a_cropping_for_players_is_named(tmp_path):
    path = write_video(tmp_path / "in.mkv", frames=1)
    unit, crop = b"\x54\xb2\x81\x04", b"\x54\xbb\x81\x08"  # DisplayUnit 4, PixelCropTop 8
    level = av.logging.get_level()
    for old, new, told in ((b"", b"", 0), (unit, crop, 1), (crop, crop[:3] + b"\0", 0)):
        path.write_bytes(path.read_bytes().replace(old, new))
        with VideoReader(path) as reader:
            assert (reader.info.width, reader.info.height) == (64, 48)
            assert sum("cropping" in note for note in reader.notes) == told
        (stream,) = describe_streams(path).streams
        assert ("cropped by players" in stream.details) == told
    assert av.logging.get_level() == level


def exif_image(path, orientation):
    """A JPEG image with an EXIF orientation."""
    return oriented(path, orientation, picture(48, 64), order="big")


@pytest.mark.parametrize(("orientation", "turned"), [(1, 0), (6, -90), (2, None)])
def test_side_data_that_pyav_has_no_name_for_is_passed_over(tmp_path, orientation, turned):
    path = exif_image(tmp_path / "in.jpg", orientation)
    assert describe_streams(path).width == 64
    with VideoReader(path) as reader:
        assert any("EXIF" in note for note in reader.notes)
        matrix = reader.info.display_matrix
        assert matrix is not None
        if turned is None:  # mirrored, which is not a rotation
            assert (matrix[0], matrix[4]) == (-65_536, 65_536)
        else:
            assert reader.rotation == turned
    assert restored(path, tmp_path / "out.mkv")[0] == Outcome(1)
