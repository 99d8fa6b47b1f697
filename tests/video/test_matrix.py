"""Containers, codecs, depths, ranges, matrices, frame rates, rotation and audio, through all of
video/: the output equals a plain re-encode, and every time stamp and tag is kept.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.conftest import write_video
from tests.video.conftest import restored
from unsmear.restoration.files import Outcome
from unsmear.video.encoding import EncodeChoice, choose_encoding, configure
from unsmear.video.reader import VideoReader

STEADY = [1000 * number for number in range(7)]
UNEVEN = [0, 1000, 1500, 4000, 4100, 9000, 9900]
LATE = [9000 + stamp for stamp in UNEVEN]
BT709, BT601, BT2020 = (1, 1, 1, 1), (1, 5, 6, 5), (1, 9, 14, 9)
FULL, PQ, HLG = (2, 1, 1, 1), (1, 9, 16, 9), (1, 9, 18, 9)
QUIET = {"libx265": {"x265-params": "log-level=none"}}

# The codec in which a result is written, by the encoder of its source.
FAMILIES = {"libx264": "h264", "libx265": "hevc", "libvpx-vp9": "vp9", "libsvtav1": "av1",
            "ffv1": "ffv1", "prores_ks": "prores", "mpeg4": "h264", "mjpeg": "h264"}  # fmt: skip

# container, encoder, pixel format, time stamps, tags, rotation, audio
MATRIX = [
    ("mp4", "libx264", "yuv420p", STEADY, BT709, 0, ("aac", "stereo")),
    ("mp4", "libx264", "yuv420p", UNEVEN, BT601, 90, ("aac", "5.1")),
    ("mp4", "libx264", "yuv420p", LATE, FULL, 180, ("mp3", "mono")),
    ("mp4", "libx264", "yuv422p10le", STEADY, BT709, 0, None),
    ("mp4", "libx265", "yuv420p", STEADY, BT709, -90, None),
    ("mp4", "libx265", "yuv420p10le", UNEVEN, PQ, 0, ("aac", "stereo")),
    ("mp4", "libx265", "yuv420p10le", STEADY, HLG, 0, None),
    ("mp4", "libsvtav1", "yuv420p", STEADY, BT709, 0, ("libopus", "stereo")),
    ("mp4", "libsvtav1", "yuv420p10le", UNEVEN, BT2020, 0, None),
    ("mp4", "mpeg4", "yuv420p", STEADY, BT601, 0, ("aac", "mono")),
    ("mp4", "libvpx-vp9", "yuv420p", LATE, BT709, 0, None),
    ("mov", "libx264", "yuv444p", UNEVEN, BT709, 90, ("pcm_s16le", "stereo")),
    ("mov", "prores_ks", "yuv422p10le", STEADY, BT709, 0, ("pcm_s24le", "stereo")),
    ("mov", "libx265", "yuv422p10le", STEADY, BT2020, 0, None),
    ("mkv", "libx264", "yuv420p10le", UNEVEN, BT709, 0, ("flac", "stereo")),
    ("mkv", "libx265", "yuv444p12le", STEADY, FULL, 0, ("ac3", "5.1")),
    ("mkv", "ffv1", "yuv420p", UNEVEN, BT601, 0, ("pcm_s16le", "mono")),
    ("mkv", "ffv1", "yuv422p10le", STEADY, BT709, 0, None),
    ("mkv", "ffv1", "yuv444p16le", LATE, FULL, 0, None),
    ("mkv", "libvpx-vp9", "yuv444p", STEADY, BT709, 0, None),
    ("webm", "libvpx-vp9", "yuv420p", UNEVEN, BT709, 0, ("libopus", "stereo")),
    ("webm", "libsvtav1", "yuv420p10le", STEADY, BT2020, 0, None),
    ("avi", "mpeg4", "yuv420p", STEADY, BT601, 0, ("mp3", "stereo")),
    ("avi", "mjpeg", "yuvj422p", STEADY, FULL, 0, ("pcm_s16le", "stereo")),
]


def label(row):
    return "-".join((row[0], row[1], row[2], {id(LATE): "late", id(UNEVEN): "uneven"}.get(
        id(row[3]), "steady"), str(row[4][1]), str(row[5]))).replace("yuv", "")  # fmt: skip


def make(path, encoder, pixel_format, stamps, tags, rotation, sound):
    base = Fraction(1, 25) if path.suffix == ".avi" else Fraction(1, 30_000)
    pts = list(range(len(stamps))) if path.suffix == ".avi" else stamps
    return write_video(
        path, pts=pts, codec=encoder, pixel_format=pixel_format, tags=tags, rotation=rotation,
        time_base=base, options=QUIET.get(encoder), sound=sound,
    )  # fmt: skip


def plain(source, target):
    """A plain re-encode, without planes, tensors or parts."""
    with VideoReader(source) as reader:
        info = reader.info
        encoding = choose_encoding(
            EncodeChoice(), reader.codec, reader.pixel_format, target.suffix,
            (info.width, info.height),
        )  # fmt: skip
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = out.add_stream(encoding.encoder.name, rate=info.rate)
        configure(stream.codec_context, encoding, info)
        stream.time_base = info.time_base
        for frame in container.decode(video=0):
            frame.pict_type = 0
            out.mux(stream.encode(_tidy(frame)))
        out.mux(stream.encode(None))
    return target


def _tidy(frame):
    """A copy of the frame with its edge pixels repeated beyond the edge, where encoders read."""
    copy = av.VideoFrame(frame.width, frame.height, frame.format.name.replace("yuvj", "yuv"))
    for source, target in zip(frame.planes, copy.planes, strict=True):
        width = source.width * (2 if "le" in frame.format.name else 1)
        old = np.frombuffer(source, np.uint8).reshape(source.height, -1)
        new = np.frombuffer(target, np.uint8).reshape(target.height, -1)
        step = 2 if "le" in frame.format.name else 1
        new[:, :width] = old[:, :width]
        for column in range(width, new.shape[1], step):
            new[:, column : column + step] = old[:, width - step : width]
    copy.pts, copy.time_base = frame.pts, frame.time_base
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    return copy


def read(path):
    with VideoReader(path) as reader:
        return reader.info, [(frame.pts, frame.planes) for frame in reader], reader.codec


def sound_of(path):
    with av.open(str(path)) as container:
        return [
            (stream.codec_context.name, stream.layout.name, stream.rate,
             b"".join(bytes(packet) for packet in container.demux(stream)))
            for stream in container.streams.audio
        ]  # fmt: skip


@pytest.mark.parametrize("row", MATRIX, ids=label)
def test_strength_0_is_a_plain_re_encode(tmp_path, row):
    source = make(tmp_path / f"in.{row[0]}", *row[1:])
    suffix = ".mkv" if row[0] == "avi" else f".{row[0]}"
    target = tmp_path / f"out{suffix}"
    assert restored(source, target, 3, strength=0.0)[0] == Outcome(7)
    before, original, _ = read(source)
    after, ours, codec = read(target)
    _, theirs, _ = read(plain(source, tmp_path / f"plain{suffix}"))
    stamps = [pts for pts, _ in original]
    if suffix == ".mkv" and row[0] == "avi":  # Matroska has ticks of 1 ms
        stamps = [Fraction(round(pts * 1000), 1000) for pts in stamps]
    assert [pts for pts, _ in ours] == stamps
    assert codec == FAMILIES[row[1]]
    assert after.tags == before.tags
    assert (after.width, after.height) == (before.width, before.height)
    assert after.display_matrix == before.display_matrix
    assert (after.display_matrix is not None) == bool(row[5])
    assert sound_of(target) == sound_of(source)
    assert len(sound_of(target)) == bool(row[6])
    for (_, one), (_, other), (_, first) in zip(ours, theirs, original, strict=True):
        assert one.depth == first.depth
        assert (one.down_x, one.down_y) == (first.down_x, first.down_y)
        for name in ("y", "u", "v"):
            difference = getattr(one, name).int() - getattr(other, name).int()
            assert difference.abs().max() <= 1
