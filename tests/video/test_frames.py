"""Decoded frames (YUV, RGB of any depth, grey, palettes): values, tags, whether they are opaque."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from tests.conftest import picture, write_video
from tests.video.conftest import restored, rewrite
from unsmear.clip import ColorTags
from unsmear.errors import InputError
from unsmear.restoration.files import Outcome
from unsmear.video.color import rgb_from_planes
from unsmear.video.encoding import EncodeChoice
from unsmear.video.formats import PixelFormat
from unsmear.video.frames import display_matrix_of, is_opaque, planes_of, tags_of
from unsmear.video.reader import VideoReader


def rgb_video(path, form, *, codec="ffv1", size=(64, 48), frames=2, alpha=None):
    """An RGB clip, and its frames as float RGB; alpha applies to part of the last frame."""
    width, height = size
    scene = picture(height, width + 8 * frames).astype(np.uint16) * 257
    wanted = [np.ascontiguousarray(scene[:, 8 * i : 8 * i + width]) for i in range(frames)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, form
        for index, array in enumerate(wanted):
            opacity = np.full((height, width, 1), 65_535, np.uint16)
            if alpha is not None and index == frames - 1:
                opacity[height // 2 :, width // 2 :] = alpha
            whole = np.concatenate((array, opacity), axis=2)
            deep = max(part.bits for part in av.VideoFormat(form).components) > 8
            kind, whole = ("rgba64le", whole) if deep else ("rgba", (whole >> 8).astype(np.uint8))
            frame = av.VideoFrame.from_ndarray(whole, format=kind).reformat(format=form)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path, [torch.from_numpy(a.transpose(2, 0, 1) / 65_535).float() for a in wanted]


@pytest.mark.parametrize("width", [64, 1280])
@pytest.mark.parametrize(
    ("form", "codec", "depth"),
    [
        ("gbrp10le", "ffv1", 10),
        ("gbrp12le", "ffv1", 12),
        ("gbrp16le", "ffv1", 12),
        ("rgb48le", "ffv1", 12),
        ("gbrap12le", "ffv1", 12),
        ("gbrp", "rawvideo", 8),
        ("rgb24", "rawvideo", 8),
        ("bgr0", "ffv1", 8),
        ("bgra", "ffv1", 8),
        ("rgb565le", "rawvideo", 5),
        ("rgb555le", "rawvideo", 5),
    ],
)
def test_rgb_comes_out_in_its_own_colours(tmp_path, form, codec, depth, width):
    source, wanted = rgb_video(tmp_path / "in.nut", form, codec=codec, size=(width, 48))
    frames = rewrite(source, tmp_path / "out.mkv", EncodeChoice(lossless=True))
    with VideoReader(source) as reader:
        assert any("written as YUV" in note for note in reader.notes)
    step = 1 / ((1 << depth) - 1)
    with VideoReader(tmp_path / "out.mkv") as reader:
        for frame, again, truth in zip(frames, reader, wanted, strict=True):
            # Means over 8x8 pixels, because swscale dithers some of these sources.
            error = torch.nn.functional.avg_pool2d(frame.rgb - truth, 8)
            assert error.abs().max() < step
            assert torch.equal(again.rgb, rgb_from_planes(frame.planes))


@pytest.mark.parametrize(
    ("form", "depth", "told"),
    [("gbrp10le", 10, False), ("gbrp12le", 12, False), ("gbrp16le", 12, True)],
)
def test_depth_of_deep_rgb_is_kept_or_told(tmp_path, form, depth, told):
    source, _ = rgb_video(tmp_path / "in.mkv", form)
    with VideoReader(source) as reader:
        assert reader.pixel_format.depth == depth
        assert any("of 12 bits" in note for note in reader.notes) == told


def test_rgb_that_says_its_colours_keeps_them():
    assert tags_of(av.VideoFrame(16, 16, "gbrp10le")) == ColorTags(1, 1, 13)  # BT.709, sRGB
    frame = av.VideoFrame(16, 16, "gbrp10le")
    frame.color_primaries, frame.color_trc = 9, 16
    tags = tags_of(frame)
    assert (tags.matrix, tags.primaries, tags.transfer) == (9, 9, 16)


def bottom_up(path):
    """The same file with the bottom row first, as Windows programs write them."""
    contents = bytearray(path.read_bytes())
    height = contents.find(b"strf") + 16  # in a BITMAPINFOHEADER; negative: top row first
    rows = abs(int.from_bytes(contents[height : height + 4], "little", signed=True))
    contents[height : height + 4] = rows.to_bytes(4, "little", signed=True)
    path.write_bytes(contents)
    return path


@pytest.mark.parametrize("form", ["bgr24", "bgra", "rgb555le"])
@pytest.mark.parametrize("size", [(64, 48), (36, 21)])
def test_frames_that_begin_at_the_bottom_are_read_from_the_top(tmp_path, form, size):
    source, wanted = rgb_video(tmp_path / "in.avi", form, codec="rawvideo", size=size)
    with av.open(str(bottom_up(source))) as container:
        frame = next(container.decode(video=0))
        assert frame.planes[0].line_size < 0
        assert is_opaque(frame)
    with VideoReader(source) as reader:
        for frame, truth in zip(reader, wanted, strict=True):
            error = (frame.rgb - truth.flip(1)).abs().mean()
            assert error < (0.03 if form == "rgb555le" else 0.004)


def test_alpha_of_frames_that_begin_at_the_bottom(tmp_path):
    source, _ = rgb_video(tmp_path / "in.avi", "bgra", codec="rawvideo", frames=1, alpha=0)
    with pytest.raises(InputError, match="has transparency"):
        VideoReader(bottom_up(source))


ALPHA = [("rgba", "png", "mov"), ("argb", "qtrle", "mov"), ("yuva444p10le", "prores_ks", "mov"),
         ("yuva420p", "ffv1", "mkv"), ("gbrap10le", "ffv1", "mkv"), ("ya8", "png", "mov"),
         ("rgba64be", "png", "mov"), ("bgra", "ffv1", "mkv")]  # fmt: skip


@pytest.mark.parametrize(("form", "codec", "kind"), ALPHA)
def test_transparency_is_refused_and_opaque_alpha_is_not(tmp_path, form, codec, kind):
    opaque, wanted = rgb_video(tmp_path / f"opaque.{kind}", form, codec=codec)
    with VideoReader(opaque) as reader:
        frames = list(reader)
    assert len(frames) == 2
    if form != "ya8":
        for frame, truth in zip(frames, wanted, strict=True):
            assert (frame.rgb - truth).abs().mean() < 0.03
    first, _ = rgb_video(tmp_path / f"first.{kind}", form, codec=codec, frames=1, alpha=64_000)
    with pytest.raises(InputError, match=r"first\.\w+' has transparency"):
        VideoReader(first)
    later, _ = rgb_video(tmp_path / f"later.{kind}", form, codec=codec, frames=3, alpha=0)
    with (
        VideoReader(later) as reader,
        pytest.raises(InputError, match=r"has transparency at 0\.080 s.*flatten"),
    ):
        list(reader)


def test_alpha_in_a_stream_beside_vp9_is_refused(tmp_path):
    """Decoders ignore it."""
    source = write_video(
        tmp_path / "in.webm", codec="libvpx-vp9", pixel_format="yuva420p", frames=1
    )
    with pytest.raises(InputError, match="has transparency"):
        VideoReader(source)


def test_gifs_are_taken_unless_something_shows_through(tmp_path):
    path = write_video(tmp_path / "in.gif", codec="gif", pixel_format="rgb8", frames=3,
                       pts=[0, 4000, 8000])  # fmt: skip
    assert restored(path, tmp_path / "out.mp4")[0] == Outcome(3)
    with VideoReader(path) as reader, av.open(str(path)) as container:
        for frame, raw in zip(reader, container.decode(video=0), strict=True):
            truth = torch.from_numpy(raw.to_ndarray(format="rgb24")).permute(2, 0, 1) / 255
            assert torch.equal(frame.rgb, truth)
    contents = path.read_bytes()
    control = contents.find(b"\x21\xf9\x04")  # of the first image: make a colour transparent
    colour = contents[control + 3] | 1
    for clear in range(256):
        changed = contents[: control + 3] + bytes([colour]) + contents[control + 4 : control + 6]
        (tmp_path / "clear.gif").write_bytes(changed + bytes([clear]) + contents[control + 7 :])
        try:
            VideoReader(tmp_path / "clear.gif").close()
        except InputError as error:
            assert "has transparency" in str(error)  # noqa: PT017
            return
    pytest.fail("no colour of the picture can be made clear")


def test_full_range_yuv_of_mjpeg_needs_no_conversion(tmp_path):
    source = write_video(
        tmp_path / "in.mkv", codec="mjpeg", pixel_format="yuvj420p", frames=1, tags=(2, 1, 1, 1)
    )
    with VideoReader(source) as reader:
        assert (reader.notes, reader.info.tags.full_range) == ([], True)


@pytest.mark.parametrize("form", ["rgb0", "0rgb", "bgr0", "0bgr", "argb", "abgr", "gbrp"])
def test_channels_of_any_order_are_red_green_and_blue(form):
    colour = np.tile(np.array([200, 60, 30], np.uint8), (2, 1280, 1))
    frame = av.VideoFrame.from_ndarray(colour, format="rgb24").reformat(format=form)
    rgb = rgb_from_planes(planes_of(frame, tags_of(frame)))[:, 0, 0] * 255
    assert (rgb - torch.tensor([200.0, 60.0, 30.0])).abs().max() < 2


def test_palettes_are_rgb():
    frame = av.VideoFrame(1280, 2, "pal8")
    frame.planes[0].update(bytes(frame.planes[0].buffer_size))
    colours = np.tile(np.array([30, 60, 200, 255], np.uint8), 256)  # blue, green, red, alpha
    frame.planes[1].update(colours.tobytes())
    assert is_opaque(frame)
    planes = planes_of(frame, tags_of(frame))
    rgb = rgb_from_planes(planes)[:, 0, 0] * 255
    assert (rgb - torch.tensor([200.0, 60.0, 30.0])).abs().max() < 2


def test_display_matrix_without_strange_company(tmp_path):
    source = write_video(tmp_path / "in.mp4", rotation=90, frames=1)
    with av.open(str(source)) as container:
        assert display_matrix_of(next(container.decode(video=0))) is not None


@pytest.mark.parametrize("form", ["gbrp", "yuyv422", "nv12", "yuv411p"])
def test_other_pixel_formats_keep_their_image(tmp_path, form):
    codec = {"yuyv422": "rawvideo", "nv12": "rawvideo", "gbrp": "libx264rgb"}.get(form, "ffv1")
    kind = "avi" if codec == "rawvideo" else "mkv"
    source = write_video(tmp_path / f"in.{kind}", codec=codec, size=(66, 50),
                         tags=(2, 0 if form == "gbrp" else 1, 1, 1),
                         pixel_format="bgr0" if form == "gbrp" else form)  # fmt: skip
    with VideoReader(source) as reader:
        assert any("written as YUV" in note for note in reader.notes)
        frames = list(reader)
    with av.open(str(source)) as container:
        for frame, raw in zip(frames, container.decode(video=0), strict=True):
            rgb = torch.from_numpy(raw.to_ndarray(format="rgb24").transpose(2, 0, 1).copy()) / 255
            assert (frame.rgb - rgb)[:, 2:-2, 2:-2].abs().mean() < 0.02


@pytest.mark.parametrize("pixel_format", ["bgr0", "gray"])
def test_what_rgb_and_gray_become_keeps_its_depth_and_colours(tmp_path, pixel_format):
    source = write_video(tmp_path / "in.mkv", codec="ffv1", pixel_format=pixel_format)
    frames = rewrite(source, tmp_path / "out.mkv")
    with VideoReader(tmp_path / "out.mkv") as reader:
        for frame, again in zip(frames, reader, strict=True):
            assert again.planes.depth == frame.planes.depth == 8
            assert again.planes.u.shape == frame.planes.u.shape
            assert (again.rgb - frame.rgb).abs().mean() < 0.02


GRAYS = ("gray", "gray10le", "gray12le")


@pytest.mark.parametrize(
    ("form", "said", "full"),
    [
        *((form, said, said != 1) for form in GRAYS for said in (0, 1, 2)),
        ("ya8", 2, True),
        ("monow", 0, True),
    ],
)
def test_gray_is_kept_to_the_bit_at_any_depth(tmp_path, form, said, full):
    """It is taken for full range if no range is stated, as in FFmpeg."""
    codec = {"ya8": "png", "monow": "rawvideo"}.get(form, "ffv1")
    kind = {"ya8": "mov", "monow": "nut"}.get(form, "mkv")
    source = write_video(
        tmp_path / f"in.{kind}", codec=codec, pixel_format=form, tags=(said, 2, 2, 2)
    )
    with av.open(str(source)) as container:
        raw = list(container.decode(video=0))
    assert raw[0].color_range == said
    deep = np.uint16 if "gray1" in form else np.uint8
    with VideoReader(source) as reader:
        assert reader.info.tags.full_range == full
        assert any("written as YUV" in note for note in reader.notes)
        for frame, decoded in zip(reader, raw, strict=True):
            plain = decoded if form.startswith("gray") else decoded.reformat(format="gray")
            plane = plain.planes[0]
            luma = np.frombuffer(plane, deep).reshape(plane.height, -1)[:, : plane.width]
            assert np.array_equal(frame.planes.y.numpy(), luma)
            assert (frame.planes.down_x, frame.planes.down_y) == (1, 1)  # phones play only 4:2:0
            middle = 1 << (frame.planes.depth - 1)
            assert {*np.unique(frame.planes.u.numpy()), *np.unique(frame.planes.v.numpy())} == {
                middle
            }
            low, high = (0.0, 1.0) if full else (16 / 255, 235 / 255)
            white = (1 << frame.planes.depth) - 1
            shown = (luma.astype(np.float64) / white - low) / (high - low)
            assert np.abs(frame.rgb.numpy() - shown.clip(0, 1)).max() < 0.005


@pytest.mark.parametrize(("size", "name"), [((6, 4), "yuv420p"), ((5, 4), "yuv444p")])
def test_gray_of_odd_size_is_not_halved(size, name):
    frame = av.VideoFrame(*size, "gray")
    planes = planes_of(frame, tags_of(frame))
    assert PixelFormat.of(planes).name == name
    assert planes.u.shape == ((2, 3) if name == "yuv420p" else (4, 5))


def test_gray_of_16_bits_is_written_with_those_that_encoders_take(tmp_path):
    source = write_video(
        tmp_path / "in.mkv", codec="ffv1", pixel_format="gray16le", tags=(0, 2, 2, 2)
    )
    with VideoReader(source) as reader, av.open(str(source)) as container:
        assert "gray16le frames are written as YUV of 12 bits" in reader.notes
        for frame, decoded in zip(reader, container.decode(video=0), strict=True):
            luma = decoded.to_ndarray(format="gray16le").astype(np.float64)
            assert frame.planes.depth == 12
            assert np.abs(frame.rgb.numpy() - luma / 65_535).max() < 0.6 / 4095
    assert restored(source, tmp_path / "out.mp4", 3)[0].frames == 8
