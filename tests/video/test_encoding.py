"""Encoders are deterministic: a resumed run must give the result of an uninterrupted one."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch.nn import functional

from unsmear.clip import ClipInfo, ColorTags
from unsmear.video.color import planes_from_rgb
from unsmear.video.encoding import EncodeChoice, FrameEncoder, choose_encoding
from unsmear.video.formats import PixelFormat

TAGS = ColorTags(matrix=1, primaries=1, transfer=1, full_range=False)


def panning(frames, height, width):
    """A pan over detail at several scales: on flat frames an encoder has no close decisions."""
    random = torch.Generator().manual_seed(0)
    scales = [
        functional.interpolate(
            torch.rand(1, 3, size, size, generator=random),
            (height + 32, width + 64),
            mode="bicubic",
        )
        for size in (4, 16, 64)
    ]
    scene = (sum(scales)[0] / 3).clamp(0, 1)
    return [
        planes_from_rgb(scene[:, index : index + height, 2 * index : 2 * index + width], TAGS)
        for index in range(frames)
    ]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_the_same_frames_give_the_same_packets(codec):
    frames, height, width = 24, 180, 320
    info = ClipInfo(
        width=width, height=height, frames=frames, rate=Fraction(30), time_base=Fraction(1, 30),
        tags=TAGS,
    )  # fmt: skip
    choice = EncodeChoice(codec=codec)
    encoding = choose_encoding(choice, codec, PixelFormat(8, 1, 1), ".mp4", (width, height))
    clip = panning(frames, height, width)
    results = set()
    for attempt in range(5):
        other_memory = torch.rand(100_000 + 777 * attempt)  # other memory addresses must not matter
        encoder = FrameEncoder(encoding, info)
        packets = []
        for index, planes in enumerate(clip):
            packets += encoder.encode(planes, Fraction(index, 30))
        packets += encoder.finish()
        results.add(b"".join(packet.data for packet in packets))
        del other_memory
    assert len(results) == 1


def test_av1_takes_the_rate_that_screen_recordings_state():
    """One frame per millisecond; SVT-AV1 refuses more than 240 per second."""
    rate = Fraction(1000)
    info = ClipInfo(64, 48, None, rate=rate, time_base=1 / rate, tags=TAGS)
    encoding = choose_encoding(EncodeChoice(), "av1", PixelFormat(8, 1, 1), ".webm", (64, 48))
    encoder, stamps = FrameEncoder(encoding, info), [0, 40, 81]
    packets = [p for pts, planes in zip(stamps, panning(3, 48, 64), strict=True)
               for p in encoder.encode(planes, pts / rate)]  # fmt: skip
    assert [packet.pts for packet in packets + encoder.finish()] == stamps


@pytest.mark.parametrize("codec", ["auto", "prores"])
def test_prores_4444_stays_prores(codec):
    """Although it is decoded with more bits than can be encoded."""
    source, size = PixelFormat(12, 0, 0), (64, 48)
    encoding = choose_encoding(EncodeChoice(codec=codec), "prores", source, ".mov", size)
    assert (encoding.encoder.family, encoding.pixel_format.name) == ("prores", "yuv444p10le")
    assert encoding.notes == ("12 bits become 10: the ProRes encoder supports no more",)
    asked = EncodeChoice(pixel_format=source)
    assert choose_encoding(asked, "prores", source, ".mov", size).encoder.family == "hevc"
    assert choose_encoding(EncodeChoice(), "hevc", source, ".mov", size).pixel_format == source


@pytest.mark.parametrize(("depth", "family"), [(8, "h264"), (10, "hevc"), (12, "hevc")])
def test_a_codec_that_nobody_writes_becomes_one_that_is_played_widely(depth, family):
    """Few players support H.264 with more than 8 bits; it is written only if the source has it."""
    source, size = PixelFormat(depth, 1, 0), (64, 48)
    assert choose_encoding(EncodeChoice(), "dnxhd", source, ".mov", size).encoder.family == family
    kept = choose_encoding(EncodeChoice(), "h264", PixelFormat(10, 1, 1), ".mp4", size)
    assert kept.encoder.family == "h264"


@pytest.mark.parametrize(
    ("source", "depth", "suffix", "size", "family"),
    [
        ("vp8", 8, ".webm", (64, 48), "vp9"),
        ("huffyuv", 8, ".mkv", (64, 48), "ffv1"),
        ("ffvhuff", 8, ".mkv", (64, 48), "ffv1"),
        ("utvideo", 8, ".mkv", (64, 48), "ffv1"),
        ("vp9", 10, ".webm", (64, 48), "av1"),
        ("vp9", 10, ".mkv", (64, 48), "hevc"),
        ("h264", 8, ".mp4", (63, 47), "vp9"),
        ("h264", 10, ".mkv", (63, 47), "av1"),
        ("ffv1", 8, ".mp4", (64, 48), "h264"),
        ("ffv1", 10, ".mp4", (64, 48), "hevc"),
    ],
)
def test_what_does_not_fit_becomes_what_the_documents_say(source, depth, suffix, size, family):
    encoding = choose_encoding(EncodeChoice(), source, PixelFormat(depth, 1, 1), suffix, size)
    assert encoding.encoder.family == family
