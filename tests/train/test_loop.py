"""Training learns, resumes bit for bit, and every preset takes its steps on a CPU."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.conftest import SMALL, TRAILS, picture
from unsmear.cli import main
from unsmear.data.pairs import find_pairs
from unsmear.data.sources import DataRecord, find_training_files
from unsmear.data.trails import unknown_trails
from unsmear.errors import ConfigError, InputError, ModelError, UnsmearError
from unsmear.evaluate.validation import SequenceScore
from unsmear.models import zoo
from unsmear.models.checkpoint import Provenance, load_weights
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import Entry, LoadedModel
from unsmear.train import loop, losses, stepper, trainable
from unsmear.train.batches import Batches
from unsmear.train.config import PRESETS, Stage, TrainConfig
from unsmear.train.journal import CONFIG_FILE, LOG_FILE, PICTURES, Journal
from unsmear.train.loop import train
from unsmear.train.meter import Report
from unsmear.train.optimizers import Muon
from unsmear.train.state import (
    BEST_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    Best,
    TrainState,
    check_resumable,
    read_header,
)
from unsmear.video.images import read_image, write_image

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    model="tiny",
    stages=(Stage(steps=6, clips=2, frames=2, crop=32), Stage(steps=3, clips=1, frames=3, crop=48)),
    learning_rate=2e-3,
    log_every=3,
    validate_every=6,
    checkpoint_every=4,
)


@pytest.fixture(autouse=True)
def _tiny_row(monkeypatch):
    for name, config in (("tiny", SMALL), ("tracer", TRAILS)):
        entry = Entry(name=name, summary="for tests", config=config, window=3)
        monkeypatch.setitem(zoo.ZOO, name, entry)


def save(path: Path, image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, torch.from_numpy(image.transpose(2, 0, 1).copy()))


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


def run(config, folder, out, val=(), **options) -> list[Report]:
    reports: list[Report] = []
    batches = Batches(config, find_training_files([folder]), [], CPU, 1)
    train(config, batches, list(val), out, CPU, reports.append, **options)
    return reports


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
    assert network.config == SMALL
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
    assert lines[4]["sequences"]["seq"] == {
        "psnr": reports[2].scores[0].psnr_after,
        "gain": reports[2].scores[0].gain,
        "ssim": reports[2].scores[0].ssim_after,
    }
    assert lines[4]["validation"].keys() == {"psnr", "gain", "ssim"}


def logged(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / LOG_FILE).read_text().splitlines()]


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
    assert run(CONFIG, data, out, find_pairs(pairs)) == []
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_tensorboard_can_read_the_log(data, pairs, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(CONFIG, data, tmp_path / "run", find_pairs(pairs))
    log = EventAccumulator(str(tmp_path / "run"))
    log.Reload()
    for tag, steps in (("val/mean", [6, 9]), ("val_gain/mean", [6, 9]), ("val/ssim", [9])):
        assert [event.step for event in log.Scalars(tag)] == steps
    speed = {"speed/frames_per_second", "speed/learning_share"}
    assert {"train/loss", "train/psnr"} | speed <= set(log.Tags()["scalars"])
    assert log.Tags()["images"] == [f"{PICTURES}/seq"]
    shown = log.Images(f"{PICTURES}/seq")
    assert [(event.step, event.width, event.height) for event in shown] == [
        (6, 248, 64), (9, 248, 64),
    ]  # fmt: skip
    image = tmp_path / "shown.png"
    image.write_bytes(shown[-1].encoded_image_string)
    for left, side in ((0, "blur"), (168, "sharp")):
        frame = read_image(pairs / "seq" / side / "2.png")  # the middle one
        assert torch.equal(read_image(image)[..., left : left + 80], frame)
    assert [event.step for event in log.Scalars("train/loss")] == [3, 6, 9]


@pytest.mark.usefixtures("files_stay_in_use")
def test_the_log_of_a_killed_run_shows_no_step_twice(data, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.summary.writer import event_file_writer as writer

    # Files of one second and process are read in the order of this number, as text: 10 before 9.
    monkeypatch.setattr(writer, "_global_uid", writer.AtomicCounter(0))

    def killed(report):
        raise SystemExit(report.step)

    often = dataclasses.replace(CONFIG, log_every=1)
    batches = Batches(often, find_training_files([data]), [], CPU, 1)
    run(often, data, tmp_path / "run", stop_after=2, shown=batches.draw(0))
    with pytest.raises(SystemExit):
        train(often, batches, [], tmp_path / "run", CPU, killed, stop_after=4)
    run(often, data, tmp_path / "run", stop_after=4)
    log = EventAccumulator(str(tmp_path / "run"))
    log.Reload()
    assert [event.step for event in log.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [line["step"] for line in logged(tmp_path / "run")] == [1, 2, 3, 4]
    assert log.Tags()["images"] == [f"{PICTURES}/crop1", f"{PICTURES}/crop2"]


def test_a_log_of_json_goes_on_after_the_last_whole_entry(tmp_path):
    journal = Journal(tmp_path, 0)
    score = SequenceScore("s", 1, 20.0, math.inf, None, None, math.inf)
    for step in (1, 2, 3):
        journal.add_scores(step, [score])
    journal.close()
    log = tmp_path / LOG_FILE
    log.write_text(log.read_text() + '{"step": 2, "lo')
    Journal(tmp_path, 2).close()
    assert [line["step"] for line in logged(tmp_path)] == [1, 2]
    assert logged(tmp_path)[0]["validation"] == {"psnr": "inf", "gain": "inf"}
    log.write_text(log.read_text().rstrip("\n"))  # only its end of line was cut off
    journal = Journal(tmp_path, 2)
    journal.add_scores(3, [score])
    journal.close()
    assert [line["step"] for line in logged(tmp_path)] == [1, 2, 3]


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


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        ("tiny", "adam"),
        ("tiny", "muon"),
        ("tracer", "muon"),
    ],
)
def test_an_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(
    data, tmp_path, model, optimizer
):
    config = dataclasses.replace(CONFIG, model=model, optimizer=optimizer)
    run(config, data, tmp_path / "whole")
    one = load_file(tmp_path / "whole" / STATE_FILE)
    assert any(key.startswith("optimizer.momentum_buffer.") for key in one) == (optimizer == "muon")
    for stop in (1, 4, 7):
        out = tmp_path / f"stopped at {stop}"
        run(config, data, out, stop_after=stop)
        run(config, data, out)
        two = load_file(out / STATE_FILE)
        assert one.keys() == two.keys()
        assert {key for key in one if not torch.equal(one[key], two[key])} == set(), stop


def loaded(path: Path) -> LoadedModel:
    network, provenance = load_weights(path)
    return LoadedModel(path.stem, network, 3, provenance)


def test_training_goes_on_from_given_weights_and_remembers_them(data, tmp_path):
    run(CONFIG, data, tmp_path / "first")
    first = loaded(tmp_path / "first" / "weights.safetensors")
    slow = dataclasses.replace(CONFIG, learning_rate=1e-12)
    run(slow, data, tmp_path / "second", initial=first)
    second = loaded(tmp_path / "second" / "weights.safetensors")
    for one, two in zip(first.network.parameters(), second.network.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    assert second.provenance.parent["config"]["learning_rate"] == CONFIG.learning_rate
    assert second.provenance.total_steps == 18


def test_weights_of_another_network_are_refused(data, tmp_path):
    other = DeblurNetwork(dataclasses.replace(SMALL, spatial_maps=5))
    provenance = Provenance(model="x", steps=0, seed=0, hours=0, device="cpu", version="test")
    with pytest.raises(ModelError, match="another network"):
        run(CONFIG, data, tmp_path / "run", initial=LoadedModel("x", other, 3, provenance))


@pytest.mark.filterwarnings("ignore:for by. copying from a non-meta")
def test_moments_of_single_numbers_go_to_the_device_of_their_parameter(tmp_path):
    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.by = torch.nn.Parameter(torch.ones(()))

    config = TrainConfig(model="own", stages=(Stage(steps=1, clips=1, frames=1, crop=16),))
    state = TrainState.start(Scale, config, CPU)
    state.network.by.square().backward()
    state.optimizers[0].step()
    state.save(tmp_path / STATE_FILE, config)
    resumed = TrainState.start(Scale, config, torch.device("meta"))
    resumed.load(tmp_path / STATE_FILE, config)
    (moments,) = resumed.optimizers[0].state.values()
    places = {name: value.device.type for name, value in moments.items()}
    assert places == {"step": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta"}


def test_weights_without_trails_are_a_start_for_a_network_with_them(data, tmp_path, monkeypatch):
    run(CONFIG, data, tmp_path / "plain")
    plain = loaded(tmp_path / "plain" / "weights.safetensors")
    wider = dataclasses.replace(SMALL, trail_levels=(1,), trail_channels=4)
    row = zoo.ZOO[CONFIG.model]
    monkeypatch.setitem(zoo.ZOO, CONFIG.model, dataclasses.replace(row, config=wider))
    slow = dataclasses.replace(CONFIG, learning_rate=1e-12)
    run(slow, data, tmp_path / "trails", initial=plain)
    following = loaded(tmp_path / "trails" / "weights.safetensors")
    assert following.network.config == wider
    clip = torch.rand(1, 3, 3, 32, 40)
    torch.testing.assert_close(following.network(clip), plain.network(clip), rtol=0, atol=1e-5)
    monkeypatch.setitem(zoo.ZOO, CONFIG.model, row)
    with pytest.raises(ModelError, match="another network"):  # it must be pruned first
        run(CONFIG, data, tmp_path / "back", initial=following)


def test_ctrl_c_keeps_the_state(data, tmp_path, monkeypatch):
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
    monkeypatch.setitem(zoo.ZOO, "tiny", Entry(name="tiny", summary="", config=SMALL, window=3))
    run(CONFIG, data, tmp_path / "run")
    assert load_weights(tmp_path / "run" / WEIGHTS_FILE)[1].steps == CONFIG.steps
    run(CONFIG, data, tmp_path / "whole")
    one, two = (load_file(tmp_path / name / STATE_FILE) for name in ("whole", "run"))
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
def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(data, tmp_path, owner, name):
    config = dataclasses.replace(CONFIG, optimizer="muon")
    with pytest.MonkeyPatch.context() as patch:
        interrupted_at(patch, owner, name, 5)
        interrupted_at(patch, TrainState, "save", 2)  # again, while the state is saved
        with pytest.raises(KeyboardInterrupt):
            run(config, data, tmp_path / "run")
    assert load_weights(tmp_path / "run" / WEIGHTS_FILE)[1].steps == 5
    run(config, data, tmp_path / "run")
    run(config, data, tmp_path / "whole")
    one, two = (load_file(tmp_path / part / STATE_FILE) for part in ("whole", "run"))
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


def test_a_resumed_run_knows_what_it_started_from(data, tmp_path):
    for name, seed in (("first", 0), ("other", 1)):
        run(dataclasses.replace(CONFIG, seed=seed), data, tmp_path / name)
    first, other = (loaded(tmp_path / name / WEIGHTS_FILE) for name in ("first", "other"))
    out = tmp_path / "run"
    run(CONFIG, data, out, initial=first, stop_after=2)
    with pytest.raises(ModelError, match="did not start from the weights 'weights'"):
        run(CONFIG, data, out, initial=other)
    run(CONFIG, data, out, initial=first, stop_after=4)
    run(CONFIG, data, out)
    origin = load_weights(out / WEIGHTS_FILE)[1]
    assert origin.parent == dataclasses.asdict(first.provenance)
    assert origin.total_steps == 18
    run(CONFIG, data, tmp_path / "fresh", stop_after=2)
    with pytest.raises(ModelError, match="did not start"):
        run(CONFIG, data, tmp_path / "fresh", initial=first)


def test_weights_that_were_measured_later_are_what_a_run_started_from(data, tmp_path):
    """`retrain.py` again, now with --val: the first run only validates, the second resumes."""
    run(CONFIG, data, tmp_path / "first")
    first = loaded(tmp_path / "first" / WEIGHTS_FILE)
    run(CONFIG, data, tmp_path / "second", initial=first, stop_after=2)
    for side in ("blur", "sharp"):
        save(tmp_path / "pairs" / "s" / side / "0.png", picture(64, 64))
    run(CONFIG, data, tmp_path / "first", find_pairs(tmp_path / "pairs"))
    again = loaded(tmp_path / "first" / WEIGHTS_FILE)
    assert again.provenance.scores
    assert again.provenance != first.provenance
    run(CONFIG, data, tmp_path / "second", initial=again)
    third = loaded(tmp_path / "second" / WEIGHTS_FILE)
    assert third.provenance.steps == 9


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


def test_training_lowers_the_loss(data, tmp_path):
    """Learn to brighten: sharp frames are the blurry ones plus a constant."""
    folder = tmp_path / "pairs"
    for index in range(3):
        image = (picture(64, 64, index) * 0.6).astype("uint8")
        save(folder / "s" / "blur" / f"{index}.png", image)
        save(folder / "s" / "sharp" / f"{index}.png", image + 60)
    config = dataclasses.replace(
        CONFIG,
        stages=(Stage(steps=60, clips=2, frames=2, crop=32),),
        learning_rate=5e-3,
        clip_norm=10.0,
        log_every=10,
    )
    losses = [report.loss for report in run(config, folder, tmp_path / "run")]
    assert losses[-1] < 0.3 * losses[0]


def test_other_settings_do_not_resume_silently(data, tmp_path):
    run(CONFIG, data, tmp_path / "run", stop_after=2)
    other = dataclasses.replace(CONFIG, learning_rate=1e-3)
    with pytest.raises(ModelError, match=r"settings \(learning_rate was 0\.002, now 0\.001\)"):
        run(other, data, tmp_path / "run")
    reporting = dataclasses.replace(CONFIG, log_every=1)
    assert run(reporting, data, tmp_path / "run")[-1].step == 9


def test_each_setting_that_decides_the_result_is_asked_for_again(tmp_path):
    """Settings that only affect reports, or how the same is computed, are not."""
    config = dataclasses.replace(CONFIG, teacher="one", teacher_weight=1.0, halve_every=1)
    state = tmp_path / STATE_FILE
    taken = TrainState.start(partial(DeblurNetwork, SMALL), config, CPU)
    taken.step = config.steps
    taken.save(state, config)
    (first, last) = config.stages
    changes = {
        "model": "tracer", "optimizer": "muon", "learning_rate": 1e-3, "schedule": "halving",
        "warmup": 1, "loss": "l1", "frequency_weight": 0.1,
        "trail_weight": 0.1, "teacher": "other", "teacher_weight": 0.5, "clip_norm": 0.5,
        "ema_decay": 0.9, "pair_share": 0.25, "refine_share": 1.0, "precision": "bfloat16",
        "seed": 1, "synthesis": dataclasses.replace(config.synthesis, sharp_share=0.3),
        "stages": (first, dataclasses.replace(last, crop=64)),
    }  # fmt: skip
    free = {"log_every": 1, "validate_every": 1, "checkpoint_every": 1, "compile": "off",
            "halve_every": 2}  # of a cosine  # fmt: skip
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    assert {*changes, *free, "shards"} == fields
    for name, value in changes.items():
        with pytest.raises(ModelError, match="other settings"):
            check_resumable(state, dataclasses.replace(config, **{name: value}))
    check_resumable(state, dataclasses.replace(config, **free))
    wide = dataclasses.replace(config, stages=(dataclasses.replace(first, clips=4),))
    TrainState.start(partial(DeblurNetwork, SMALL), wide, CPU).save(state, wide)
    with pytest.raises(ModelError, match=r"other settings \(shards was 1, now 2\)"):
        check_resumable(state, dataclasses.replace(wide, shards=2))


def test_a_longer_run_goes_on_where_its_steps_so_far_stay_the_same(data, tmp_path):
    """As if it had been planned so. A cosine depends on its length from the end of the warm-up."""
    (stage, _) = CONFIG.stages
    constant = dataclasses.replace(CONFIG, schedule="constant", warmup=2, stages=(stage,))
    more = (stage, dataclasses.replace(stage, steps=3))
    longer = dataclasses.replace(constant, stages=more)
    run(constant, data, tmp_path / "run")
    run(longer, data, tmp_path / "run")
    run(longer, data, tmp_path / "whole")
    one, two = (load_file(tmp_path / name / STATE_FILE) for name in ("run", "whole"))
    assert {key for key in one if not torch.equal(one[key], two[key])} == set()
    assert load_weights(tmp_path / "run" / WEIGHTS_FILE)[1].config["stages"][1]["steps"] == 3

    state = tmp_path / STATE_FILE
    halving = dataclasses.replace(constant, schedule="halving", halve_every=4)
    cosine = dataclasses.replace(constant, schedule="cosine")
    for config, step, others, allowed in (
        (halving, 6, {"stages": more}, True),
        (halving, 6, {"halve_every": 5}, False),
        (halving, 4, {"halve_every": 5}, True),
        (constant, 6, {"warmup": 1}, False),
        (constant, 3, {"stages": (dataclasses.replace(stage, steps=2),)}, False),
        (constant, 6, {"stages": more, "seed": 1}, False),
        (cosine, 3, {"stages": more}, True),
        (cosine, 4, {"stages": more}, False),
    ):
        start = TrainState.start(partial(DeblurNetwork, SMALL), config, CPU)
        start.step = step
        start.save(state, config)
        changed = dataclasses.replace(config, **others)
        if allowed:
            check_resumable(state, changed)
            continue
        with pytest.raises(ModelError, match=rf"{step} steps would have been others"):
            check_resumable(state, changed)


def test_a_state_older_than_a_setting_goes_on_with_its_default(data, tmp_path):
    out = tmp_path / "run"
    run(CONFIG, data, out, stop_after=2)
    with safe_open(out / STATE_FILE, framework="pt") as file:
        metadata = file.metadata()
    settings = json.loads(metadata["config"])
    del settings["frequency_weight"], settings["synthesis"]["night_share"]
    for name in ("data", "validation", "validated", "best"):
        del metadata[name]
    metadata["config"] = json.dumps(settings)
    save_file(load_file(out / STATE_FILE), out / STATE_FILE, metadata)
    weighted = dataclasses.replace(CONFIG, frequency_weight=0.1)
    with pytest.raises(ModelError, match=r"settings \(frequency_weight was 0\.0, now 0\.1\)"):
        run(weighted, data, out)
    nights = dataclasses.replace(CONFIG.synthesis, night_share=0.1)
    with pytest.raises(ModelError, match=r"settings \(night_share was 0\.0, now 0\.1\)"):
        run(dataclasses.replace(CONFIG, synthesis=nights), data, out)
    assert run(CONFIG, data, out)[-1].step == 9


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


def test_a_broken_state_file_is_named(data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / STATE_FILE).write_bytes(b"garbage")
    with pytest.raises(ModelError, match="cannot resume"):
        run(CONFIG, data, tmp_path / "run")


def test_nan_gradients_are_skipped_then_stop_the_run(data, tmp_path, monkeypatch):
    monkeypatch.setitem(losses.LOSSES, "charbonnier", lambda r, s: (r - s).mean() * float("nan"))
    endless = dataclasses.replace(CONFIG, stages=(Stage(steps=50, clips=1, frames=1, crop=16),))
    with pytest.raises(
        UnsmearError, match=r"20 consecutive steps: .* than 0\.002 in another --out, with"
    ):
        run(endless, data, tmp_path / "run")
    # The start that the message recommends exists.
    assert load_weights(tmp_path / "run" / WEIGHTS_FILE)[1].steps == 16


def test_sequences_too_short_or_too_small_are_named(pairs, tmp_path):
    long = dataclasses.replace(CONFIG, stages=(Stage(steps=1, clips=1, frames=9, crop=32),))
    with pytest.raises(InputError, match="'seq' has 4 frames"):
        run(long, pairs, tmp_path / "a")
    wide = dataclasses.replace(CONFIG, stages=(Stage(steps=1, clips=1, frames=2, crop=72),))
    with pytest.raises(InputError, match="80x64"):
        run(wide, pairs, tmp_path / "b")


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


def test_command_line_trains_and_the_result_restores(data, pairs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, "lite", dataclasses.replace(CONFIG, stages=CONFIG.stages[:1]))
    out = tmp_path / "run"
    shutil.copytree(pairs / "seq", pairs / "val" / "seq")
    main(
        [
            "train",
            "--preset",
            "lite",
            "--data",
            str(data),
            str(pairs / "seq"),
            "--val",
            str(pairs / "val"),
            "-o",
            str(out),
            "--steps",
            "3",
            "--device",
            "cpu",
            "--threads",
            "2",
        ]
    )
    shown = capsys.readouterr().out
    assert "3 photographs, 0 sharp shots, 0 shake logs, 1 paired sequences" in shown
    assert "3 steps on cpu, from random weights" in " ".join(shown.split())
    assert "validation: seq" in shown
    assert "; mean " in shown
    frames = pairs / "seq" / "blur"
    main([str(frames), "-o", str(tmp_path / "restored"), "-m", str(out / "weights.safetensors")])
    assert len(list((tmp_path / "restored").iterdir())) == 4


TRACER = dataclasses.replace(
    CONFIG, model="tracer", stages=(Stage(steps=3, clips=2, frames=2, crop=32),)
)


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
        run(dataclasses.replace(CONFIG, trail_weight=weight), data, tmp_path / str(weight))
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


def test_the_batch_has_trails_for_all_its_clips(data, pairs):
    config = dataclasses.replace(
        TRACER, stages=(Stage(steps=1, clips=6, frames=2, crop=40),), shards=6
    )
    batches = Batches(config, find_training_files([data, pairs]), [], CPU, 1)
    clips = batches.draw(0)
    assert [part.shape[:2] for part in clips.tensors[:4]] == [(6, 2)] * 4
    assert clips.trails.vectors.shape == (6, 2, 2, 5, 5)
    known = clips.trails.known.flatten(1).amax(dim=1)
    assert 0 < known.sum() < 6  # both synthesis and pairs
    blank = unknown_trails(clips.blurry)
    assert torch.equal(clips.trails.vectors[known == 0], blank.vectors[known == 0])


def test_reseeded_batches_are_others_from_the_same_sources(data):
    batches = Batches(CONFIG, find_training_files([data]), [], CPU, 1)
    first, other = batches.draw(0)[0], batches.reseeded(CONFIG.seed + 1).draw(0)[0]
    assert not torch.equal(first, other)
    assert torch.equal(batches.draw(0)[0], first)
    assert torch.equal(batches.reseeded(CONFIG.seed).draw(0)[0], first)
