"""Runs of a tiny network, and folders of data for them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import TWO_LEVELS, TWO_TRAILS, picture
from unsmear.data.sources import find_training_files
from unsmear.models import zoo
from unsmear.models.checkpoint import load_weights
from unsmear.models.config import NetworkConfig
from unsmear.models.zoo import Entry, LoadedModel
from unsmear.train.batches import Batches
from unsmear.train.config import PRESETS, Stage, TrainConfig
from unsmear.train.journal import LOG_FILE
from unsmear.train.loop import train
from unsmear.train.meter import Report
from unsmear.train.preflight import Request
from unsmear.video.images import write_image

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    model="tiny",
    stages=(Stage(steps=6, clips=1, frames=2, crop=32), Stage(steps=3, clips=1, frames=3, crop=48)),
    learning_rate=2e-3,
    log_every=3,
    validate_every=6,
    checkpoint_every=4,
)
TRACER = dataclasses.replace(
    CONFIG, model="tracer", stages=(Stage(steps=3, clips=2, frames=2, crop=32),)
)
PRESET = TrainConfig(model="tiny", stages=(Stage(steps=4, clips=2, frames=3, crop=32),), shards=2)


@pytest.fixture
def tiny(monkeypatch):
    """Rows of small networks in the zoo, and a preset for one of them."""
    for name, config in (("tiny", TWO_LEVELS), ("tracer", TWO_TRAILS)):
        entry = Entry(name=name, summary="for tests", config=config, window=3)
        monkeypatch.setitem(zoo.ZOO, name, entry)
    monkeypatch.setitem(PRESETS, "tiny", PRESET)


@pytest.fixture
def weights_file(tmp_path: Path, made_once: Callable[[NetworkConfig, Path], Path]) -> Path:
    """A file of random weights of the row `tiny`."""
    return made_once(TWO_LEVELS, tmp_path / "two.safetensors")


def save(path: Path, image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, torch.from_numpy(image.transpose(2, 0, 1).copy()))


def save_picture(path, height=64, width=80, seed=0):
    save(path, picture(height, width, seed))


@pytest.fixture
def data(tmp_path) -> Path:
    for index in range(3):
        save(tmp_path / "data" / "stills" / f"{index}.png", picture(120, 160, index))
    return tmp_path / "data"


@pytest.fixture
def pairs(tmp_path) -> Path:
    for index in range(4):
        save(tmp_path / "GOPRO" / "seq" / "blur" / f"{index}.png", picture(64, 80, index))
        save(tmp_path / "GOPRO" / "seq" / "sharp" / f"{index}.png", picture(64, 80, index + 9))
    return tmp_path / "GOPRO"


@pytest.fixture
def stills(tmp_path):
    for index in range(2):
        save_picture(tmp_path / "stills" / f"{index}.png", seed=index)
    return tmp_path / "stills"


def sequence(root, name, *, frames=4, sides=("blur", "sharp"), size=(64, 80)):
    for side in sides:
        for index in range(frames):
            save_picture(root / name / side / f"{index}.png", *size, seed=index)


def run(config, folder, out, val=(), **options) -> list[Report]:
    reports: list[Report] = []
    batches = Batches(config, find_training_files([folder]), [], CPU, 1)
    train(config, batches, list(val), out, CPU, reports.append, **options)
    return reports


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Callable[[TrainConfig, Path], Path]:
    """The folder of an uninterrupted run, to be read only: each is made once in a module. All its
    tests have the same `data`.
    """
    folders: dict[TrainConfig, Path] = {}

    def folder(config: TrainConfig, data: Path) -> Path:
        if config not in folders:
            run(config, data, out := tmp_path_factory.mktemp("whole"))
            folders[config] = out
        return folders[config]

    return folder


def logged(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / LOG_FILE).read_text().splitlines()]


def loaded(path: Path) -> LoadedModel:
    network, provenance = load_weights(path)
    return LoadedModel(path.stem, network, 3, provenance)


def request(stills, tmp_path, **changes):
    usual = {"data": [stills], "preset": "tiny", "out": tmp_path / "run", "device": "cpu"}
    return Request(**(usual | changes))
