"""What a container accepts is known before the work: muxers, trial headers."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction

import av
import pytest

from tests.conftest import write_video
from tests.video.conftest import remuxed, rewrite
from unsmear.clip import ClipInfo
from unsmear.errors import EncodeError
from unsmear.video.container import check_container
from unsmear.video.encoding import ENCODERS, Encoding
from unsmear.video.formats import VIDEO_CONTAINERS, PixelFormat

INFO = ClipInfo(width=64, height=48, frames=2, rate=Fraction(25), time_base=Fraction(1, 25))
FORMATS = {"prores": PixelFormat(10, 1, 0)}


@pytest.mark.parametrize("suffix", VIDEO_CONTAINERS)
def test_every_muxer_takes_what_the_table_says(tmp_path, suffix):
    rows = [row for row in ENCODERS.values() if suffix in row.containers]
    assert rows
    for row in rows:
        form = FORMATS.get(row.family, PixelFormat(8, 1, 1))
        check_container(tmp_path / f"out{suffix}", Encoding(row, row.crf, form), INFO)
    assert list(tmp_path.iterdir()) == []


def test_what_a_muxer_refuses_is_told_with_what_it_takes(tmp_path):
    path, row = tmp_path / "out.MOV", ENCODERS["vp9"]
    with pytest.raises(
        EncodeError, match=r"out\.MOV.*vp9 \(yuv420p, 64x48\).*--codec h264 or hevc"
    ):
        check_container(path, Encoding(row, row.crf, PixelFormat(8, 1, 1)), INFO)
    assert not path.exists()


def test_what_an_encoder_refuses_is_no_remedy(tmp_path):
    row, tiny = ENCODERS["av1"], replace(INFO, width=2, height=2)
    with pytest.raises(EncodeError, match=r"--codec h264 or hevc or vp9 or prores or ffv1$"):
        check_container(tmp_path / "a.mkv", Encoding(row, row.crf, PixelFormat(8, 1, 1)), tiny)


@pytest.mark.parametrize("suffix", [".mp4", ".MOV"])
def test_what_phones_say_is_kept_whatever_the_case_of_the_suffix(tmp_path, suffix):
    made = {"com.apple.quicktime.make": "Apple"}
    plain = write_video(tmp_path / "plain.mov", codec="libx265",
                        options={"x265-params": "log-level=none"})  # fmt: skip
    options = {"movflags": "use_metadata_tags"}
    remuxed(plain, tmp_path / "in.mov", options=options, metadata=made)
    os.replace(tmp_path / "in.mov", tmp_path / f"in{suffix}")
    rewrite(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"
        assert container.metadata["com.apple.quicktime.make"] == "Apple"
