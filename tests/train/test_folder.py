"""What is measured and kept in the folder of a run, whenever the run stops."""

from __future__ import annotations

import dataclasses
import math

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
from unsmear.train import trainable
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
