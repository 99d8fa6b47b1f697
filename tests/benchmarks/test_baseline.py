"""benchmarks/baseline.py: who takes part, and what the tables say."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import pytest
import torch

from tests.conftest import SMALL, load_script
from unsmear.data.clips import unknown_clips
from unsmear.errors import ModelError
from unsmear.evaluate.comparison import ComparisonRecord, Score
from unsmear.evaluate.origin import origin_of
from unsmear.models.baseline import RecurrentConfig, RecurrentNetwork
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import find_entry
from unsmear.train.comparison import plan_of


@pytest.fixture(scope="module")
def bench():
    return load_script("benchmarks/baseline.py")


class Scorer:
    windows: ClassVar = []

    def score(self, network, window=None):
        self.windows.append(window)
        return Score(psnr=30.0, ssim=0.9, fresh=0.1, neighbours=0.0, sequences={})


class Batches:
    def draw(self, step, shards=None):
        return unknown_clips(*torch.rand(2, 1, 2, 3, 16, 16))


def test_rows_of_the_zoo_and_the_baseline_take_part(bench):
    with torch.device("meta"):
        assert isinstance(bench.build_of("recurrent")(), RecurrentNetwork)
        assert bench.build_of("plain")().config == find_entry("plain").config
    assert bench.macs_of("recurrent") > bench.macs_of("plain")
    with pytest.raises(ModelError, match="unknown model"):
        bench.build_of("estrnn")


def test_each_learns_and_gets_a_row(bench, monkeypatch, capsys):
    small = {"recurrent": partial(RecurrentNetwork, RecurrentConfig(width=4, blocks=1))}
    monkeypatch.setattr(bench, "build_of", lambda x: small.get(x, partial(DeblurNetwork, SMALL)))

    def hold(arguments, builds, train_from, row, settings, words):
        cpu = torch.device("cpu")
        learners = train_from(plan_of(arguments, 0), Batches(), Scorer(), cpu)
        rows = tuple(row(label, 1 << 20, learners) for label in builds)
        return ComparisonRecord(
            title=arguments.title, note="", origin=origin_of(cpu), settings=settings,
            blurry=Scorer().score(None), rows=rows, words=words,
        )  # fmt: skip

    monkeypatch.setattr(bench, "compare", hold)
    command = [
        "baseline.py",
        "lite",
        "paper",
        "recurrent",
        "--data",
        "photos",
        "--val",
        "val",
        "--steps",
        "2",
    ]
    monkeypatch.setattr("sys.argv", command)
    bench.main()
    shown = capsys.readouterr().out
    for label in ("lite", "paper", "recurrent"):
        assert f"| {label} | 30.000" in shown
    assert "against recurrent" in shown
    assert Scorer.windows[:3] == [7, 5, None]  # each row has its own window
    assert "windows on val lite 7 frames, paper 5 frames" in shown
