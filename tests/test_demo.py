from __future__ import annotations

import dataclasses
from statistics import fmean

import pytest
import torch

from tests.conftest import SMALL, awake, write_video
from unsmear import demo
from unsmear.cli import main
from unsmear.engines.base import as_engine
from unsmear.engines.choice import OpenedModel
from unsmear.errors import InputError, OutputError
from unsmear.evaluate.metrics import psnr
from unsmear.models.checkpoint import Provenance
from unsmear.video.images import read_image
from unsmear.video.reader import VideoReader, read_rgb8

ORIGIN = Provenance(model="small", steps=0, seed=0, hours=0, device="cpu", version="test")


@pytest.fixture
def model() -> OpenedModel:
    return OpenedModel("small", as_engine(awake(SMALL)), 3, ORIGIN)


def test_the_clip_is_blurry_always_the_same_and_moves(monkeypatch):
    blurry, sharp = demo.shaky_clip(4, 96, 160)
    again, _ = demo.shaky_clip(4, 96, 160)
    assert torch.equal(blurry, again)
    assert blurry.shape == sharp.shape == (4, 3, 96, 160)
    edges = [float(side.diff(dim=-1).square().mean()) for side in (blurry, sharp)]
    assert edges[0] < 0.7 * edges[1]
    assert (sharp[1:] - sharp[:-1]).abs().mean() > 0.01


def test_demo_writes_clip_comparison_and_picture_and_measures(tmp_path, model, monkeypatch):
    short = demo.shaky_clip(3, 96, 160)
    monkeypatch.setattr(demo, "shaky_clip", lambda: short)
    result = demo.run_demo(tmp_path / "out", model)
    assert result.frames == 3
    before, after = result.psnr
    assert 15 < before < 45
    assert after < before  # random weights make it worse
    assert result.ssim[1] < result.ssim[0]
    blurry, made = (list(read_rgb8(path)) for path in (tmp_path / "out/shaky.mp4", result.restored))
    values = [psnr(frame / 255, truth) for frame, truth in zip(blurry, short[1], strict=True)]
    assert before == pytest.approx(fmean(values), abs=0.01)
    changes = [
        float((b / 255 - a / 255).square().mean()) for b, a in zip(blurry, made, strict=True)
    ]
    shown = read_image(result.picture)
    assert shown.shape == (3, 192, 326)
    most = blurry[changes.index(max(changes))]
    apart = (shown[:, :96, :160].int() - most.int()).abs() > 1
    assert apart.float().mean() < 0.2  # in the label and the outline
    for path in (result.restored, result.comparison):
        with VideoReader(path) as reader:
            assert sum(1 for _ in reader) == 3


def test_demo_with_a_clip_of_ones_own(tmp_path, model):
    clip = write_video(tmp_path / "mine.mp4", frames=3)
    result = demo.run_demo(tmp_path / "out", dataclasses.replace(model, window=1), clip)
    assert result.psnr is None
    assert result.restored.name == "mine.sharp.mp4"
    assert result.picture.is_file()
    assert clip.is_file()


def test_the_picture_stands_as_players_show_the_clip(tmp_path, model):
    clip = write_video(tmp_path / "phone.mp4", frames=2, size=(64, 48), rotation=90)
    result = demo.run_demo(tmp_path / "out", dataclasses.replace(model, window=1), clip)
    assert read_image(result.picture).shape == (3, 2 * 64, 2 * 48 + 6)


def test_results_of_a_demo_are_replaced_and_no_other_files(tmp_path, model, monkeypatch):
    short = demo.shaky_clip(2, 48, 64)
    monkeypatch.setattr(demo, "shaky_clip", lambda: short)
    for name in ("shaky.mp4", "shaky.sharp.mp4", "shaky.sharp.compare.mp4", "shaky.compare.png"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(OutputError, match=f"{name}' exists, but was not made by the demo"):
            demo.run_demo(tmp_path, model)
        assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
        (tmp_path / name).unlink()
    (tmp_path / "shaky.mp4").symlink_to("nowhere")
    with pytest.raises(OutputError, match=r"shaky\.mp4' exists"):
        demo.run_demo(tmp_path, model)
    (tmp_path / "shaky.mp4").unlink()
    out = tmp_path / "out"
    for _ in range(2):
        demo.run_demo(out, model)
    (out / "shaky.compare.png").write_text("mine")
    with pytest.raises(OutputError, match=r"compare\.png' exists"):
        demo.check_demo(out, None)
    own = write_video(tmp_path / "shaky.mp4", frames=1)
    with pytest.raises(OutputError, match=r"compare\.png' exists"):
        demo.check_demo(out, own)


def test_interlaced_clips_are_refused_with_a_remedy_that_there_is(tmp_path, model):
    clip = write_video(tmp_path / "tape.mkv", options={"x264-params": "interlaced=1:tff=1"})
    with pytest.raises(InputError, match=r"`unsmear /.*tape\.mkv --deinterlace`"):
        demo.run_demo(tmp_path / "out", model, clip)


def test_names_with_brackets_are_told_as_they_are(tmp_path, weights_file, monkeypatch, capsys):
    made = [tmp_path / f"my[/x] {name}" for name in ("sharp.mp4", "compare.mp4", "compare.png")]
    result = demo.DemoResult(*made, 3, None, None)
    monkeypatch.setattr(demo, "run_demo", lambda *_: result)
    main(["demo", "-o", str(tmp_path / "out"), "-m", str(weights_file), "--device", "cpu"])
    shown = capsys.readouterr().out
    assert all(f": {path}\n" in shown for path in made)


def test_what_the_demo_cannot_do_is_refused_and_leaves_nothing(tmp_path, model):
    clip = write_video(tmp_path / "mine.mp4", frames=1)
    (tmp_path / "plain").touch()
    (tmp_path / "fake.mp4").write_text("no video")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for out, given, error, message in (
        ("plain", clip, OutputError, "is a file"),
        ("plain/x", clip, OutputError, "cannot write"),
        ("out", tmp_path / "nowhere.mp4", InputError, "no such file"),
        ("out", tmp_path / "folder", InputError, "takes a video"),
        ("deep/out", tmp_path / "fake.mp4", InputError, "cannot be read as a video"),
    ):
        with pytest.raises(error, match=message):
            demo.run_demo(tmp_path / out, model, given)
    assert sorted(tmp_path.rglob("*")) == before
