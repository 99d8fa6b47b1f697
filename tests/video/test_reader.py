"""Files as they are in practice: damaged, interlaced, transparent, HDR, without time stamps."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from tests.conftest import audio_packets, mild, stamps_of, write_video
from tests.video.conftest import remuxed, restored, rewrite
from unsmear.clip import HdrMetadata, MasteringDisplay
from unsmear.errors import InputError, MidwayError
from unsmear.restoration import files
from unsmear.restoration.files import Outcome, restore_file
from unsmear.restoration.settings import Span
from unsmear.video import reader as reader_module
from unsmear.video.damage import Damage
from unsmear.video.encoding import EncodeChoice
from unsmear.video.formats import PixelFormat
from unsmear.video.frames import planes_of, tags_of
from unsmear.video.reader import VideoReader

GRAYS = ("gray", "gray10le", "gray12le")
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
        for name in ("red", "green", "blue", "white"):
            for a, b in zip(
                getattr(two.info.hdr.display, name), getattr(DISPLAY, name), strict=True
            ):
                assert abs(a - b) < Fraction(1, 20_000)
        assert abs(two.info.hdr.display.brightest - 1000) < 1
        assert abs(two.info.hdr.display.darkest - DISPLAY.darkest) < Fraction(1, 5000)


def interlaced(path, frames=12):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            picture = np.zeros((48, 64, 3), np.uint8)
            picture[::2, 4 * index % 60 :][:, :4] = 255  # the fields show different positions
            picture[1::2, (4 * index + 2) % 60 :][:, :4] = 255
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_interlaced_video_is_refused_or_made_whole(tmp_path):
    source = interlaced(tmp_path / "in.mp4")
    with pytest.raises(InputError, match="--deinterlace"):
        VideoReader(source)
    with VideoReader(source, deinterlace=True) as reader:
        assert any("interlaced" in note for note in reader.notes)
        frames = list(reader)
    assert [frame.pts for frame in frames] == [Fraction(index, 25) for index in range(12)]
    comb = [float((f.rgb[:, 1:] - f.rgb[:, :-1]).abs().mean()) for f in frames[3:9]]
    with av.open(str(source)) as raw:
        woven = [f.to_ndarray(format="gray").astype(float) / 255 for f in raw.decode(video=0)]
    assert max(comb) < 0.6 * min(np.abs(np.diff(w, axis=0)).mean() for w in woven[3:9])
    outcome, _ = restored(source, tmp_path / "out.mp4", 3, deinterlace=True)
    assert outcome.frames == 12
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert not any(frame.interlaced_frame for frame in out.decode(video=0))


def joined_of(tmp_path, *parts):
    """Join transport streams byte by byte."""
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_frames_that_are_interlaced_later_are_told(tmp_path):
    plain = write_video(tmp_path / "plain.ts", frames=6)
    woven = interlaced(tmp_path / "woven.ts", frames=7)
    source = joined_of(tmp_path, plain, woven)
    outcome, notes = restored(source, tmp_path / "out.mkv")
    assert outcome.frames == 13
    (note,) = (note for note in notes if "interlaced" in note)
    assert note.startswith("7 frames are interlaced, though the first is not")
    assert "add --deinterlace" in note
    with VideoReader(source, deinterlace=True) as reader:
        assert len([*reader]) == 13
        assert reader.damage.interlaced == 0


def test_frames_of_another_size_are_refused_while_deinterlacing_too(tmp_path):
    small = write_video(tmp_path / "small.ts", size=(32, 32), options={"x264-params": "tff=1"})
    source = joined_of(tmp_path, interlaced(tmp_path / "large.ts"), small)
    with VideoReader(source, deinterlace=True) as reader, pytest.raises(MidwayError, match="32x32"):
        for frame in reader:
            assert frame.pts < 2


def test_deinterlacing_can_start_in_the_middle(tmp_path):
    source = interlaced(tmp_path / "in.mp4", frames=420)
    with VideoReader(source, start=Fraction(15), deinterlace=True) as reader:
        frames = [frame.pts for frame in reader]
    assert 5 < frames[0] <= 10  # at a key frame some seconds earlier
    assert frames[-1] == Fraction(419, 25)


def test_progressive_video_is_not_touched_by_deinterlacing(tmp_path):
    source = write_video(tmp_path / "in.mp4")
    with VideoReader(source) as one, VideoReader(source, deinterlace=True) as two:
        for a, b in zip(one, two, strict=True):
            assert a.pts == b.pts
            assert torch.equal(a.planes.y, b.planes.y)


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


def test_what_is_not_said_about_colour_is_guessed_and_told(tmp_path):
    source = write_video(tmp_path / "in.mp4", tags=(1, 2, 2, 2))
    with VideoReader(source) as reader:
        assert any("BT.601" in note for note in reader.notes)
        assert reader.info.tags.matrix == 2  # and stays untagged
    big = write_video(tmp_path / "big.mp4", tags=(1, 2, 2, 2), size=(1280, 64), frames=1)
    with VideoReader(big) as reader:
        assert any("BT.709" in note for note in reader.notes)


def test_a_matrix_that_is_not_known_here_is_named(tmp_path):
    source = write_video(tmp_path / "in.mp4", tags=(1, 14, 2, 2), frames=2)
    with VideoReader(source) as reader:
        (note,) = reader.notes
        assert "colour matrix, ICtCp, is not supported" in note
        assert "processed as BT.601" in note
        assert reader.info.tags.matrix == 14


def test_packets_that_nobody_can_decode_are_counted(tmp_path):
    source = write_video(tmp_path / "in.mkv", frames=40, size=(128, 96), codec="mjpeg",
                         pixel_format="yuvj420p")  # fmt: skip
    contents = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    start = contents.find(b"\xff\xd8", places[20])
    contents[start : start + 1500] = b"\x00" * 1500
    (tmp_path / "bad.mkv").write_bytes(contents)
    outcome, notes = restored(tmp_path / "bad.mkv", tmp_path / "out.mkv", 3)
    assert 36 <= outcome.frames < 40
    assert any("could not be decoded" in note for note in notes)


def test_packets_that_hold_nothing_are_counted_and_not_the_end(tmp_path):
    """Recorders write them for dropped frames."""
    source = write_video(tmp_path / "in.mp4", frames=12, codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(source)) as container:
        places = [(p.pos, p.pos + p.size) for p in container.demux(video=0) if p.size]
    (begin, end), last = places[5], places[-1][1]
    contents = bytearray(source.read_bytes())
    contents[begin:last] = contents[end:last] + bytes(end - begin)
    size = contents.find(b"stsz") + 16 + 4 * 5
    contents[size : size + 4] = bytes(4)
    source.write_bytes(contents)
    with VideoReader(source) as reader:
        stamps = [frame.pts * 30000 / 1001 for frame in reader]
        assert stamps == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
        assert reader.damage == Damage(packets=1)


def test_a_file_that_breaks_off_gives_what_it_has(tmp_path):
    source = write_video(tmp_path / "in.mkv", frames=60, size=(128, 96))
    contents = source.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(contents[: len(contents) * 2 // 3])
    outcome, _ = restored(tmp_path / "cut.mkv", tmp_path / "out.mkv", 3)
    assert 10 < outcome.frames < 60
    assert stamps_of(tmp_path / "out.mkv") == stamps_of(source)[: outcome.frames]


def test_equal_and_falling_stamps_are_moved_and_told(tmp_path):
    source = write_video(tmp_path / "in.mkv", pts=[0, 3000, 3001, 3002, 9000, 12000])
    assert stamps_of(source)[1] == stamps_of(source)[2]  # Matroska has ticks of 1 ms
    with VideoReader(source) as reader:
        stamps = [frame.pts for frame in reader]
        assert stamps == sorted(set(stamps))
        assert reader.damage.stamps == 2
    assert restored(source, tmp_path / "out.mkv", 3)[0] == Outcome(6)


def test_a_stream_without_stamps_gets_steady_ones(tmp_path):
    plain = write_video(tmp_path / "in.mp4", frames=6)
    raw = remuxed(plain, tmp_path / "raw.h264", form="h264")
    outcome, _ = restored(raw, tmp_path / "out.mp4", 3)
    assert outcome.frames == 6
    gaps = {b - a for a, b in zip(stamps_of(tmp_path / "out.mp4"),
                                  stamps_of(tmp_path / "out.mp4")[1:], strict=False)}  # fmt: skip
    assert max(gaps) - min(gaps) < Fraction(1, 100)


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_stamps_below_zero_are_moved_together(tmp_path, container):
    plain = write_video(tmp_path / "in.mp4", pts=[0, 3000, 6000, 9000, 30000], audio=True)
    back, options = Fraction(1, 5), {"avoid_negative_ts": "disabled"}
    early = remuxed(plain, tmp_path / "early.ts", later=-back, options=options)
    stamps = stamps_of(early)
    assert stamps[0] == -back
    out = tmp_path / f"out.{container}"
    outcome, notes = restored(early, out, 3)
    assert outcome == Outcome(5)
    assert any("before zero" in note for note in notes)
    # In Matroska everything moves by another 23 ms, by which the audio begins early.
    back += 0 if container == "mp4" else Fraction(23, 1000)
    assert any("everything is 23 ms later" in note for note in notes) == (container == "mkv")
    assert stamps_of(out) == [pts + back for pts in stamps]
    sound = [packets[0][0] for packets in (audio_packets(early), audio_packets(out))]
    assert abs(sound[1] - sound[0] - back) < Fraction(1, 900)


def test_sizes_that_cannot_be_are_refused_before_anything_is_allocated(tmp_path, monkeypatch):
    source = write_video(tmp_path / "in.mp4", size=(128, 96))
    monkeypatch.setattr(reader_module, "MOST_PIXELS", 128 * 96 - 1)
    with pytest.raises(InputError, match="128x96"):
        VideoReader(source)


def test_reading_can_start_in_the_middle(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=600, options={"g": "30"})
    stamps = stamps_of(source)
    with VideoReader(source, start=Fraction(15)) as reader:
        frames = [frame.pts for frame in reader]
    assert 9 < frames[0] < 11  # at a key frame some seconds earlier
    assert frames == stamps[stamps.index(frames[0]) :]
    with VideoReader(source) as reader:
        reader.skip(590)
        assert [frame.pts for frame in reader] == stamps[590:]


def test_what_cannot_be_sought_is_read_from_the_beginning(tmp_path):
    """A raw stream, as from a Raspberry Pi's camera: without a container there is no seeking, not
    even to the beginning.
    """
    source = write_video(tmp_path / "in.h264", frames=180)
    with VideoReader(source, start=Fraction(11, 2)) as reader:
        assert reader.first_pts == 0
        assert len([*reader]) == 180
        assert reader.damage == Damage()
    span = Span(start=Fraction(11, 2))
    assert restored(source, tmp_path / "out.mp4", span=span)[0].frames > 10


def test_one_frame_and_tiny_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PART_FRAMES", (4, 5))  # so that there are several parts
    one = write_video(tmp_path / "one.mp4", frames=1)
    assert restore_file(one, tmp_path / "o.mp4", mild(), 5) == Outcome(1)
    tiny = write_video(tmp_path / "tiny.mp4", size=(16, 16), frames=12)
    assert restore_file(tiny, tmp_path / "t.mp4", mild(), 3) == Outcome(12)


def test_names_with_spaces_and_accents_and_links(tmp_path):
    folder = tmp_path / "été 2026 "
    folder.mkdir()
    source = write_video(folder / "mein Vidéo (1) ☀.mp4", frames=2)
    link = tmp_path / "link.mp4"
    link.symlink_to(source)
    assert restored(link, folder / "résultat ✓.mp4")[0] == Outcome(2)
    assert stamps_of(folder / "résultat ✓.mp4") == stamps_of(source)


def test_hdr_metadata_that_cannot_be_kept_is_named(tmp_path):
    source = write_video(
        tmp_path / "in.mp4", codec="libx265", pixel_format="yuv420p10le", tags=(1, 9, 16, 9),
        options={"x265-params": X265}, frames=3, size=(128, 96),
    )  # fmt: skip
    _, notes = restored(source, tmp_path / "out.mkv", encode=EncodeChoice(lossless=True))
    assert any("HDR10" in note for note in notes)


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 8, 9])
def test_every_matrix_that_is_known_is_taken(tmp_path, matrix):
    source = write_video(tmp_path / "in.mp4", tags=(1, matrix, 2, 2), frames=2)
    with VideoReader(source) as reader:
        assert reader.info.tags.matrix == matrix
        assert reader.notes == []


def test_what_no_filter_takes_is_one_line(tmp_path, monkeypatch):
    def refuses(frames, stream):
        yield next(frames)
        raise av.error.ArgumentError(22, "Invalid argument")

    monkeypatch.setattr(reader_module, "deinterlaced", refuses)
    with (
        pytest.raises(InputError, match="cannot be deinterlaced"),
        VideoReader(interlaced(tmp_path / "in.mp4"), deinterlace=True) as reader,
    ):
        list(reader)
