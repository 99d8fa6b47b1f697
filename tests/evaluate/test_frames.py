"""Existing frames: videos as restored and as sharp frames, and the sequences of a data set."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch

from tests.conftest import one_scene, write_video
from tests.evaluate.conftest import save
from unsmear.cli import main
from unsmear.data.pairs import find_pairs
from unsmear.errors import CombinedError, InputError
from unsmear.evaluate.benchmark import Benchmark
from unsmear.evaluate.frames import (
    ImageFrames,
    find_alone,
    find_comparisons,
    find_restored,
    open_frames,
)
from unsmear.evaluate.metrics import psnr
from unsmear.evaluate.protocol import find_protocol
from unsmear.video.images import integer_from_unit, write_image
from unsmear.video.reader import count_frames, read_rgb8

BASE = find_protocol("basicsr2d")
POOR = {"crf": "40"}


def test_frames_are_counted_by_decoding(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=7)
    assert count_frames(path) == 7
    raw = tmp_path / "a.h264"  # no header that states the count
    with av.open(str(path)) as source, raw.open("wb") as file:
        to_annex_b = av.bitstream.BitStreamFilterContext(
            "h264_mp4toannexb", source.streams.video[0]
        )
        for packet in source.demux(video=0):
            for part in to_annex_b.filter(packet if packet.dts is not None else None):
                file.write(bytes(part))
    assert count_frames(raw) == 7


def test_video_against_video_is_measured_frame_by_frame(tmp_path):
    sharp = write_video(tmp_path / "sharp.mp4", frames=5)
    made = write_video(tmp_path / "made.mkv", frames=5, options=POOR)
    (pair,) = find_comparisons(made, sharp)
    assert (pair.name, len(pair.restored), len(pair.sharp)) == ("made", 5, 5)
    ((result,),) = Benchmark(BASE, workers=2).compare([pair])
    assert len(result.frames) == 5
    for score, one, other in zip(result.frames, read_rgb8(made), read_rgb8(sharp), strict=True):
        assert score.psnr == pytest.approx(psnr(one / 255, other / 255), abs=1e-6)
        assert 15 < score.psnr < 60
    assert [score.flicker is None for score in result.frames] == [True] + [False] * 4


@pytest.mark.parametrize(("protocol", "rotation"), [("basicsr2d", 0), ("estrnn", 90)])
def test_a_video_is_eight_bit_and_upright_before_any_protocol_cuts_down(
    tmp_path, protocol, rotation
):
    """A lossless video against its own frames as images, which `unsmear` writes upright: YUV to RGB
    must not lose a step.
    """
    video = write_video(tmp_path / "a.mp4", frames=5, rotation=rotation, options={"crf": "0"})
    (tmp_path / "pictures").mkdir()
    for index, frame in enumerate(read_rgb8(video)):
        shown = frame.rot90(rotation // 90, (-2, -1))
        write_image(tmp_path / "pictures" / f"{index}.png", shown)
    (pair,) = find_comparisons(video, tmp_path / "pictures")
    assert isinstance(pair.sharp, ImageFrames)
    ((result,),) = Benchmark(find_protocol(protocol)).compare([pair])
    assert {score.psnr for score in result.frames} == {float("inf")}


def test_different_numbers_of_frames_are_named(tmp_path, capsys):
    sharp = write_video(tmp_path / "sharp.mp4", frames=5)
    made = write_video(tmp_path / "made.mp4", frames=4)
    with pytest.raises(InputError, match=r"made.mp4' has 4 frames, .*sharp.mp4' has 5"):
        find_comparisons(made, sharp)
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "--restored", str(made), "--sharp", str(sharp)])
    assert stopped.value.code == 2
    assert "compared one by one" in capsys.readouterr().err


def test_what_is_no_video_and_no_folder_is_refused(tmp_path):
    sharp = write_video(tmp_path / "sharp.mp4", frames=2)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    for other, message in (
        ("text.mp4", "cannot be read as a video"),
        ("nowhere.mp4", "no such file"),
        ("empty", "contains no images"),
    ):
        with pytest.raises(InputError, match=message):
            find_comparisons(tmp_path / other, sharp)
    with pytest.raises(InputError, match="or a video"):
        find_comparisons(tmp_path / "nowhere", tmp_path / "nothing")


def test_the_command_takes_videos(tmp_path, capsys):
    sharp = write_video(tmp_path / "sharp.mp4", frames=3)
    made = write_video(tmp_path / "made.mp4", frames=3, options=POOR)
    main(["eval", "--restored", str(made), "--sharp", str(sharp)])
    assert "3 frames" in capsys.readouterr().out


def test_an_image_is_measured_as_in_a_folder(tmp_path, monkeypatch):
    for side, depth in (("made", torch.uint16), ("truth", torch.uint8)):
        (tmp_path / side).mkdir()
        write_image(tmp_path / side / "a.png", integer_from_unit(one_scene(1, 16, 16)[0], depth))
    folders = tmp_path / "made", tmp_path / "truth"
    images = (folder / "a.png" for folder in folders)
    alone, beside = (Benchmark(BASE).compare(find_comparisons(*x)) for x in (images, folders))
    assert alone[0][0].frames == beside[0][0].frames
    monkeypatch.chdir(tmp_path / "truth")
    assert find_comparisons(folders[0], Path())[0].name == find_alone(Path())[0].name == "truth"


def test_open_frames_iterates_again_and_again(tmp_path):
    frames = open_frames(write_video(tmp_path / "a.mp4", frames=3))
    first, second = list(frames), list(frames)
    assert len(first) == 3
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def test_frames_of_any_program_are_measured_against_a_set_as_it_lies(reds, tmp_path, capsys):
    """As restored, the blurry frames themselves: so each measure equals that of its other side."""
    blurry, report = reds / "val_blur", tmp_path / "r.json"
    nested = tmp_path / "nested" / "val_blur"
    shutil.copytree(blurry, nested)
    for made in (blurry, nested.parent):
        main(["eval", "--data", str(reds), "--restored", str(made), "--json", str(report)])
        assert f"{made.name} on REDS; protocol" in capsys.readouterr().out
        record = json.loads(report.read_text())
        assert [row["name"] for row in record["sequences"]] == ["val_blur/000", "val_blur/001"]
        assert {row["layout"] for row in record["sequences"]} == {"reds"}
        assert record["all"]["psnr"] == record["all"]["psnr_before"] < 60
        assert record["all"]["flicker"] == record["all"]["flicker_before"] > 0
        assert record["remarks"] == []
    for path in (nested / "000").iterdir():
        path.rename(path.with_name(f"out{path.name}"))
    main(["eval", "--data", str(reds), "--restored", str(nested), "--json", str(report)])
    (note,) = json.loads(report.read_text())["remarks"]
    assert note.startswith("val_blur/000: the names of the restored images are not")
    assert "sorted order" in capsys.readouterr().out.replace("\n", " ")
    assert json.loads(report.read_text())["all"] == record["all"]


def test_videos_of_a_set_are_found_by_name_and_counted(reds, tmp_path):
    sequences = find_pairs(reds)
    (tmp_path / "made").mkdir()
    for name in ("000", "001"):
        write_video(tmp_path / "made" / f"{name}.mp4", frames=3)
    (tmp_path / "made" / "000 as it was.mp4").touch()  # has another name
    found = find_restored(tmp_path / "made", sequences)
    assert [(len(pair.restored), len(pair.blurry), pair.note) for pair in found] == [
        (3, 3, None)
    ] * 2
    single = find_restored(tmp_path / "made" / "001.mp4", sequences[:1])
    assert len(single[0].restored) == 3
    longer = write_video(tmp_path / "longer.mp4", frames=4)
    with pytest.raises(InputError, match=r"longer.mp4' has 4 frames, .*val_blur/000' 3"):
        find_restored(longer, sequences[:1])
    write_video(tmp_path / "made" / "001.mp4", frames=2)
    shutil.copytree(reds / "val_blur" / "000", tmp_path / "made" / "000")
    with pytest.raises(CombinedError, match=r"000.mp4' are both .* 2 frames, .*val_blur/001' 3"):
        find_restored(tmp_path / "made", sequences)


def test_all_that_a_set_lacks_is_named_at_once(reds, tmp_path, capsys):
    (tmp_path / "made").mkdir()
    for made, message in (
        (tmp_path / "made", "lacks 2 of 2 sequences: val_blur/000, val_blur/001; it must"),
        (tmp_path / "nowhere", "no such file or folder"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["eval", "--data", str(reds), "--restored", str(made)])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    sequences = find_pairs(reds)
    with pytest.raises(InputError, match="lacks 2 of 2 sequences"):  # a folder of one of them
        find_restored(reds / "val_blur" / "000", sequences)
    two = [replace(sequences[0], name=f"{day}/000") for day in ("one", "two")]
    with pytest.raises(InputError, match="lacks 2 of 2 sequences"):  # of which of both is 000?
        find_restored(reds / "val_blur", two)
    with pytest.raises(InputError, match=r"two sequences are named 'val_blur/000'.*--layout"):
        find_restored(reds, [sequences[0], replace(sequences[0], layout="mine")])
    shutil.copytree(reds / "val_blur", tmp_path / "half")
    (tmp_path / "half" / "000" / "00000002.png").unlink()
    shutil.rmtree(tmp_path / "half" / "001")
    with pytest.raises(CombinedError, match=r"2 and 3; without .*000.00000002.png'.*lacks 1 of 2"):
        find_restored(tmp_path / "half", find_pairs(reds))


def test_images_of_other_names_are_paired_in_order_only_if_asked(reds, tmp_path, capsys):
    """Of a program that counts from 1: names agree, but not for the same frames."""
    shutil.copytree(reds / "val_blur", tmp_path / "made" / "val_blur")
    for path in sorted((tmp_path / "made").rglob("*.png"), reverse=True):
        path.rename(path.with_name(f"{int(path.stem) + 1:08d}.png"))
    report = tmp_path / "r.json"
    base = ["eval", "--json", str(report), "--restored", str(tmp_path / "made" / "val_blur")]
    for others, kind in (
        (["--sharp", str(reds / "val_sharp")], "sharp"),
        (["--data", str(reds)], "blurry"),
    ):
        with pytest.raises(SystemExit):
            main([*base, *others])
        assert "or give --pair order" in capsys.readouterr().err
        main([*base, *others, "--pair", "order"])
        record = json.loads(report.read_text())
        assert len(record["remarks"]) == 2
        assert f"are not those of the {kind} ones, so they are paired" in record["remarks"][0]
    assert record["all"]["psnr"] == record["all"]["psnr_before"]
    (tmp_path / "made" / "val_blur" / "001" / "00000001.png").unlink()
    with pytest.raises(InputError, match=r"001' contains 2 images, .*001' 3: --pair order"):
        find_comparisons(tmp_path / "made" / "val_blur", reds / "val_sharp", "order")
    with pytest.raises(InputError, match=r"3 and 3.*--pair order|2 and 3.*missing files$"):
        find_comparisons(tmp_path / "made" / "val_blur", reds / "val_sharp")


def test_folders_are_compared_by_name(gopro, tmp_path):
    sharp = gopro / "GOPR0384" / "sharp"
    for name in ("GOPR0384", "GOPR0385"):
        shutil.copytree(gopro / name / "blur", tmp_path / "results" / name)
    found = find_restored(tmp_path / "results", find_pairs(gopro))
    assert [(one.name, len(one.restored)) for one in found] == [("GOPR0384", 5), ("GOPR0385", 3)]
    (flat,) = find_comparisons(gopro / "GOPR0384" / "blur", sharp)
    ((result,),) = Benchmark(BASE).compare([flat])
    ((direct, _),) = Benchmark(BASE).run(find_pairs(gopro), iter)
    assert [frame.psnr for frame in result.frames] == [frame.psnr for frame in direct.frames]
    assert result.frames[0].psnr_before is result.frames[1].flicker_before is None
    for name in ("a", "b"):
        save(tmp_path / "made" / name, one_scene(2, 16, 16))
        save(tmp_path / "truth" / name, one_scene(2, 16, 16))
    assert [c.name for c in find_comparisons(tmp_path / "made", tmp_path / "truth")] == ["a", "b"]
    (tmp_path / "made" / "b" / "000001.png").unlink()
    with pytest.raises(InputError, match=r"1 and 2; without .*: '[^']*truth.b.000001.png'; add"):
        find_comparisons(tmp_path / "made", tmp_path / "truth")
    with pytest.raises(InputError, match="not a folder"):
        find_comparisons(tmp_path / "nowhere", sharp)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        find_comparisons(sharp, tmp_path / "empty")
    with pytest.raises(InputError, match="empty' contains no images"):
        find_alone(tmp_path / "empty")
    (tmp_path / "empty" / "deep").mkdir()
    for name in ("._a.mp4", "deep/a.mp4"):  # the first is of macOS
        (tmp_path / "empty" / name).touch()
    with pytest.raises(InputError, match=r"no images: give its videos one by one, .*deep/a\.mp4'"):
        find_comparisons(sharp, tmp_path / "empty")


def test_restored_frames_without_a_truth_are_named(tmp_path):
    for side, names in (("made", "ab"), ("truth", "a")):
        for name in names:
            save(tmp_path / side / name, one_scene(2, 16, 16))
    with pytest.raises(InputError, match=r"made/b' contains images, but '.*truth/b' has none"):
        find_comparisons(tmp_path / "made", tmp_path / "truth")
