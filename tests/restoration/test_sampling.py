"""Samples of the blur of a clip, over time."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from tests.conftest import write_video
from tests.restoration.conftest import write_moments
from tests.video.conftest import remuxed
from unsmear.errors import ConfigError
from unsmear.restoration.sampling import sample_blur
from unsmear.video.describe import describe_streams


def test_blur_is_found_where_it_is(tmp_path):
    pattern = [False] * 4 + [True] * 3 + [False] * 3
    found = sample_blur(write_moments(tmp_path / "clip.mp4", pattern), every=1)
    assert [frame.time for frame in found] == pytest.approx([i / 10 for i in range(10)])
    lengths = [frame.estimate.length or 0.0 for frame in found]
    sharp = [x for x, blurred in zip(lengths, pattern, strict=True) if not blurred]
    smeared = [x for x, blurred in zip(lengths, pattern, strict=True) if blurred]
    assert min(smeared) > max(sharp) + 2


def test_every_and_the_default_sample(tmp_path, monkeypatch):
    clip = write_moments(tmp_path / "clip.mp4", [False] * 20)
    assert len(sample_blur(clip)) == 20
    thirds = sample_blur(clip, every=3)
    with pytest.raises(ConfigError, match="every is 0: must be 1"):
        sample_blur(clip, every=0)
    assert [frame.time for frame in thirds] == pytest.approx([i / 10 for i in range(0, 20, 3)])
    assert len(sample_blur(clip, most=5)) == 5
    # A long clip is not decoded completely, but sampled from start to end.
    monkeypatch.setattr("unsmear.restoration.sampling._SEEK_FROM", 0)
    times = [frame.time for frame in sample_blur(clip, most=5)]
    assert len(times) == 5
    assert times == sorted(set(times))
    assert times == pytest.approx([0.2, 0.6, 1.0, 1.4, 1.8], abs=0.11)
    late = remuxed(clip, tmp_path / "late.mkv", later=100)
    assert describe_streams(late).duration == pytest.approx(2, abs=0.11)
    found = [frame.time - 100 for frame in sample_blur(late, most=5)]
    assert found == pytest.approx(times, abs=0.11)
    sounding = write_video(tmp_path / "sounding.mp4", frames=30, audio=True)
    late = remuxed(sounding, tmp_path / "late.mkv", later=2, late=("video",))  # after its sound
    assert len(sample_blur(late, most=5)) == 5
    times = [frame.time for frame in sample_blur(clip, most=25)]  # more than there are frames
    assert times == sorted(set(times))


def write_covered(path: Path, plain: Path) -> Path:
    """A clip whose cover comes before its video stream, as iTunes writes it."""
    with av.open(str(plain)) as source, av.open(str(path), mode="w") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        cover = target.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in source.demux(video=0):
            if packet.pts is not None:
                packet.stream = stream
                target.mux(packet)
        black = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        target.mux([*cover.encode(black), *cover.encode(None)])
    contents = path.read_bytes()
    moov, udta = contents.index(b"moov") - 4, contents.index(b"udta") - 4
    inside, length = moov + 8, int.from_bytes(contents[udta : udta + 4], "big")
    contents = (
        contents[:inside] + contents[udta : udta + length] + contents[inside:udta]
        + contents[udta + length :]
    )  # fmt: skip
    path.write_bytes(contents)
    return path


def test_a_cover_that_comes_first_is_no_clip(tmp_path):
    clip = write_moments(tmp_path / "clip.mp4", [False] * 6)
    covered = write_covered(tmp_path / "covered.mp4", clip)
    with av.open(str(covered)) as container:
        assert [stream.width for stream in container.streams.video] == [32, 256]
    assert sample_blur(covered) == sample_blur(clip)
