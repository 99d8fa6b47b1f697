"""The state of a run: what it starts from, and resumes from bit for bit."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import TWO_LEVELS, TWO_TRAILS, picture
from tests.train.conftest import CONFIG, CPU, loaded, run, save
from unsmear.data.pairs import find_pairs
from unsmear.errors import ModelError
from unsmear.models import zoo
from unsmear.models.checkpoint import Provenance, load_weights
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import LoadedModel
from unsmear.train.config import Stage, TrainConfig
from unsmear.train.state import STATE_FILE, WEIGHTS_FILE, TrainState

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        ("tiny", "adam"),
        ("tiny", "muon"),
        ("tracer", "muon"),
    ],
)
def test_an_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(
    data, tmp_path, whole, model, optimizer
):
    config = dataclasses.replace(CONFIG, model=model, optimizer=optimizer)
    one = load_file(whole(config, data) / STATE_FILE)
    assert any(key.startswith("optimizer.momentum_buffer.") for key in one) == (optimizer == "muon")
    for stop in (1, 4, 7, None):  # in both stages, at a checkpoint and between two
        run(config, data, tmp_path / "run", stop_after=stop)
    two = load_file(tmp_path / "run" / STATE_FILE)
    assert one.keys() == two.keys()
    assert {key for key in one if not torch.equal(one[key], two[key])} == set()


def test_training_goes_on_from_given_weights_and_remembers_them(data, tmp_path, whole):
    first = loaded(whole(CONFIG, data) / WEIGHTS_FILE)
    slow = dataclasses.replace(CONFIG, learning_rate=1e-12)
    run(slow, data, tmp_path / "second", initial=first)
    second = loaded(tmp_path / "second" / "weights.safetensors")
    for one, two in zip(first.network.parameters(), second.network.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    assert second.provenance.parent["config"]["learning_rate"] == CONFIG.learning_rate
    assert second.provenance.total_steps == 18


def test_weights_of_another_network_are_refused(data, tmp_path):
    other = DeblurNetwork(dataclasses.replace(TWO_LEVELS, spatial_maps=5))
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


def test_weights_without_trails_are_a_start_for_a_network_with_them(
    data, tmp_path, whole, monkeypatch
):
    plain = loaded(whole(CONFIG, data) / WEIGHTS_FILE)
    row = zoo.ZOO[CONFIG.model]
    monkeypatch.setitem(zoo.ZOO, CONFIG.model, dataclasses.replace(row, config=TWO_TRAILS))
    slow = dataclasses.replace(CONFIG, learning_rate=1e-12)
    run(slow, data, tmp_path / "trails", initial=plain)
    following = loaded(tmp_path / "trails" / "weights.safetensors")
    assert following.network.config == TWO_TRAILS
    clip = torch.rand(1, 3, 3, 32, 40)
    torch.testing.assert_close(following.network(clip), plain.network(clip), rtol=0, atol=1e-5)
    monkeypatch.setitem(zoo.ZOO, CONFIG.model, row)
    with pytest.raises(ModelError, match="another network"):  # it must be pruned first
        run(CONFIG, data, tmp_path / "back", initial=following)


def test_a_resumed_run_knows_what_it_started_from(data, tmp_path, whole):
    run(dataclasses.replace(CONFIG, seed=1), data, tmp_path / "other", stop_after=1)
    first, other = (loaded(out / WEIGHTS_FILE) for out in (whole(CONFIG, data), tmp_path / "other"))
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


def test_weights_that_were_measured_later_are_what_a_run_started_from(data, tmp_path, whole):
    """`retrain.py` again, now with --val: the first run only validates, the second resumes."""
    shutil.copytree(whole(CONFIG, data), tmp_path / "first")
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


def test_a_broken_state_file_is_named(data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / STATE_FILE).write_bytes(b"garbage")
    with pytest.raises(ModelError, match="cannot resume"):
        run(CONFIG, data, tmp_path / "run")
