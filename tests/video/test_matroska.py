"""Pixel aspect ratio in Matroska files, for codecs that do not store it themselves."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from tests.video.conftest import held, packets, rewrite, rich_video, shaped
from unsmear.video.encoding import EncodeChoice
from unsmear.video.formats import parse_pixel_format
from unsmear.video.matroska import set_pixel_aspect
from unsmear.video.reader import VideoReader

EMPTY = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x80"  # a segment without elements


@pytest.mark.parametrize(
    ("codec", "kind", "aspect"),
    [
        ("ffv1", "mkv", Fraction(16, 15)),
        ("ffv1", "mkv", Fraction(8, 9)),
        ("vp9", "mkv", Fraction(3, 2)),
        ("av1", "mkv", Fraction(16, 15)),
        ("prores", "mkv", Fraction(8, 9)),
        ("h264", "mkv", Fraction(3, 2)),
        ("hevc", "mkv", Fraction(16, 15)),
        ("vp9", "webm", Fraction(8, 9)),
        ("av1", "webm", Fraction(3, 2)),
        ("h264", "mp4", Fraction(16, 15)),
    ],
)
def test_pixel_aspect_is_kept_whatever_the_codec(tmp_path, codec, kind, aspect):
    source = shaped(tmp_path / "in.mp4", aspect, frames=3)
    form = "yuv422p10le" if codec == "prores" else "yuv420p"
    choice = EncodeChoice(codec=codec, pixel_format=parse_pixel_format(form))
    target = tmp_path / f"out.{kind}"
    rewrite(source, target, choice)
    with VideoReader(target) as reader:
        assert reader.info.pixel_aspect == aspect
        assert (reader.info.width, reader.info.height) == (64, 48)
        assert sum(1 for _ in reader) == 3
    with av.open(str(target)) as container:
        container.seek(40_000)  # the SeekHead points to the index
        assert next(container.decode(video=0)) is not None


def test_nothing_else_of_the_file_changes(tmp_path):
    source = rich_video(tmp_path / "in.mkv", sound=("flac", "flac"), cover=True)
    target = tmp_path / "out.mkv"
    rewrite(source, target, EncodeChoice(codec="ffv1"))
    before = target.read_bytes()
    told = held(target), packets(target, "audio"), packets(target, "subtitle")
    assert set_pixel_aspect(target, Fraction(16, 11))
    after = target.read_bytes()
    assert len(after) == len(before)
    assert (held(target), packets(target, "audio"), packets(target, "subtitle")) == told
    clusters = before.find(b"\x1f\x43\xb6\x75", 500)
    assert after[clusters:] == before[clusters:]
    with VideoReader(target) as reader:
        assert reader.info.pixel_aspect == Fraction(16, 11)
    again = after
    assert set_pixel_aspect(target, Fraction(16, 11))
    assert target.read_bytes() == again


@pytest.mark.parametrize("contents", [b"", EMPTY[:4], EMPTY, b"no Matroska at all" * 9])
def test_other_files_are_left_as_they_are(tmp_path, contents):
    (tmp_path / "x.mkv").write_bytes(contents)
    assert not set_pixel_aspect(tmp_path / "x.mkv", Fraction(4, 3))
    assert (tmp_path / "x.mkv").read_bytes() == contents
