"""Every option of a command has its effect: none is lost on the way, and none changes anything
else. From `command.py`, `training.py`, `research.py` and `restoration/api.py` to what they call.
"""

from __future__ import annotations

import dataclasses
import inspect
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import unsmear
from tests.conftest import one_scene
from unsmear import command, research, training
from unsmear.cli import main
from unsmear.data.changes import SynthesisChanges
from unsmear.data.sources import DataRecord
from unsmear.engines import choice
from unsmear.evaluate import benchmark, niqe, origin, report, run, vmaf
from unsmear.restoration import api, files, preview
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.settings import Settings, Span
from unsmear.restoration.tiles import TileSize
from unsmear.train import batches, loop, preflight, processes, pruning
from unsmear.train.changes import ScheduleChanges
from unsmear.train.preflight import Request
from unsmear.video.encoding import EncodeChoice
from unsmear.video.formats import parse_pixel_format


class EnoughError(Exception):
    """Stops the command once it has passed on what the test looks at."""


def options_of(verb):
    """Names of a verb's options."""
    return {
        name
        for name, parameter in inspect.signature(verb).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def spelled(name):
    return "--" + name.replace("_", "-")


def made(**changes):
    return {"settings": Settings(**changes)}


# A value for each option of `unsmear CLIP`, and what it changes in a restoration.
RESTORE = {
    "output": ("o.mkv", {"target": Path("o.mkv")}),
    "model": ("pro", {"model": "pro"}),
    "device": ("cuda:1", {"device": "cuda:1"}),
    "engine": ("onnxruntime", {"engine": "onnxruntime"}),
    "window": ("all", {"window": "all"}),
    "tile": ("640x480", made(tiling=TileSize(480, 640))),
    "ensemble": ("4", made(quality=QualityOptions(ensemble=4))),
    "refine": ("2", made(quality=QualityOptions(refine=2))),
    "burst": ("1", made(quality=QualityOptions(burst=1))),
    "polish": (None, made(quality=QualityOptions(polish=True))),
    "reblur": (None, made(quality=QualityOptions(reblur=True))),
    "strength": ("0.25", made(strength=0.25)),
    "start": ("1:30", made(span=Span(start=Fraction(90)))),
    "end": ("2.5", made(span=Span(end=Fraction(5, 2)))),
    "codec": ("hevc", made(encode=EncodeChoice(codec="hevc"))),
    "crf": ("30", made(encode=EncodeChoice(crf=30))),
    "pixel_format": (
        "yuv444p",
        made(encode=EncodeChoice(pixel_format=parse_pixel_format("yuv444p"))),
    ),
    "lossless": (
        None,
        made(encode=EncodeChoice(lossless=True)) | {"target": Path("clip.sharp.mkv")},
    ),
    "deinterlace": (None, made(deinterlace=True)),
    "compare": ("wipe", made(compare="wipe")),
    "preview": (None, {"by": "write_preview", "target": Path("clip.preview.png")}),
    "overwrite": (None, made(overwrite=True)),
    "json": (None, {"told": "JsonLines"}),
}


def test_no_option_of_a_restoration_is_left_untried():
    assert set(RESTORE) == options_of(command.restore)


@pytest.mark.parametrize("option", [None, *RESTORE])
def test_an_option_changes_that_of_a_restoration_and_nothing_else(tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").touch()
    got = {}

    def open_model(model, device, engine, **more):
        got.update(model=model, device=device, engine=engine, **more)
        return SimpleNamespace(window=5, engine=SimpleNamespace(threads=1, own_threads=False))

    def recorder(name):
        def take(source, target, engine, window, settings, *, on_note, **_):
            got.update(
                by=name, source=source, target=target, window=window, settings=settings,
                told=type(on_note.__self__).__name__,
            )  # fmt: skip
            return files.Outcome(frames=1, resumed=0, untouched=0)

        return take

    monkeypatch.setattr(choice, "open_model", open_model)
    monkeypatch.setattr(files, "restore_file", recorder("restore_file"))
    monkeypatch.setattr(preview, "write_preview", recorder("write_preview"))
    usual = {
        "model": "core", "device": "auto", "engine": "auto", "side_by_side": True, "window": 5,
        "by": "restore_file", "source": Path("clip.mp4"), "target": Path("clip.sharp.mp4"),
        "settings": Settings(), "told": "Bar",
    }  # fmt: skip
    word, change = (None, {}) if option is None else RESTORE[option]
    main(["clip.mp4", *([] if option is None else [spelled(option)]), *([word] if word else [])])
    assert got == usual | change


# A value for each option of `unsmear.restore`, and what it changes.
FRAMES = {
    "model": ("pro", {"model": "pro"}),
    "device": ("cuda:1", {"device": "cuda:1"}),
    "engine": ("openvino", {"engine": "openvino"}),
    "window": (9, {"window": 9}),
    "tiling": (TileSize(480, 640), {"tiling": TileSize(480, 640)}),
    "ensemble": (4, {"quality": QualityOptions(ensemble=4)}),
    "refine": (2, {"quality": QualityOptions(refine=2)}),
    "burst": (1, {"quality": QualityOptions(burst=1)}),
    "polish": (True, {"quality": QualityOptions(polish=True)}),
    "reblur": (True, {"quality": QualityOptions(reblur=True)}),
}


@pytest.fixture
def opened(monkeypatch):
    """What the Python functions open, by the names of their arguments."""
    got = {}

    def open_model(model, device, engine):
        got.update(model=model, device=device, engine=engine)
        return SimpleNamespace(window=5, engine="an engine")

    monkeypatch.setattr(api, "open_model", open_model)
    return got


USUAL_MODEL = {"model": "core", "device": "auto", "engine": "auto", "window": 5}


def test_each_argument_for_frames_arrives(monkeypatch, opened):
    def stream(engine, frames, window, *, scenes, tiling, quality):
        opened.update(window=window, tiling=tiling, quality=quality)
        return iter(frames)

    monkeypatch.setattr(api, "restore_stream", stream)
    monkeypatch.setattr(QualityOptions, "check", lambda quality, engine: None)
    usual = USUAL_MODEL | {"tiling": "auto", "quality": QualityOptions()}
    assert set(FRAMES) == options_of(unsmear.restore)
    for option, (value, change) in FRAMES.items():
        list(unsmear.restore(one_scene(1, 16, 16), **{option: value}))
        assert opened == usual | change, option


def test_each_argument_for_a_video_arrives(monkeypatch, opened):
    def restore_file(source, target, engine, window, settings, **told):
        opened.update(source=source, target=target, window=window, settings=settings, **told)

    monkeypatch.setattr(api, "check_paths", lambda *_: None)
    monkeypatch.setattr(api, "restore_file", restore_file)
    settings = Settings(strength=0.5)
    given = {
        "model": "pro", "device": "cpu", "engine": "torch", "window": "all",
        "settings": settings, "on_progress": print, "on_note": len,
    }  # fmt: skip
    assert set(given) == options_of(unsmear.restore_video)
    unsmear.restore_video("in.mp4", "out.mp4", **given)
    assert opened == given | {"source": Path("in.mp4"), "target": Path("out.mp4")}


@pytest.mark.parametrize("verb", [["info", "clip.mp4"], ["demo"], ["demo", "clip.mp4"]])
def test_model_device_and_engine_arrive(tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").touch()
    asked = []

    def open_model(*given, **_):
        asked.append(given)
        raise EnoughError

    monkeypatch.setattr(choice, "open_model", open_model)
    with pytest.raises(EnoughError):
        main([*verb, "--model", "pro", "--device", "cuda:1", "--engine", "openvino"])
    assert asked == [("pro", "cuda:1", "openvino")]
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


# A value for each option of `unsmear train`, all different.
TRAIN = {
    "preset": "pro", "out": Path("o"), "val": Path("v"), "shake": [Path("a.txt")],
    "device": "cuda:1", "steps": 11, "clips": 12, "frames": 13, "crop": 14, "seed": 15,
    "learning_rate": 0.16, "loss": "psnr", "frequency_weight": 0.17, "compile": "on",
    "precision": "bfloat16", "weights": "w", "teacher": "t", "teacher_weight": 0.18,
    "pair_share": 0.19, "refine_share": 0.2, "workers": 2, "stop_after": 21, "threads": 22,
}  # fmt: skip
SCHEDULE = {
    "optimizer": "adam", "schedule": "halving", "halve_every": 61, "warmup": 62, "ema_decay": 0.63,
    "clip_norm": 0.64, "trail_weight": 0.65, "shards": 66, "log_every": 67, "validate_every": 68,
    "checkpoint_every": 69,
}  # fmt: skip
SYNTHESIS = {field.name: 30 + at for at, field in enumerate(dataclasses.fields(SynthesisChanges))}


def test_each_option_of_training_is_asked_for(monkeypatch):
    asked = []

    def prepare(request, processes, cores):
        asked.append(request)
        raise EnoughError

    monkeypatch.setattr(preflight, "prepare", prepare)
    assert set(SCHEDULE) == {field.name for field in dataclasses.fields(ScheduleChanges)}
    groups = {"synthesis", "schedule"}
    assert {"data", *TRAIN, *groups} == {field.name for field in dataclasses.fields(Request)}
    assert {"data", *TRAIN, *groups, "ahead"} == options_of(training.train)
    words = []
    for option, value in (TRAIN | SYNTHESIS | SCHEDULE).items():
        words += [spelled(option), str(value[0] if isinstance(value, list) else value)]
    for more in ([], words):
        with pytest.raises(EnoughError):
            main(["train", "--data", "d", "e", *more])
    usual = {"data": [Path("d"), Path("e")], "shake": []}
    changes = {
        "synthesis": SynthesisChanges(**SYNTHESIS),
        "schedule": ScheduleChanges(**SCHEDULE),
    }
    all_of_it = usual | TRAIN | changes
    assert asked == [Request(**usual), Request(**all_of_it)]


def test_what_is_planned_is_what_runs(tmp_path, monkeypatch):
    plan = SimpleNamespace(
        config=SimpleNamespace(steps=7), files="files", validation=["a pair"],
        initial=SimpleNamespace(name="first"), teacher="a teacher", device=torch.device("cpu"),
        out=tmp_path, data=DataRecord("2 clips", "f1"), validation_data="of a pair",
    )  # fmt: skip
    got = {}

    class Batches(SimpleNamespace):
        def __init__(self, config, files, shake, device, cores):
            super().__init__(summary="data")
            got.update(files=files, shake=shake)

        def draw(self, step, shards):
            return f"shards {shards} of step {step}"

    @contextmanager
    def with_workers(batches, steps, device, workers):
        got.update(drawers=workers)
        yield "draws"

    def train(config, draws, validation, out, device, report, **named):
        del named["team"]
        got.update(named, threads=torch.get_num_threads())
        assert (config, draws, out) == (plan.config, "draws", plan.out)
        got.update(validation=validation)
        return out / "weights"

    monkeypatch.setattr(preflight, "prepare", lambda *_: plan)
    monkeypatch.setattr(batches, "Batches", Batches)
    monkeypatch.setattr(processes, "with_workers", with_workers)
    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(pruning, "needs_pruning", lambda *_: False)
    torch.set_num_threads(2)
    usual = {
        "files": "files", "shake": [], "validation": ["a pair"], "initial": plan.initial,
        "data": DataRecord("data", "f1"), "validation_data": "of a pair",
        "teacher": "a teacher", "drawers": 0, "ahead": False, "stop_after": None, "threads": 2,
        "shown": None,
    }  # fmt: skip
    for words, change in (
        ([], {}),
        (["--ahead"], {"ahead": True}),
        (["--workers", "3"], {"drawers": 3, "ahead": True}),
        (["--stop-after", "4"], {"stop_after": 4}),
        (["--shake", "a.txt", "b.txt"], {"shake": [Path("a.txt"), Path("b.txt")]}),
        (["--threads", "1"], {"threads": 1}),
    ):
        main(["train", "--data", "d", *words])
        assert got == usual | change, words
    torch.set_num_threads(2)
    plan.validation = []  # then the log shows crops
    main(["train", "--data", "d"])
    assert got == usual | {"validation": [], "shown": "shards [0] of step 0"}


# A value for each option of `unsmear eval`, and what it changes in a measurement.
EVAL = {
    "data": ("d", {"data": Path("d")}),
    "restored": ("r", {"restored": Path("r")}),
    "sharp": ("s", {"sharp": Path("s")}),
    "pair": ("order", {"pair": "order"}),
    "layout": ("bsd", {"layout": "bsd"}),
    "model": ("pro plus", {"models": ("pro", "plus")}),
    "window": ("all", {"window": "all"}),
    "ensemble": ("4", {"quality": QualityOptions(ensemble=4)}),
    "refine": ("2", {"quality": QualityOptions(refine=2)}),
    "burst": ("1", {"quality": QualityOptions(burst=1)}),
    "polish": (None, {"quality": QualityOptions(polish=True)}),
    "reblur": (None, {"quality": QualityOptions(reblur=True)}),
    "device": ("cuda:1", {"device": "cuda:1"}),
    "engine": ("openvino", {"engine": "openvino"}),
    "protocol": ("cdvd estrnn", {"protocols": ["cdvd", "estrnn"]}),
    "workers": ("3", {"workers": 3}),
    "vmaf": (None, {"ffmpeg": "ffmpeg"}),
    "niqe": (None, {"pristine": "pristine"}),
    "table1": (None, {"table_1": True}),
    "markdown": ("m.md", {"markdown": Path("m.md")}),
    "json": ("j.json", {"json_file": Path("j.json")}),
    "plot": ("p.png", {"plot": Path("p.png")}),
    "save": ("o", {"save": Path("o")}),
}


def test_each_option_of_a_measurement_arrives(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    got = {}

    def find_work(data, restored, sharp, layout, models, window, device, engine, quality, **more):
        got.update(
            data=data, restored=restored, sharp=sharp, layout=layout, models=tuple(models),
            window=window, device=device, engine=engine, quality=quality, save=more["save"],
            pair=more["pair"],
        )  # fmt: skip
        return [SimpleNamespace(frames=0, device="cpu", run=lambda asked: ["result"])]

    def measuring(*protocols, workers, on_frame, ffmpeg, pristine, finished):
        got.update(protocols=[protocol.name for protocol in protocols], workers=workers)
        got.update(ffmpeg=ffmpeg, pristine=pristine)

    def save_reports(result, *, origin, **reports):
        got.update(reports)

    monkeypatch.setattr(run, "find_work", find_work)
    monkeypatch.setattr(benchmark, "Benchmark", measuring)
    monkeypatch.setattr(vmaf, "find_vmaf", lambda: "ffmpeg")
    monkeypatch.setattr(niqe, "load_model", lambda: "pristine")
    monkeypatch.setattr(research, "usable_cores", lambda: 8)
    monkeypatch.setattr(report, "introduction", lambda result: ["what"])
    monkeypatch.setattr(report, "table_rows", lambda result: (["frames"], []))
    monkeypatch.setattr(report, "remarks", lambda result: [])
    monkeypatch.setattr(report, "table_1_lines", lambda result: ["the paper's"])
    monkeypatch.setattr(report, "save_reports", save_reports)
    monkeypatch.setattr(origin, "origin_of", lambda device: None)
    usual = {
        "data": None, "restored": None, "sharp": None, "layout": None, "models": (), "pair": "name",
        "window": None, "device": None, "engine": None, "quality": QualityOptions(),
        "protocols": ["basicsr2d"], "workers": 8, "ffmpeg": None, "pristine": None,
        "table_1": False, "markdown": None, "json_file": None, "plot": None, "save": None,
    }  # fmt: skip
    assert set(EVAL) == options_of(research.evaluate)
    for option, (word, change) in EVAL.items():
        main(["eval", spelled(option), *(word.split() if word else [])])
        assert got == usual | change, option
