"""Learning from a teacher's results in addition to the ground truth."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import TWO_ALIGNED, TWO_LEVELS, awake, mild
from unsmear.cli import main
from unsmear.data.clips import Clips, unknown_clips
from unsmear.data.sources import find_training_files
from unsmear.errors import ConfigError, ModelError
from unsmear.models import zoo
from unsmear.models.checkpoint import Provenance, load_weights
from unsmear.models.flow import clip_motion
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import Entry, LoadedModel
from unsmear.train.batches import Batches
from unsmear.train.config import PRESETS, Stage, TrainConfig
from unsmear.train.distillation import identity_of, teacher_results
from unsmear.train.loop import train
from unsmear.train.losses import charbonnier
from unsmear.train.state import STATE_FILE, WEIGHTS_FILE, TrainState
from unsmear.train.stepper import Stepper
from unsmear.train.team import Team

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    model="tiny",
    stages=(Stage(steps=4, clips=2, frames=3, crop=32),),
    learning_rate=1e-3,
    clip_norm=1e6,
    shards=2,
)
ORIGIN = Provenance(model="large", steps=0, seed=0, hours=0, device="cpu", version="test")


@pytest.fixture(autouse=True)
def _rows(monkeypatch):
    monkeypatch.setitem(
        zoo.ZOO, "tiny", Entry(name="tiny", summary="", config=TWO_LEVELS, window=3)
    )
    monkeypatch.setitem(PRESETS, "tiny", CONFIG)


@pytest.fixture
def teacher():
    """A network with trails and aligned neighbours; the student has neither."""
    return LoadedModel("large", mild(TWO_ALIGNED), 3, ORIGIN)


def taught_by(teacher, weight=0.5, **changes):
    return dataclasses.replace(
        CONFIG, teacher=identity_of(teacher), teacher_weight=weight, **changes
    )


def some_clips() -> Clips:
    blurry, sharp = torch.rand(2, 2, 3, 3, 32, 32)
    return unknown_clips(blurry, sharp)._replace(motion=clip_motion(blurry))


def run(config, stills, out, **options):
    batches = Batches(config, find_training_files([stills]), [], CPU, 1)
    return train(config, batches, [], out, CPU, lambda _: None, **options)


def test_a_network_is_told_from_others_by_its_weights(teacher):
    twin = dataclasses.replace(teacher, name="twin", network=copy.deepcopy(teacher.network))
    assert identity_of(teacher) == identity_of(twin)
    assert identity_of(teacher).startswith("large-")
    twin.network.head.weight[0, 0, 0, 0] += 1
    assert identity_of(teacher) != identity_of(twin)


@pytest.mark.parametrize("shape", [TWO_LEVELS, TWO_ALIGNED])
def test_a_teacher_tells_what_it_makes_of_the_clips(shape):
    network, clips = awake(shape).requires_grad_(True), some_clips()
    results = teacher_results(network, clips)
    torch.testing.assert_close(results, network(clips.blurry), rtol=0, atol=1e-4)
    assert not results.requires_grad


def test_a_teacher_takes_motion_that_was_measured(monkeypatch):
    """Steps recorded as CUDA graphs cannot wait for the host to measure it."""
    network, clips = awake(TWO_ALIGNED), some_clips()
    usual = teacher_results(network, clips)
    monkeypatch.setattr("unsmear.models.network.clip_motion", None)
    assert torch.equal(teacher_results(network, clips), usual)
    other = clips._replace(motion=clips.motion + 2)
    assert (teacher_results(network, other) - usual).abs().max() > 1e-3


def test_batches_measure_the_motion_that_a_teacher_looks_at(stills, teacher):
    files = find_training_files([stills])
    assert Batches(CONFIG, files, [], CPU, 1).draw(0).motion is None
    assert Batches(taught_by(teacher), files, [], CPU, 1).draw(0).motion is not None


class Witness(Team):
    """A team that notes what its processes must agree on."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "asked", [])

    def check_same(self, value, what, remedy):
        self.asked.append((value, what))


def test_all_processes_must_have_the_same_teacher(stills, tmp_path, teacher):
    config, team = taught_by(teacher), Witness()
    run(config, stills, tmp_path / "run", teacher=teacher, team=team)
    assert (identity_of(teacher), "the teacher") in team.asked


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"refine_share": 0.5}])
def test_a_teacher_in_half_precision_and_beside_restored_neighbours(
    stills, tmp_path, teacher, change, monkeypatch
):
    entry = Entry(name="finder", summary="", config=TWO_ALIGNED, window=3)
    monkeypatch.setitem(zoo.ZOO, "finder", entry)
    config = taught_by(teacher, model="finder", **change)
    network, _ = load_weights(run(config, stills, tmp_path / "run", teacher=teacher))
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_crops_must_fit_the_cells_of_the_trails_of_a_teacher(stills, tmp_path, teacher):
    config = taught_by(teacher, stages=(Stage(steps=1, clips=2, frames=3, crop=36),))
    with pytest.raises(ConfigError, match=r"crop is 36: must be .* for 'large'"):
        run(config, stills, tmp_path / "run", teacher=teacher)


def test_a_teacher_that_aligns_neighbours_sees_what_they_show():
    network, clips = awake(TWO_ALIGNED), some_clips()
    shown = clips._replace(seen=clips.sharp)
    wanted = network(clips.blurry, motion=clips.motion, seen=clips.sharp)
    torch.testing.assert_close(teacher_results(network, shown), wanted, rtol=0, atol=1e-4)
    assert (teacher_results(network, shown) - teacher_results(network, clips)).abs().max() > 1e-3


def test_gradients_are_those_of_both_losses(teacher):
    config, clips = taught_by(teacher), some_clips()
    state = TrainState.start(partial(DeblurNetwork, TWO_LEVELS), config, CPU)
    torch.nn.init.constant_(state.network.head.weight, 0.02)  # at zero, nothing else gets gradients
    naive = copy.deepcopy(state.network)
    restored = naive(clips.blurry)
    loss = charbonnier(restored, clips.sharp)
    loss = loss + 0.5 * charbonnier(restored, teacher.network(clips.blurry))
    loss.backward()
    learned = Stepper(config, state, CPU, Team(), teacher=teacher.network).step(clips)
    torch.testing.assert_close(learned[0], loss.detach(), rtol=1e-4, atol=1e-5)
    pairs = list(zip(state.network.parameters(), naive.parameters(), strict=True))
    for parameter, other in pairs:
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-5)
    reached = [p for p, _ in pairs if p.grad is not None and float(p.grad.norm()) > 1e-4]
    assert len(reached) > len(pairs) / 2


def test_a_run_with_a_teacher_goes_on_bit_for_bit_and_leaves_the_teacher_alone(
    stills, tmp_path, teacher
):
    config, before = taught_by(teacher), copy.deepcopy(teacher.network.state_dict())
    run(config, stills, tmp_path / "whole", teacher=teacher)
    run(config, stills, tmp_path / "parts", teacher=teacher, stop_after=2)
    run(config, stills, tmp_path / "parts", teacher=teacher)
    run(CONFIG, stills, tmp_path / "untaught")
    whole, parts, untaught = (
        load_file(tmp_path / name / STATE_FILE) for name in ("whole", "parts", "untaught")
    )
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert any(not torch.equal(whole[key], untaught[key]) for key in whole)
    after = teacher.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    _, origin = load_weights(tmp_path / "whole" / WEIGHTS_FILE)
    assert origin.config["teacher"] == identity_of(teacher)
    assert origin.config["teacher_weight"] == 0.5


def test_another_teacher_is_refused(stills, tmp_path, teacher):
    config = taught_by(teacher)
    run(config, stills, tmp_path / "run", teacher=teacher, stop_after=2)
    other = LoadedModel("large", awake(TWO_ALIGNED), 3, ORIGIN)
    with pytest.raises(ConfigError, match="what was given is 'large-"):
        run(config, stills, tmp_path / "run", teacher=other)
    with pytest.raises(ConfigError, match="what was given is ''"):
        run(config, stills, tmp_path / "run")
    learned = rf"\(teacher was {identity_of(teacher)}, now {identity_of(other)}\)"
    with pytest.raises(ModelError, match=learned):
        run(taught_by(other), stills, tmp_path / "run", teacher=other)
    with pytest.raises(ModelError, match=r"now none; teacher_weight was 0\.5"):
        run(CONFIG, stills, tmp_path / "run")


def test_the_command_line_learns_from_a_teacher(stills, tmp_path, aligned_file, capsys):
    out = tmp_path / "run"
    words = ["--data", str(stills), "--preset", "tiny", "--device", "cpu", "--out", str(out)]
    main(["train", *words, "--teacher", str(aligned_file), "--teacher-weight", "2"])
    main(["train", *words, "--teacher", str(aligned_file), "--teacher-weight", "2"])
    assert "of them already done" in " ".join(capsys.readouterr().out.split())
    _, origin = load_weights(out / WEIGHTS_FILE)
    assert origin.config["teacher"].startswith("aligned-")
    assert origin.config["teacher_weight"] == 2
    with pytest.raises(SystemExit) as left:
        main(["train", *words])
    assert left.value.code == 2
    assert "other settings (teacher was aligned-" in capsys.readouterr().err
