"""What is measured and kept in the folder of a run, whenever the run stops."""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import picture
from tests.train.conftest import CONFIG, loaded, run, save
from unsmear.data.pairs import find_pairs
from unsmear.data.sources import DataRecord
from unsmear.errors import InputError
from unsmear.evaluate.validation import SequenceScore
from unsmear.models.checkpoint import load_weights
from unsmear.train import loop, trainable
from unsmear.train.config import Stage
from unsmear.train.state import BEST_FILE, STATE_FILE, WEIGHTS_FILE, Best, read_header

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def scripted(monkeypatch):
    """Validation with given gains; None: Ctrl-C."""

    def script(*gains: float | None) -> None:
        left = iter(gains)

        def measure(*_, **__):
            if (gain := next(left)) is None:
                raise KeyboardInterrupt
            return [SequenceScore("seq", 1, 20.0, 20.0 + gain, None, None, gain)]

        monkeypatch.setattr(trainable, "measure", measure)

    return script


def test_the_best_weights_are_kept_whenever_a_run_stops(data, pairs, tmp_path, scripted):
    config = dataclasses.replace(CONFIG, validate_every=2)
    val = find_pairs(pairs)
    scripted(math.nan, 0.5, 0.5, -0.1, 0.25)
    run(config, data, tmp_path / "whole", val)
    header = read_header(tmp_path / "whole" / STATE_FILE)
    assert (header.best, header.validated) == (Best(4, 0.5), 9)
    whole = tmp_path / "whole" / BEST_FILE
    assert load_weights(whole)[1].steps == 4
    assert load_weights(whole)[1].scores["seq"]["psnr_after"] == 20.5
    out = tmp_path / "run"
    scripted(math.nan, None)  # interrupted in the validation of step 4, whose state is saved
    with pytest.raises(KeyboardInterrupt):
        run(config, data, out, val)
    assert not (out / BEST_FILE).exists()
    scripted(0.5, 0.5, None)
    with pytest.raises(KeyboardInterrupt):
        run(config, data, out, val)
    scripted(-0.1, 0.25)
    run(config, data, out, val)
    assert read_header(out / STATE_FILE).best == header.best
    best, again = load_file(whole), load_file(out / BEST_FILE)
    assert all(torch.equal(best[key], again[key]) for key in best)


def test_a_best_score_on_other_data_does_not_count(data, pairs, tmp_path, scripted):
    val, one, two = find_pairs(pairs), DataRecord("one", "1"), DataRecord("two", "2")
    scripted(0.5, 0.25, 0.125)
    run(CONFIG, data, tmp_path / "run", val, validation_data=one, stop_after=6)
    assert read_header(tmp_path / "run" / STATE_FILE).best == Best(6, 0.5)
    run(CONFIG, data, tmp_path / "run", val, validation_data=two)
    header = read_header(tmp_path / "run" / STATE_FILE)
    assert (header.best, header.validation) == (Best(6, 0.25), two)  # step 6 was measured again


SHORT = dataclasses.replace(CONFIG, stages=(Stage(steps=2, clips=1, frames=2, crop=16),))


def test_what_is_measured_shown_and_saved_is_the_moving_average(data, pairs, tmp_path, monkeypatch):
    seen = []
    for name in ("measure", "_of_clip"):
        original = getattr(trainable, name)

        def noted(network, *rest, original=original, **options):
            seen.append(network.head.weight.clone())
            return original(network, *rest, **options)

        monkeypatch.setattr(trainable, name, noted)
    run(SHORT, data, tmp_path / "run", find_pairs(pairs))
    state = load_file(tmp_path / "run" / STATE_FILE)
    average, last = (state[f"{kind}.head.weight"] for kind in ("average", "network"))
    assert (average - last).abs().max() > 1e-4
    assert [torch.equal(weight, average) for weight in seen] == [True, True]
    saved = load_weights(tmp_path / "run" / WEIGHTS_FILE)[0].head.weight
    torch.testing.assert_close(saved, average, rtol=1e-3, atol=1e-6)  # half precision on disk


def test_time_counts_from_the_first_start(data, tmp_path, monkeypatch):
    ticks = itertools.count(0.0, 900.0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=partial(next, ticks)))
    seconds = []
    for stop in (1, None):
        run(SHORT, data, tmp_path / "run", stop_after=stop)
        seconds.append(read_header(tmp_path / "run" / STATE_FILE).seconds)
    assert seconds[1] >= 2 * seconds[0] > 0
    origin = load_weights(tmp_path / "run" / WEIGHTS_FILE)[1]
    assert origin.hours == seconds[1] / 3600


def test_a_frame_that_cannot_be_read_in_validation_loses_no_step(data, tmp_path):
    for index in range(2):
        for side in ("blur", "sharp"):
            save(tmp_path / "pairs" / "s" / side / f"{index}.png", picture(64, 64))
    config = dataclasses.replace(CONFIG, validate_every=99)  # at the end alone
    pairs = find_pairs(tmp_path / "pairs")
    damaged = tmp_path / "pairs" / "s" / "blur" / "1.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png"):
        run(config, data, tmp_path / "run", pairs)
    damaged.write_bytes(whole)
    reports = run(config, data, tmp_path / "run", pairs)
    assert reports == []  # only the validation was left
    assert loaded(tmp_path / "run" / WEIGHTS_FILE).provenance.scores["s"]
