"""Which encoder is chosen, and what it keeps. Encoders are deterministic: a resumed run must give
the result of an uninterrupted one.
"""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
import torch
from torch.nn import functional

from tests.conftest import write_video
from tests.video.conftest import restored, rewrite
from unsmear.clip import ClipInfo, ColorTags, HdrMetadata, MasteringDisplay
from unsmear.errors import ConfigError, OutputError
from unsmear.video.color import planes_from_rgb
from unsmear.video.describe import describe_streams
from unsmear.video.encoding import EncodeChoice, FrameEncoder, choose_encoding
from unsmear.video.formats import PixelFormat
from unsmear.video.reader import VideoReader

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


@pytest.mark.parametrize(("form", "tag"), [("yuv444p10le", "ap4h"), ("yuv422p10le", "apch")])
def test_prores_has_the_profile_of_its_colour(tmp_path, form, tag):
    source = write_video(tmp_path / "in.mov", codec="prores_ks", pixel_format=form, frames=1)
    rewrite(source, tmp_path / "out.mov")
    with av.open(str(tmp_path / "out.mov")) as container:
        assert container.streams.video[0].codec_context.codec_tag == tag


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
    (note,) = encoding.notes
    assert note.startswith(f"{source} becomes {family} (")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"codec": "mpeg4"}, "codec is 'mpeg4': must be one of auto, h264, "),
        ({"codec": "hevc", "lossless": True}, "lossless means FFV1, but codec is 'hevc'"),
        ({"lossless": True, "crf": 3}, "crf is 3: leave it out"),
        ({"codec": "prores", "crf": 3}, "crf is 3: leave it out"),
        ({"codec": "h264", "crf": 52}, r"crf is 52: must be from 0 \(best\) to 51"),
        ({"crf": 64}, r"crf is 64: must be from 0 \(best\) to 63"),
        ({"crf": 2.5}, r"crf is 2\.5"),
    ],
)
def test_what_no_encoder_does_is_refused(asked, told):
    with pytest.raises(ConfigError, match=told):
        EncodeChoice(**asked)


def test_quality_is_that_asked_for_if_the_encoder_has_it():
    source, size = PixelFormat(8, 1, 1), (64, 48)
    for crf in (0, 51):
        choice = EncodeChoice(codec="h264", crf=crf)
        assert choose_encoding(choice, "h264", source, ".mp4", size).crf == crf
    with pytest.raises(OutputError, match="crf is 52, but h264 takes 0 to 51"):
        choose_encoding(EncodeChoice(crf=52), "h264", source, ".mp4", size)


X265 = (
    "log-level=none:hdr10=1:max-cll=1000,400:master-display="
    "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
)


DISPLAY = MasteringDisplay(
    red=(Fraction(34000, 50000), Fraction(16000, 50000)),
    green=(Fraction(13250, 50000), Fraction(34500, 50000)),
    blue=(Fraction(7500, 50000), Fraction(3000, 50000)),
    white=(Fraction(15635, 50000), Fraction(16450, 50000)),
    darkest=Fraction(50, 10000),
    brightest=Fraction(1000),
)


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_hdr10_metadata_is_kept(tmp_path, container, codec):
    source = write_video(
        tmp_path / f"in.{container}", codec="libx265", pixel_format="yuv420p10le",
        tags=(1, 9, 16, 9), options={"x265-params": X265}, size=(128, 96),
    )  # fmt: skip
    rewrite(source, tmp_path / f"out.{container}", EncodeChoice(codec=codec))
    with VideoReader(source) as one, VideoReader(tmp_path / f"out.{container}") as two:
        assert one.info.hdr == HdrMetadata(DISPLAY, (1000, 400))
        assert two.codec == codec
        assert two.info.tags == one.info.tags
        assert two.info.hdr.light == (1000, 400)
        assert describe_streams(two.path).hdr == ("HDR (PQ)", "HDR10 mastering data")
        for name in ("red", "green", "blue", "white"):
            for a, b in zip(
                getattr(two.info.hdr.display, name), getattr(DISPLAY, name), strict=True
            ):
                assert abs(a - b) < Fraction(1, 20_000)
        assert abs(two.info.hdr.display.brightest - 1000) < 1
        assert abs(two.info.hdr.display.darkest - DISPLAY.darkest) < Fraction(1, 5000)


def test_hdr_metadata_that_cannot_be_kept_is_named(tmp_path):
    source = write_video(
        tmp_path / "in.mp4", codec="libx265", pixel_format="yuv420p10le", tags=(1, 9, 16, 9),
        options={"x265-params": X265}, frames=3, size=(128, 96),
    )  # fmt: skip
    _, notes = restored(source, tmp_path / "out.mkv", encode=EncodeChoice(lossless=True))
    assert any("HDR10" in note for note in notes)


@pytest.mark.parametrize("suffix", [".m4v", ".mov"])
@pytest.mark.parametrize("codec", ["hevc", "vp9", "av1"])
def test_files_of_apple_hold_what_is_chosen_for_them(tmp_path, suffix, codec):
    source = write_video(tmp_path / "in.mkv", frames=2)
    target, choice = tmp_path / f"out{suffix}", EncodeChoice(codec=codec)
    if suffix == ".mov" and codec != "hevc":
        with pytest.raises(OutputError, match=rf"{codec} cannot be written to \.mov"):
            rewrite(source, target, choice)
        return
    rewrite(source, target, choice)
    with VideoReader(target) as reader:
        assert reader.codec == codec
        assert sum(1 for _ in reader) == 2


def test_sizes_that_no_codec_of_mov_takes_are_refused_with_a_remedy():
    with pytest.raises(OutputError, match=r"65x49 cannot be written to \.mov files.*\.mkv"):
        choose_encoding(EncodeChoice(), "mjpeg", PixelFormat(8, 1, 1), ".mov", (65, 49))


@pytest.mark.parametrize("size", [(65, 48), (64, 47), (33, 17), (16, 16)])
def test_odd_and_tiny_sizes_are_kept(tmp_path, size):
    source = write_video(tmp_path / "in.mkv", size=size, codec="ffv1", pixel_format="yuv420p")
    rewrite(source, tmp_path / "out.mp4")
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (reader.info.width, reader.info.height) == size
        assert sum(1 for _ in reader) == 8


def test_deep_colour_of_odd_size_finds_a_codec(tmp_path):
    source = write_video(
        tmp_path / "in.mkv", size=(65, 48), codec="ffv1", pixel_format="yuv420p10le", frames=3
    )
    frames = rewrite(source, tmp_path / "out.mkv")
    with VideoReader(tmp_path / "out.mkv") as reader:
        for frame, again in zip(frames, reader, strict=True):
            assert torch.equal(again.planes.y, frame.planes.y)  # FFV1 is lossless
    rewrite(source, tmp_path / "out.mp4")  # AV1 supports it
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (reader.codec, reader.pixel_format.name) == ("av1", "yuv420p10le")
        assert (reader.info.width, reader.info.height) == (65, 48)
