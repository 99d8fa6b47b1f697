"""The main command: many clips, parts of clips, and what is refused."""

from __future__ import annotations

import errno
import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from tests.conftest import audio_packets, stamps_of, write_video
from unsmear.errors import cannot_write
from unsmear.restoration import preview
from unsmear.video.images import write_image
from unsmear.video.reader import VideoReader


@pytest.fixture
def refused(refused, weights_file):
    return lambda *arguments: refused(*arguments, "-m", weights_file, "--device", "cpu")


def test_a_stretch_begins_at_zero_with_its_sound(tmp_path, run):
    source = write_video(tmp_path / "in.mp4", frames=90, audio=True)  # 3 s
    target = tmp_path / "out.mp4"
    run(source, "-o", target, "--start", "0:01", "--end", "2.0")
    inside = [pts - 1 for pts in stamps_of(source) if 1 <= pts < 2]
    after = stamps_of(target)
    assert len(after) == len(inside)
    assert all(abs(a - b) < Fraction(1, 1000) for a, b in zip(after, inside, strict=True))
    sound = audio_packets(target)
    assert abs(sound[0][0]) < Fraction(3, 100)
    assert Fraction(95, 100) < sound[-1][0] < Fraction(102, 100)


def test_a_stretch_is_what_the_whole_would_be(tmp_path, run):
    """Frames around the part contribute, so nothing jumps at its ends."""
    source = write_video(tmp_path / "in.mkv", frames=30, codec="ffv1")
    run(source, "-o", tmp_path / "whole.mkv")
    run(source, "-o", tmp_path / "part.mkv", "--start", "0.5", "--end", "0.75")
    with VideoReader(tmp_path / "whole.mkv") as reader:
        whole = [frame for frame in reader if Fraction(1, 2) <= frame.pts < Fraction(3, 4)]
    with VideoReader(tmp_path / "part.mkv") as reader:
        part = list(reader)
    # Its frames have other numbers, so sums are rounded differently. The motion between restored
    # frames amplifies that in single pixels.
    for one, other in zip(whole, part, strict=True):
        apart = (one.planes.y.int() - other.planes.y.int()).abs()
        assert apart.max() <= 1
        assert (apart > 0).float().mean() < 1e-3


def test_strength_goes_from_the_input_to_the_network(tmp_path, run):
    source = write_video(tmp_path / "in.mkv", frames=3, codec="ffv1", pixel_format="yuv444p16le")
    changes = []
    with VideoReader(source) as reader:
        before = list(reader)
    for strength in ("0", "0.5", "1"):
        target = tmp_path / f"{strength}.mkv"
        run(source, "-o", target, "--strength", strength)
        with VideoReader(target) as reader:
            changes.append([a.rgb - b.rgb for a, b in zip(reader, before, strict=True)])
    for none, half, full in zip(*changes, strict=True):
        assert float(none.abs().max()) == 0
        assert full.abs().mean() > 0.001
        assert (half * 2 - full).abs().mean() < 0.001


@pytest.mark.parametrize(
    ("options", "suffix", "codec", "form"),
    [
        (["--codec", "hevc"], ".mp4", "hevc", "yuv420p"),
        (["--codec", "av1", "--crf", "40"], ".mkv", "av1", "yuv420p"),
        (["--codec", "prores", "--pixel-format", "yuv422p10"], ".mov", "prores", "yuv422p10le"),
        (["--lossless"], ".mkv", "ffv1", "yuv420p"),
        (["--pixel-format", "yuv444p10le"], ".mp4", "h264", "yuv444p10le"),
        ([], ".webm", "vp9", "yuv420p"),
    ],
)
def test_codec_and_format_can_be_chosen(tmp_path, run, options, suffix, codec, form):
    source, target = write_video(tmp_path / "in.mp4", frames=3), tmp_path / f"out{suffix}"
    run(source, "-o", target, *options)
    with VideoReader(target) as reader:
        assert (reader.codec, reader.pixel_format.name) == (codec, form)
        with VideoReader(source) as original:
            for one, other in zip(reader, original, strict=True):
                assert (one.rgb - other.rgb).abs().mean() < 0.06


def test_crf_trades_size_for_quality(tmp_path, run):
    source = write_video(tmp_path / "in.mp4", frames=8, size=(128, 96))
    for crf in ("5", "45"):
        run(source, "-o", tmp_path / f"{crf}.mp4", "--crf", crf)
    assert (tmp_path / "5.mp4").stat().st_size > 3 * (tmp_path / "45.mp4").stat().st_size


def test_several_clips_and_folders_of_clips(tmp_path, run):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "b.avi"):
        write_video(folder / name, frames=2, codec="mpeg4", pts=[0, 1], time_base=Fraction(1, 25))
    other = write_video(tmp_path / "c.mkv", frames=2)
    run(folder, other, "-o", tmp_path / "out")
    names = sorted(entry.name for entry in (tmp_path / "out").iterdir())
    assert names == ["a.mp4", "b.mkv", "c.mkv"]
    run(other, "-o", f"{tmp_path / 'one'}/")
    assert [entry.name for entry in (tmp_path / "one").iterdir()] == ["c.mkv"]
    run(folder)
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "a.mp4", "a.sharp.mp4", "b.avi", "b.sharp.mkv",
    ]  # fmt: skip


def times(folder):
    return {entry.name: entry.stat().st_mtime_ns for entry in folder.iterdir() if entry.is_file()}


@pytest.mark.parametrize("way", ["folder", "names", "out", "compare", "preview"])
def test_many_clips_go_on_where_they_were(tmp_path, run, capsys, way):
    """As if the run had been interrupted after the first clip: the same command restores the rest,
    and a third run nothing.
    """
    folder, out = tmp_path / "many", tmp_path / "out"
    folder.mkdir()
    for name in "ab":
        write_video(folder / f"{name}.mp4", frames=2)
    options = {
        "out": ["-o", out], "compare": ["--compare", "side"], "preview": ["--preview"],
    }.get(way, [])  # fmt: skip

    def again(*more):
        clips = sorted(folder.glob("*.mp4")) if way == "names" else [folder]
        run(*clips, *options, *more)
        shown = capsys.readouterr()
        return shown.out.splitlines(), shown.err.splitlines()

    if way == "out":
        out.mkdir()
    first = ["-o", out / "a.mp4"] if way == "out" else options
    run(folder / "a.mp4", *first)
    where = out if way == "out" else folder
    (made,) = {*times(where)} - {"a.mp4", "b.mp4", "a.sharp.compare.mp4"} or {"a.mp4"}
    before = times(where)
    capsys.readouterr()
    done, notes = again()
    assert len(done) == 1
    assert done[0].endswith(str(where / made.replace("a", "b", 1)))
    assert notes == [
        f"a.mp4: skipped: '{where / made}' already exists, perhaps from other settings; "
        "use --overwrite to restore it again"
    ]
    assert before.items() <= times(where).items()
    whole = times(where)
    done, notes = again()
    assert done == []
    assert [note.split(":")[0] for note in notes] == ["a.mp4", "b.mp4"]
    assert times(where) == whole
    if way != "names":  # there a result would overwrite a given file
        assert len(again("--overwrite")[0]) == 2
        assert {*times(where)} == {*whole}
        assert times(where)[made] > whole[made]


def test_one_clip_is_never_passed_over_nor_is_a_result_without_its_comparison(
    tmp_path, run, refused, capsys
):
    folder = tmp_path / "many"
    folder.mkdir()
    for name in "ab":
        write_video(folder / f"{name}.mp4", frames=1)
    run(folder)
    before = times(folder)
    capsys.readouterr()
    assert "exists: choose another output" in refused(folder / "a.mp4")
    shown = refused(folder, "--compare", "side")
    assert "a.sharp.mp4' already exists: choose another output, or add --overwrite" in shown
    shown = refused(folder, "-o", folder)
    assert "is the input" in shown
    assert times(folder) == before


def test_results_of_other_settings_are_no_clips(tmp_path, run, capsys):
    folder = tmp_path / "many"
    folder.mkdir()
    write_video(folder / "a.mp4", frames=1)
    run(folder, "--lossless")
    run(folder / "a.mp4", "--preview")
    capsys.readouterr()
    run(folder, "--json")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [event for event in events if event["event"] != "progress"]
    assert [event["event"] for event in told] == ["note", "result"]
    assert told[0]["input"].endswith("a.sharp.mkv")
    assert "its name marks it as a result of 'a.mp4'" in told[0]["text"]
    assert {*times(folder)} == {"a.mp4", "a.sharp.mkv", "a.sharp.mp4", "a.preview.png"}


def test_one_bad_clip_does_not_stop_the_others(tmp_path, run, capsys):
    good = write_video(tmp_path / "good.mp4", frames=2)
    (tmp_path / "bad.mp4").write_text("not a video")
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "bad.mp4", good)
    assert stop.value.code == 2
    assert (tmp_path / "good.sharp.mp4").is_file()
    assert "bad.mp4" in capsys.readouterr().err


def test_wipe_moves_a_line_over_the_picture(tmp_path, run):
    source = write_video(tmp_path / "in.mkv", frames=60, codec="ffv1", pixel_format="yuv444p")
    target = tmp_path / "out.mkv"
    run(source, "-o", target, "--compare", "wipe", "--burst", "0")
    with (
        VideoReader(source) as before,
        VideoReader(target) as after,
        VideoReader(tmp_path / "out.compare.mkv") as wiped,
    ):
        places = []
        for old, new, both in zip(before, after, wiped, strict=True):
            line = int((both.planes.y == 235).all(dim=0).int().argmax())
            places.append(line)
            assert torch.equal(both.planes.y[:, :line], old.planes.y[:, :line])
            assert torch.equal(both.planes.y[:, line + 2 :], new.planes.y[:, line + 2 :])
    assert min(places) < 5
    assert max(places) > 25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "-"], "pipe"),
        (["--strength", "1.5"], "strength is 1.5"),
        (["--strength", "nan"], "strength is nan"),
        (["--burst", "5"], "burst is 5"),
        (["--ensemble", "3"], "ensemble is 3: must be 1"),
        (["--refine", "4"], "refine is 4: must be from 0"),
        (["--refine", "1"], "needs a model that aligns neighbours"),
        (["--refine", "1", "--preview"], "needs a model that aligns neighbours"),
        (["--burst", "many"], "many"),
        (["--start", "2", "--end", "1"], "end is 1 s"),
        (["--start", "soon"], "'soon' is not a time"),
        (["--start", "1e9"], "is not a time"),
        (["--start", "9" * 5000], "is not a time"),
        (["--start", "99"], "no frames between --start and --end"),
        (["--codec", "vp9", "--crf", "64"], "crf is 64"),
        (["--codec", "ffv1"], "ffv1 cannot be written to .mp4"),
        (["--codec", "h264", "-o", "out.webm"], "h264 cannot be written to .webm"),
        (["--codec", "prores", "-o", "out.mov"], "--pixel-format"),
        (["--lossless", "--codec", "h264"], "lossless means FFV1"),
        (["--lossless", "--crf", "3", "-o", "out.mkv"], "crf is 3"),
        (["--lossless", "-o", "out.mp4"], ".mkv"),
        (["--pixel-format", "rgb"], "pixel format is 'rgb'"),
        (["--compare", "both"], "both"),
        (["--preview", "-o", "out.mp4"], ".png"),
        (["--preview", "--compare", "side", "--lossless"], "leave out --compare and --lossless"),
        (["--preview", "--crf", "20"], "a preview is an image: leave out --crf, or"),
        (["--preview", "--start", "99"], "no frames between --start and --end"),
        (["--preview", "--start", "0.01", "--end", "0.02"], "no frames between --start and --end"),
        (["-o", "pics", "--codec", "hevc", "--crf", "20"], "leave out --codec and --crf, or name"),
        (["-o", "pics", "--pixel-format", "yuv444p"], "'pics' is a folder of PNG images"),
    ],
)
def test_contradictions_are_refused_in_one_line(tmp_path, refused, monkeypatch, arguments, message):
    source = write_video(tmp_path / "in.mp4", frames=2)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert message in refused(source, *arguments)
    assert sorted(tmp_path.iterdir()) == before


def test_pipes_nothing_and_mixed_folders_are_refused(tmp_path, refused):
    assert "pipe" in refused("-")
    assert "no clip given" in refused()
    write_video(tmp_path / "in.mp4", frames=1)
    write_image(tmp_path / "a.png", torch.zeros(3, 16, 16, dtype=torch.uint8))
    assert "videos and images" in refused(tmp_path)
    (tmp_path / "one").mkdir()
    write_video(tmp_path / "one" / "a.mp4", frames=1)
    shown = refused(tmp_path / "one", "-o", tmp_path / "o.mp4")
    assert "a file name, but a folder of clips is given: name a folder" in shown
    two = [write_video(tmp_path / f"{name}.mp4", frames=1) for name in "xy"]
    assert "name a folder" in refused(*two, "-o", tmp_path / "o.mp4")


@pytest.mark.parametrize("more", [[], ["--preview"]])
def test_what_pictures_do_not_have_is_refused(tmp_path, refused, more):
    folder = tmp_path / "frames"
    folder.mkdir()
    write_image(folder / "0.png", torch.zeros(3, 32, 32, dtype=torch.uint8))
    for options, message in (
        (["--start", "1"], "a folder of images has none"),
        (["--deinterlace"], "leave out --deinterlace"),
        (["--lossless"], "leave out --lossless"),
    ):
        assert message in refused(folder, *options, *more)


def test_a_missing_right_to_write_is_said(tmp_path, refused, monkeypatch):
    source = write_video(tmp_path / "in.mp4", frames=1)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    shown = refused(source, "-o", tmp_path / "out.mp4")
    assert "no permission to write" in shown


def test_an_input_is_never_overwritten_by_the_result_of_another(tmp_path, refused):
    clips = [write_video(tmp_path / name, frames=2) for name in ("a.mp4", "a.sharp.mp4", "b.mp4")]
    contents = [clip.read_bytes() for clip in clips]
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "o"
    for arguments, message in (
        ((*clips, "--overwrite"), "a.sharp.mp4', which is also an input"),
        ((*clips, "-o", tmp_path, "--overwrite"), "is the input"),
    ):
        assert message in refused(*arguments)
    other = write_video(tmp_path / "a.compare.mp4", frames=2)
    shown = refused(clips[0], other, "-o", out, "--compare", "side")
    assert "would both become" in shown
    other.unlink()
    assert [clip.read_bytes() for clip in clips] == contents
    assert sorted(tmp_path.iterdir()) == before


def test_a_preview_goes_over_no_input_and_leaves_nothing_on_a_full_disk(
    tmp_path, refused, monkeypatch
):
    folder = tmp_path / "frames"
    folder.mkdir()
    write_image(folder / "0.png", torch.full((3, 32, 48), 99, dtype=torch.uint8))
    contents = (folder / "0.png").read_bytes()
    (tmp_path / "dir.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for target, message in (
        (folder / "0.png", "is the input"),
        (folder / "new.png", "is the input"),
        (tmp_path / "dir.png", "is a folder"),
        (tmp_path / "no" / "p.png", "no folder"),
    ):
        arguments = (folder, "--preview", "-o", target, "--overwrite")
        assert message in refused(*arguments)

    def full(path, image):
        path.write_bytes(b"half")
        raise cannot_write(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(preview, "write_image", full)
    arguments = (folder, "--preview", "-o", tmp_path / "p.png")
    assert f"'{tmp_path / 'p.png'}': No space left" in refused(*arguments)
    assert sorted(tmp_path.rglob("*")) == before
    assert (folder / "0.png").read_bytes() == contents


def test_what_the_system_refuses_is_one_line(tmp_path, refused, monkeypatch):
    """The error of the system is simulated, since root may do everything."""
    folder = tmp_path / "locked"
    folder.mkdir()
    source = write_video(tmp_path / "in.mp4", frames=1)

    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", denied)
        assert "cannot read" in refused(folder)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", lambda path, **options: denied(path))
        several = (source, source.with_name("b.mp4"), "-o", tmp_path / "out")
        assert "cannot write" in refused(*several)
    with monkeypatch.context() as patched:
        patched.setattr(
            "unsmear.restoration.files.fingerprints", denied
        )  # where no error is expected
        assert "Permission denied" in refused(source)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "in.mp4", "locked", "small.safetensors",
    ]  # fmt: skip
