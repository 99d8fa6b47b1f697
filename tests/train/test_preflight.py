"""All mistakes in a request are reported at once, before anything is loaded."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.conftest import TWO_ALIGNED, TWO_LEVELS
from tests.train.conftest import CPU, request, run, sequence
from tests.train.conftest import PRESET as CONFIG
from tests.train.conftest import save_picture as save
from unsmear.data.changes import SynthesisChanges
from unsmear.data.pairs import find_pairs
from unsmear.errors import CombinedError, ConfigError, InputError, ModelError, OutputError
from unsmear.models import zoo
from unsmear.models.checkpoint import Provenance, save_weights
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import Entry, load_model
from unsmear.train import preflight
from unsmear.train.changes import ScheduleChanges
from unsmear.train.config import PRESETS, Stage
from unsmear.train.distillation import identity_of
from unsmear.train.preflight import Request, prepare, unfit_pairs
from unsmear.train.state import BEST_FILE, STATE_FILE, WEIGHTS_FILE, TrainState, read_header

pytestmark = pytest.mark.usefixtures("tiny")


def test_a_good_request_becomes_a_plan(stills, tmp_path, weights_file):
    sequence(tmp_path / "val", "a")
    asked = request(
        stills, tmp_path, val=tmp_path / "val", steps=8, seed=3, learning_rate=1e-3, loss="l1",
        frequency_weight=0.1, compile="off", precision="bfloat16",
        synthesis=SynthesisChanges(coder_share=0.25, blur_mean=11), pair_share=0.75,
        weights=str(weights_file), clips=12, frames=2,
    )  # fmt: skip
    plan = prepare(asked, processes=2)
    config = plan.config
    assert (config.steps, config.seed, config.learning_rate) == (8, 3, 1e-3)
    assert (config.loss, config.frequency_weight, config.compile) == ("l1", 0.1, "off")
    assert (config.precision, config.pair_share) == ("bfloat16", 0.75)
    assert [(stage.clips, stage.frames) for stage in config.stages] == [(12, 2)]
    assert config.shards == 4
    wanted = dataclasses.replace(CONFIG.synthesis, coder_share=0.25, blur_mean=11)
    assert config.synthesis == wanted
    assert [pair.name for pair in plan.validation] == ["a"]
    assert (plan.device, plan.out, plan.initial.name) == (CPU, tmp_path / "run", "two")
    assert len(plan.files.photographs) == 2
    assert not (tmp_path / "run").exists()


def test_each_setting_that_is_asked_for_is_that_of_the_run(
    stills, tmp_path, monkeypatch, weights_file
):
    """Each changes its own setting and no other; those checked above are left out."""
    aligned = Entry(name="tiny", summary="", config=TWO_ALIGNED, window=3)
    monkeypatch.setitem(zoo.ZOO, "tiny", aligned)
    (stage,) = CONFIG.stages
    name = identity_of(load_model(str(weights_file)))
    taught = dataclasses.replace(CONFIG, teacher=name, teacher_weight=0.25)
    wanted = {
        "steps": (8, {"stages": (dataclasses.replace(stage, steps=8),)}),
        "clips": (12, {"stages": (dataclasses.replace(stage, clips=12),), "shards": 4}),
        "frames": (2, {"stages": (dataclasses.replace(stage, frames=2),)}),
        "crop": (48, {"stages": (dataclasses.replace(stage, crop=48),)}),
        "seed": (3, {"seed": 3}),
        "learning_rate": (1e-3, {"learning_rate": 1e-3}),
        "loss": ("l1", {"loss": "l1"}),
        "frequency_weight": (0.1, {"frequency_weight": 0.1}),
        "compile": ("off", {"compile": "off"}),
        "precision": ("bfloat16", {"precision": "bfloat16"}),
        "pair_share": (0.75, {"pair_share": 0.75}),
        "refine_share": (0.5, {"refine_share": 0.5}),
        "synthesis": (
            SynthesisChanges(blur_mean=11),
            {"synthesis": dataclasses.replace(CONFIG.synthesis, blur_mean=11)},
        ),
        "schedule": (
            ScheduleChanges(schedule="halving", halve_every=7, clip_norm=0.5, shards=1),
            {"schedule": "halving", "halve_every": 7, "clip_norm": 0.5, "shards": 1},
        ),
        "teacher": (str(weights_file), {"teacher": name, "teacher_weight": 1.0}),
    }
    for name, (value, change) in wanted.items():
        plan = prepare(request(stills, tmp_path, **{name: value}))
        assert plan.config == dataclasses.replace(CONFIG, **change), name
    asked = request(stills, tmp_path, teacher=str(weights_file), teacher_weight=0.25)
    assert prepare(asked).config == taught
    of_no_setting = {"data", "preset", "out", "val", "shake", "device", "weights"}
    of_no_setting |= {"teacher_weight", "workers", "stop_after", "threads"}
    fields = {field.name for field in dataclasses.fields(Request)}
    assert {*wanted} == fields - of_no_setting


def test_everything_wrong_is_told_at_once(stills, tmp_path):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "log.txt").write_text("no log")
    other = dataclasses.replace(TWO_LEVELS, spatial_maps=5)
    origin = Provenance(model="x", steps=0, seed=0, hours=0, device="cpu", version="test")
    other_weights = tmp_path / "other.safetensors"
    save_weights(other_weights, other, DeblurNetwork(other).state_dict(), origin)
    asked = request(
        stills, tmp_path, data=[tmp_path / "gone", tmp_path / "lost"], out=tmp_path / "file",
        val=tmp_path / "nowhere", shake=[tmp_path / "log.txt", tmp_path / "no.txt"],
        device="cuda:77", steps=0, learning_rate=-1.0, frequency_weight=-1.0,
        weights=str(other_weights), threads=0, clips=0,
        schedule=ScheduleChanges(ema_decay=1.0, log_every=0),
    )  # fmt: skip
    with pytest.raises(CombinedError) as caught:
        prepare(asked, processes=3)
    told = [str(error) for error in caught.value.errors]
    wanted = [
        "steps is 0", "clips=0",
        "ema_decay is 1.0", "log_every is 0",
        "learning_rate is -1.0", "frequency_weight is -1.0", "'cuda:77'", "gone'",
        "lost'", "is a file; choose another --out", "log.txt' is not an orientation log",
        "cannot read", "nowhere' is not a folder", "threads is 0", "another network",
        "3 processes cannot share the 2 shards",
    ]  # fmt: skip
    for text in wanted:
        assert sum(text in line for line in told) == 1, (text, told)
    assert len(told) == len(wanted) - 2  # mistakes of TrainConfig are in two messages
    shown = str(caught.value)
    assert shown.startswith("14 mistakes: (1) ")
    assert shown.endswith("and 4 more")


def test_one_mistake_is_told_as_itself(stills, tmp_path):
    for changes, kind, message in (
        ({"preset": "huge"}, ConfigError, "unknown preset"),
        ({"weights": "huge"}, ModelError, "unknown model"),
        ({"stop_after": 0}, ConfigError, "stop_after is 0"),
        ({"val": stills}, InputError, "no paired sequences"),
        ({"loss": "l3"}, ConfigError, "loss is 'l3'"),
        ({"out": stills / "0.png" / "run"}, OutputError, "is a file"),
    ):
        with pytest.raises(kind, match=message):
            prepare(request(stills, tmp_path, **changes))


def test_a_drive_that_is_not_there_is_told(monkeypatch):
    """On Windows; elsewhere there is always a root."""
    monkeypatch.setattr(Path, "exists", lambda _: False)
    with pytest.raises(OutputError, match=r"cannot write to 'Z/run': no '.*'; choose"):
        preflight._check_out(Path("Z/run"))


def test_an_unknown_preset_hides_no_other_mistake(stills, tmp_path, monkeypatch):
    def missing(*_):
        raise ConfigError("no compiler")

    monkeypatch.setattr(preflight, "check_compiler", missing)
    asked = request(
        stills, tmp_path, preset="huge", learning_rate=-1.0, steps=0, clips=0,
        synthesis=SynthesisChanges(night_share=2.0), threads=0, val=tmp_path / "no",
    )  # fmt: skip
    with pytest.raises(CombinedError) as caught:
        prepare(asked)
    told = [str(error) for error in caught.value.errors]
    wanted = [
        "unknown preset 'huge'", "steps is 0", "clips=0", "night_share is 2.0",
        "learning_rate is -1.0", "is not a folder", "threads is 0", "no compiler",
    ]  # fmt: skip
    for text in wanted:
        assert sum(text in line for line in told) == 1, (text, told)
    assert len(told) == len(wanted)


def test_what_depends_on_the_preset_is_not_told_of_another(tmp_path):
    """Crops of the default preset would not fit these frames, nor would these weights fit its
    network.
    """
    sequence(tmp_path / "data", "small", size=(24, 40))
    asked = request(tmp_path / "data", tmp_path, preset="huge", weights="paper")
    with pytest.raises(ConfigError, match="unknown preset"):
        prepare(asked, processes=3)


def test_crops_must_fit_the_cells_of_trails(stills, tmp_path, monkeypatch):
    shape = dataclasses.replace(TWO_LEVELS, neighbours=1, trail_levels=(0,))
    entry = Entry(name="trailing", summary="", config=shape, window=3)
    monkeypatch.setitem(zoo.ZOO, "trailing", entry)
    stages = (Stage(steps=4, clips=2, frames=3, crop=36),)
    config = dataclasses.replace(CONFIG, model="trailing", stages=stages)
    monkeypatch.setitem(PRESETS, "trailing", config)
    with pytest.raises(ConfigError, match=r"crop is 36: must be .* for 'trailing'"):
        prepare(request(stills, tmp_path, preset="trailing"))


def test_a_folder_of_another_run_is_told_before_training(stills, tmp_path):
    (tmp_path / "run").mkdir()
    state = TrainState.start(partial(DeblurNetwork, TWO_LEVELS), CONFIG, CPU)
    state.step = 2
    state.save(tmp_path / "run" / STATE_FILE, CONFIG)
    prepare(request(stills, tmp_path))
    prepare(request(stills, tmp_path, compile="on"))
    with pytest.raises(CombinedError, match=r"threads is 0.*other settings \(seed was 0, now 5\)"):
        prepare(request(stills, tmp_path, seed=5, threads=0, workers=0))
    stages = r"schedule was 4 steps of 2 clips, 3 frames, crop 32, now 5 steps of 2 clips, 3 frames"
    start = rf"{stages}.*its 2 steps .*--weights {tmp_path / 'run' / WEIGHTS_FILE} to start from"
    with pytest.raises(ModelError, match=start):
        prepare(request(stills, tmp_path, steps=5))
    with pytest.raises(ConfigError, match="workers is -1: must be at least 0"):
        prepare(request(stills, tmp_path, workers=-1))


def test_a_state_that_records_no_data_goes_on_with_any(stills, tmp_path):
    (tmp_path / "run").mkdir()
    TrainState.start(partial(DeblurNetwork, TWO_LEVELS), CONFIG, CPU).save(
        tmp_path / "run" / STATE_FILE, CONFIG
    )
    header = read_header(tmp_path / "run" / STATE_FILE)
    assert (header.data, header.validation, header.best) == (None, None, None)
    prepare(request(stills, tmp_path))


def test_pairs_that_cannot_be_cut_are_all_named(tmp_path):
    sequence(tmp_path, "short", frames=2)
    sequence(tmp_path, "small", size=(24, 40))
    sequence(tmp_path, "good")
    sequence(tmp_path, "uneven")
    save(tmp_path / "uneven" / "sharp" / "0.png", 64, 96)
    (tmp_path / "damaged" / "blur").mkdir(parents=True)
    sequence(tmp_path, "damaged")
    (tmp_path / "damaged" / "blur" / "0.png").write_bytes(b"no picture")
    (stage,) = CONFIG.stages  # the later one asks for more
    stages = (dataclasses.replace(stage, frames=2, crop=24), stage)
    config = dataclasses.replace(CONFIG, stages=stages)
    errors = sorted(str(error) for error in unfit_pairs(find_pairs(tmp_path), config, 2))
    wanted = ["damaged", "'short' has 2 frames", "'small' has frames of 40x24", "'uneven'"]
    assert len(errors) == len(wanted)
    for error, text in zip(errors, wanted, strict=True):
        assert text in error


def test_a_smaller_crop_fits_smaller_frames(tmp_path):
    sequence(tmp_path / "pairs", "small", size=(24, 40))
    with pytest.raises(InputError, match="too small for a crop of 32: remove it, or train"):
        prepare(request(tmp_path / "pairs", tmp_path))
    plan = prepare(request(tmp_path / "pairs", tmp_path, crop=24))
    assert [stage.crop for stage in plan.config.stages] == [24]
    with pytest.raises(CombinedError, match="crop at least 16"):
        prepare(request(tmp_path / "pairs", tmp_path, crop=8))


def test_neighbours_that_are_to_be_restored_must_be_looked_at(stills, tmp_path):
    with pytest.raises(
        ConfigError, match=r"refine_share is 0\.5: 'tiny' does not align neighbours"
    ):
        prepare(request(stills, tmp_path, refine_share=0.5))


def test_codecs_that_are_asked_for_must_be_there(stills, tmp_path, monkeypatch):
    def missing():
        raise ConfigError("no PyAV")

    monkeypatch.setattr(preflight, "check_codecs", missing)
    prepare(request(stills, tmp_path))
    with pytest.raises(ConfigError, match="no PyAV"):
        prepare(request(stills, tmp_path, synthesis=SynthesisChanges(coder_share=0.5)))
    with pytest.raises(ConfigError, match=r"coder_share is 1\.5"):
        prepare(request(stills, tmp_path, synthesis=SynthesisChanges(coder_share=1.5)))
    sequence(tmp_path / "pairs", "s")  # without synthesis, codecs are not needed
    prepare(request(tmp_path / "pairs", tmp_path, synthesis=SynthesisChanges(coder_share=0.5)))


def test_validation_that_cannot_be_read_is_told_before_training(stills, tmp_path):
    sequence(tmp_path / "val", "good")
    sequence(tmp_path / "val", "uneven")
    save(tmp_path / "val" / "uneven" / "sharp" / "0.png", 64, 96)
    sequence(tmp_path / "val", "damaged")
    (tmp_path / "val" / "damaged" / "blur" / "0.png").write_bytes(b"no picture")
    with pytest.raises(CombinedError) as raised:
        prepare(request(stills, tmp_path, val=tmp_path / "val"))
    assert "2 mistakes" in str(raised.value)
    assert "'uneven' of --val has blurry and sharp frames of 80x64 and 96x64" in str(raised.value)
    assert "damaged" in str(raised.value)


def test_nothing_is_measured_on_what_is_learned_from(stills, tmp_path):
    for name in "abcde":
        sequence(tmp_path / "set" / "val", name, frames=1)
    (tmp_path / "link").symlink_to(tmp_path / "set")
    inner = tmp_path / "set" / "val" / "e" / "sharp"
    (tmp_path / "more" / "clips").mkdir(parents=True)
    (tmp_path / "more" / "clips" / "d").symlink_to(tmp_path / "set" / "val" / "d" / "sharp")
    for data, named in (
        ([stills, tmp_path / "link"], r"val.a.sharp', '.*b.sharp', '.*c.sharp' and 2 more: remove"),
        ([inner], "e.sharp': remove them from --data"),  # as photographs
        ([tmp_path / "more"], "d.sharp': remove them from --data"),  # as a clip
    ):
        asked = request(stills, tmp_path, data=data, val=tmp_path / "set" / "val", frames=1)
        with pytest.raises(ConfigError, match=named):
            prepare(asked)


def test_a_compiler_that_is_asked_for_must_be_there(monkeypatch):
    monkeypatch.setattr(preflight.shutil, "which", lambda name: None)
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    for device, message in (
        (CPU, "no C\\+\\+ compiler"),
        (torch.device("cuda"), "Triton is missing"),
    ):
        with pytest.raises(ConfigError, match=message):
            preflight.check_compiler("on", device)
        preflight.check_compiler("auto", device)


def test_graphs_need_a_gpu():
    preflight.check_compiler("graph", torch.device("cuda"))
    with pytest.raises(ConfigError, match="'graph' on cpu: CUDA graphs need a CUDA GPU"):
        preflight.check_compiler("graph", CPU)


def test_missing_folders_and_uneven_sequences_are_told_together(tmp_path):
    sequence(tmp_path / "a", "one")
    sequence(tmp_path / "a", "two")
    for name in ("one", "two"):
        (tmp_path / "a" / name / "blur" / "0.png").unlink()
    with pytest.raises(CombinedError) as caught:
        preflight.find_training_files([tmp_path / "a", tmp_path / "gone"])
    assert len(caught.value.errors) == 3
    assert all(isinstance(error, InputError) for error in caught.value.errors)


def test_a_request_for_a_teacher(stills, tmp_path, aligned_file):
    usual = {"data": [stills], "preset": "tiny", "out": tmp_path / "run", "device": "cpu"}
    plan = prepare(Request(**usual, teacher=str(aligned_file)))
    assert plan.teacher is not None
    assert plan.config.teacher == identity_of(plan.teacher)
    assert plan.config.teacher_weight == 1
    plan = prepare(Request(**usual, teacher=str(aligned_file), teacher_weight=0.25))
    assert plan.config.teacher_weight == 0.25
    plan = prepare(Request(**usual))
    assert (plan.teacher, plan.config.teacher) == (None, "")
    with pytest.raises(ConfigError, match="each needs the other"):
        prepare(Request(**usual, teacher_weight=0.25))
    with pytest.raises(ModelError, match="unknown model 'nobody'") as caught:
        prepare(Request(**usual, teacher="nobody", teacher_weight=0.25))
    assert "each needs" not in str(caught.value)
    with pytest.raises(CombinedError, match="teacher_weight is -1"):
        prepare(Request(**usual, teacher="nobody", teacher_weight=-1))


def test_going_on_with_a_teacher_that_is_not_there_is_one_mistake(stills, tmp_path, aligned_file):
    usual = {"data": [stills], "preset": "tiny", "out": tmp_path / "run", "device": "cpu"}
    plan = prepare(Request(**usual, teacher=str(aligned_file)))
    run(plan.config, stills, plan.out, teacher=plan.teacher, stop_after=1)
    copied = tmp_path / "copy.safetensors"
    copied.write_bytes(aligned_file.read_bytes())
    assert prepare(Request(**usual, teacher=str(copied))).config == plan.config
    with pytest.raises(ModelError, match="gone") as caught:
        prepare(Request(**usual, teacher=str(tmp_path / "gone.safetensors")))
    assert "other settings" not in str(caught.value)


@pytest.mark.parametrize("option", ["teacher", "weights"])
def test_a_run_does_not_write_over_what_it_begins_with(stills, tmp_path, weights_file, option):
    out = tmp_path / "run"
    out.mkdir()
    weights_file.rename(out / WEIGHTS_FILE)
    named = {option: str(out / WEIGHTS_FILE)}
    usual = {"data": [stills], "preset": "tiny", "device": "cpu"}
    with pytest.raises(OutputError, match=rf"the run would overwrite .* of --{option}: "):
        prepare(Request(**usual, **named, out=out))
    assert prepare(Request(**usual, **named, out=tmp_path / "other")).out == tmp_path / "other"
    (out / WEIGHTS_FILE).rename(out / BEST_FILE)
    named = {option: str(out / BEST_FILE)}
    with pytest.raises(OutputError, match=rf"the run would overwrite '.*{BEST_FILE}' of"):
        prepare(Request(**usual, **named, out=out))
