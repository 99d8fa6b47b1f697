"""Training learns, resumes bit for bit, and every preset takes its steps on a CPU."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import TWO_LEVELS, picture
from tests.train.conftest import CONFIG, CPU, TRACER, logged, run, save
from unsmear.data.pairs import find_pairs
from unsmear.data.sources import DataRecord, find_training_files
from unsmear.errors import ConfigError, UnsmearError
from unsmear.models import zoo
from unsmear.models.checkpoint import load_weights
from unsmear.models.zoo import Entry
from unsmear.train import loop, losses, stepper, trainable
from unsmear.train.batches import Batches
from unsmear.train.config import PRESETS, Stage
from unsmear.train.journal import CONFIG_FILE
from unsmear.train.loop import train
from unsmear.train.optimizers import Muon
from unsmear.train.state import STATE_FILE, WEIGHTS_FILE, TrainState

pytestmark = pytest.mark.usefixtures("tiny")


def test_a_run_leaves_weights_a_state_and_a_log(data, pairs, tmp_path):
    out = tmp_path / "run"
    made_of, measured_on = DataRecord("3 photographs", "f1"), DataRecord("1 sequences", "f2")
    records = {"data": made_of, "validation_data": measured_on}
    reports = run(CONFIG, data, out, find_pairs(pairs), **records)
    assert [report.step for report in reports] == [3, 6, 9]
    assert [len(report.scores) for report in reports] == [0, 1, 1]
    assert all(report.frames_per_second > 0 for report in reports)
    assert all(0 < report.learning < 1 for report in reports)
    network, origin = load_weights(out / "weights.safetensors")
    assert network.config == TWO_LEVELS
    assert (origin.steps, origin.seed, origin.model) == (9, 0, "tiny")
    assert origin.scores["seq"]["frames"] == 4
    assert origin.scores["seq"]["ssim_after"] > 0
    assert origin.data == {"summary": "3 photographs", "fingerprint": "f1"}
    assert list(out.glob("events.out.tfevents.*"))
    told = json.loads((out / CONFIG_FILE).read_text())
    assert told["data"] == origin.data
    assert told["validation"]["fingerprint"] == "f2"
    assert told["config"] == json.loads(json.dumps(CONFIG.to_json()))
    lines = logged(out)
    assert [(line["step"], "validation" in line) for line in lines] == [
        (3, False), (6, False), (6, True), (9, False), (9, True),
    ]  # fmt: skip
    assert lines[0]["loss"] == reports[0].loss
    assert lines[0]["learning_rate"] == CONFIG.learning_rate_at(2)  # of step 3
    assert lines[4]["sequences"]["seq"] == {
        "psnr": reports[2].scores[0].psnr_after,
        "gain": reports[2].scores[0].gain,
        "ssim": reports[2].scores[0].ssim_after,
    }
    assert lines[4]["validation"].keys() == {"psnr", "gain", "ssim"}


def test_drawing_ahead_changes_no_bit(data, pairs, tmp_path):
    """Synthesis and recorded pairs, drawn in any thread."""
    batches = Batches(CONFIG, find_training_files([data, pairs]), [], CPU, 2)
    for name, ahead in (("plain", False), ("ahead", True)):
        train(CONFIG, batches, [], tmp_path / name, CPU, lambda _: None, ahead=ahead)
    one, two = (load_file(tmp_path / name / STATE_FILE) for name in ("plain", "ahead"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_command_of_a_finished_run_changes_nothing(data, pairs, tmp_path):
    out = tmp_path / "run"
    run(CONFIG, data, out, find_pairs(pairs))
    before = {path: path.read_bytes() for path in out.iterdir()}
    for stop in (None, CONFIG.steps + 1):
        assert run(CONFIG, data, out, find_pairs(pairs), stop_after=stop) == []
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_ctrl_c_keeps_the_state(data, tmp_path, whole, monkeypatch):
    one = load_file(whole(CONFIG, data) / STATE_FILE)
    original = loop.Stepper.step

    def interrupted(self, clips):
        if self._state.step == 5:
            raise KeyboardInterrupt
        return original(self, clips)

    monkeypatch.setattr(loop.Stepper, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(CONFIG, data, tmp_path / "run")
    assert load_weights(tmp_path / "run" / WEIGHTS_FILE)[1].steps == 5  # to look at
    monkeypatch.undo()
    monkeypatch.setitem(
        zoo.ZOO, "tiny", Entry(name="tiny", summary="", config=TWO_LEVELS, window=3)
    )
    run(CONFIG, data, tmp_path / "run")
    assert load_weights(tmp_path / "run" / WEIGHTS_FILE)[1].steps == CONFIG.steps
    two = load_file(tmp_path / "run" / STATE_FILE)
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.fixture
def _interruptible():
    """A program that a shell started in the background ignores Ctrl-C."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


def interrupted_at(monkeypatch, owner, name, call):
    """Raise Ctrl-C when a function is called for the n-th time."""
    original, calls = getattr(owner, name), []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)  # not a real signal
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (stepper, "restore_and_compare"),
        (Muon, "step"),
        (torch.optim.Adam, "step"),
        (TrainState, "update_average"),
    ],
    ids=["at its start", "before the weights move", "between optimisers", "before the average"],
)
@pytest.mark.usefixtures("_interruptible")
def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(data, tmp_path, whole, owner, name):
    config = dataclasses.replace(CONFIG, optimizer="muon")
    with pytest.MonkeyPatch.context() as patch:
        interrupted_at(patch, owner, name, 5)
        interrupted_at(patch, TrainState, "save", 2)  # again, while the state is saved
        with pytest.raises(KeyboardInterrupt):
            run(config, data, tmp_path / "run")
    assert load_weights(tmp_path / "run" / WEIGHTS_FILE)[1].steps == 5
    run(config, data, tmp_path / "run")
    one, two = (load_file(out / STATE_FILE) for out in (whole(config, data), tmp_path / "run"))
    assert {key for key in one if not torch.equal(one[key], two[key])} == set()


@pytest.mark.usefixtures("_interruptible")
def test_what_was_not_measured_at_the_end_is_measured_by_the_same_command(data, pairs, tmp_path):
    out, val = tmp_path / "run", find_pairs(pairs)
    with pytest.MonkeyPatch.context() as patch:
        interrupted_at(patch, trainable, "measure", 2)  # the last one
        with pytest.raises(KeyboardInterrupt):
            run(CONFIG, data, out, val)
    origin = load_weights(out / WEIGHTS_FILE)[1]
    assert (origin.steps, origin.scores) == (9, {})
    run(CONFIG, data, out, val)
    run(CONFIG, data, tmp_path / "whole", val)
    scores = load_weights(out / WEIGHTS_FILE)[1].scores
    assert scores == load_weights(tmp_path / "whole" / WEIGHTS_FILE)[1].scores
    assert scores["seq"]["ssim_after"] > 0


def test_weights_of_an_earlier_step_do_not_pass_for_the_last(data, tmp_path, monkeypatch):
    out = tmp_path / "run"
    run(CONFIG, data, out, stop_after=2)  # leaves weights

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(trainable, "save_weights", full)
        with pytest.raises(OSError, match="No space"):
            run(CONFIG, data, out)
    assert load_weights(out / WEIGHTS_FILE)[1].steps == 2
    run(CONFIG, data, out)
    assert load_weights(out / WEIGHTS_FILE)[1].steps == 9


def test_every_validation_is_told(data, pairs, tmp_path):
    config = dataclasses.replace(CONFIG, log_every=4, validate_every=3)
    reports = run(config, data, tmp_path / "run", find_pairs(pairs))
    assert [(report.step, len(report.scores)) for report in reports] == [
        (3, 1), (4, 0), (6, 1), (8, 0), (9, 1),
    ]  # fmt: skip


def test_training_lowers_the_loss(data, tmp_path):
    """Learn to brighten: sharp frames are the blurry ones plus a constant."""
    folder = tmp_path / "pairs"
    for index in range(3):
        image = (picture(64, 64, index) * 0.6).astype("uint8")
        save(folder / "s" / "blur" / f"{index}.png", image)
        save(folder / "s" / "sharp" / f"{index}.png", image + 60)
    config = dataclasses.replace(
        CONFIG,
        stages=(Stage(steps=40, clips=2, frames=2, crop=32),),
        learning_rate=5e-3,
        clip_norm=10.0,
        log_every=10,
    )
    losses = [report.loss for report in run(config, folder, tmp_path / "run")]
    assert losses[-1] < 0.3 * losses[0]


def test_compiling_changes_neither_files_nor_numbers_beyond_rounding(data, tmp_path, monkeypatch):
    """With Dynamo's tracing, but without code generation, which takes a minute on a CPU."""
    original, calls = torch.nn.Module.compile, []

    def quick(network, **options):
        calls.append(options)
        original(network, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", quick)
    config = dataclasses.replace(CONFIG, stages=CONFIG.stages[:1])
    run(config, data, tmp_path / "plain")  # auto: never on a CPU
    assert calls == []
    compiled = dataclasses.replace(config, compile="on")
    run(compiled, data, tmp_path / "compiled", stop_after=3)
    assert calls == [{"dynamic": False}]
    run(config, data, tmp_path / "compiled")  # and continues without
    for name in (STATE_FILE, WEIGHTS_FILE):
        one, two = (load_file(tmp_path / folder / name) for folder in ("plain", "compiled"))
        assert one.keys() == two.keys()
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=0, atol=1e-4, msg=key)


def test_nan_gradients_are_skipped_then_stop_the_run(data, tmp_path, monkeypatch):
    monkeypatch.setitem(losses.LOSSES, "charbonnier", lambda r, s: (r - s).mean() * float("nan"))
    endless = dataclasses.replace(CONFIG, stages=(Stage(steps=50, clips=1, frames=1, crop=16),))
    with pytest.raises(
        UnsmearError, match=r"20 consecutive steps: .* than 0\.002 in another --out, with"
    ):
        run(endless, data, tmp_path / "run")
    # The start that the message recommends exists.
    assert load_weights(tmp_path / "run" / WEIGHTS_FILE)[1].steps == 16


def test_bfloat16_trains_on_the_cpu_too(data, tmp_path):
    half = dataclasses.replace(
        CONFIG, precision="bfloat16", stages=(Stage(steps=2, clips=1, frames=2, crop=16),)
    )
    assert run(half, data, tmp_path / "run")[-1].step == 2


@pytest.mark.parametrize("name", list(PRESETS))
def test_two_steps_of_every_shipped_preset(name, data, tmp_path):
    config = PRESETS[name]
    small = tuple(
        dataclasses.replace(stage, steps=1, clips=1, frames=2, crop=32) for stage in config.stages
    )
    config = dataclasses.replace(config, stages=(*small, small[-1]), shards=1, log_every=1)
    reports = run(config, data, tmp_path / "run", stop_after=2)
    assert reports[-1].step == 2
    assert math.isfinite(reports[-1].loss)


def ends_of(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / WEIGHTS_FILE)


def test_trails_are_learned_from_those_that_are_known(data, pairs, tmp_path):
    """Batches and image losses are the same, so only trails can differ. Recorded pairs have no
    known trails.
    """
    for name, folder, known in (("synthesis", data, True), ("pairs", pairs, False)):
        losses = {}
        for weight in (0.0, 1.0):
            config = dataclasses.replace(TRACER, trail_weight=weight)
            out = tmp_path / f"{name}{weight}"
            losses[weight] = run(config, folder, out)[-1].loss
        one, two = (ends_of(tmp_path / f"{name}{weight}") for weight in losses)
        moved = any(not torch.equal(one[key], two[key]) for key in one if "trail_head." in key)
        assert moved == known
        assert (losses[1.0] > losses[0.0]) == known


def test_a_network_without_trails_has_no_use_for_their_weight(data, tmp_path):
    for weight in (0.0, 1.0):
        config = dataclasses.replace(TRACER, model="tiny", trail_weight=weight)
        run(config, data, tmp_path / str(weight))
    one, two = (ends_of(tmp_path / str(weight)) for weight in (0.0, 1.0))
    assert all(torch.equal(one[key], two[key]) for key in one)


# At a graph break, Dynamo accesses gradients; it hides the warning unless it is an error.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_trails_are_learned_in_half_precision_compiled_and_ahead(data, tmp_path, monkeypatch):
    original = torch.nn.Module.compile

    def quick(network, **options):
        original(network, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", quick)
    config = dataclasses.replace(TRACER, precision="bfloat16", compile="on", trail_weight=1.0)
    loss = run(config, data, tmp_path / "all", ahead=True)[-1].loss
    plain = dataclasses.replace(TRACER, trail_weight=1.0)
    assert loss == pytest.approx(run(plain, data, tmp_path / "plain")[-1].loss, rel=0.05)


def test_crops_that_would_teach_no_trails_are_refused(data, tmp_path):
    odd = (*TRACER.stages, Stage(steps=1, clips=1, frames=2, crop=36))
    with pytest.raises(ConfigError, match=r"crop is 36: must be .* for 'tracer'"):
        run(dataclasses.replace(TRACER, stages=odd), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
