from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.conftest import SMALL
from unsmear.errors import ModelError
from unsmear.models import zoo
from unsmear.models.checkpoint import Provenance, save_weights
from unsmear.models.count import count_macs
from unsmear.models.network import DeblurNetwork


@pytest.mark.parametrize("name", list(zoo.ZOO))
def test_every_row_builds_and_runs(name):
    entry = zoo.find_entry(name)
    assert entry.name == name
    assert entry.window % 2 == 1
    clip = torch.rand(1, 2, 3, 40, 24)
    with torch.no_grad():
        assert DeblurNetwork(entry.config)(clip).shape == clip.shape


def test_lite_stays_light_and_paper_stays_faithful():
    assert 1.5e9 < count_macs(zoo.ZOO["lite"].config) < 2.5e9
    paper = zoo.ZOO["paper"].config
    assert paper.block == "dense"
    assert paper.neighbours == 0


def test_pro_keeps_within_its_budget(tmp_path):
    """At most 50 GMAC at 256x256, and weights of less than 16 MB."""
    config = zoo.ZOO["pro"].config
    assert count_macs(config) < 50e9
    origin = Provenance(model="pro", steps=0, seed=0, hours=0, device="cpu", version="test")
    state = {key: torch.zeros_like(v) for key, v in DeblurNetwork(config).state_dict().items()}
    save_weights(tmp_path / "pro.safetensors", config, state, origin)
    assert (tmp_path / "pro.safetensors").stat().st_size < 16_000_000


def test_released_weights_load_and_change_a_picture():
    released = [entry for entry in zoo.ZOO.values() if entry.weights.is_file()]
    assert "lite" in [entry.name for entry in released]
    for entry in released:
        assert entry.weights.stat().st_size < 16 << 20
        model = zoo.load_model(entry.name)
        assert model.network.config == entry.config
        assert model.provenance.model == entry.name
        assert model.provenance.steps > 0
        clip = torch.rand(1, 2, 3, 32, 32)
        assert not torch.allclose(model.network(clip), clip, atol=1e-3)


def test_unknown_names_list_what_there_is():
    with pytest.raises(ModelError, match=r"unknown model 'nope'.*lite.*paper"):
        zoo.load_model("nope")


def test_a_row_without_weights_says_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setattr(zoo, "WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(ModelError, match="unsmear train --preset lite"):
        zoo.load_model("lite")


def test_a_weights_file_loads_by_path(weights_file):
    model = zoo.load_model(str(weights_file))
    assert model.name == "small"
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


@pytest.mark.parametrize("name", ["lite", "paper"])
def test_a_row_has_its_window_by_path_too(name):
    path = zoo.find_entry(name).weights
    assert zoo.load_model(str(path)).window == zoo.load_model(name).window


def test_weights_of_no_row_have_a_window_of_five(tmp_path, weights_file, monkeypatch):
    assert zoo.load_model(str(weights_file)).window == 5
    odd = zoo.Entry(name="small", summary="", config=SMALL, window=9)
    origin = Provenance(model="small", steps=0, seed=0, hours=0, device="cpu", version="test")
    path = tmp_path / "w.safetensors"
    save_weights(path, SMALL, DeblurNetwork(SMALL).state_dict(), origin)
    monkeypatch.setitem(zoo.ZOO, "small", odd)
    assert zoo.load_model(str(path)).window == 9
    other = dataclasses.replace(odd, config=dataclasses.replace(SMALL, spatial_maps=5))
    monkeypatch.setitem(zoo.ZOO, "small", other)
    assert zoo.load_model(str(path)).window == 5


def test_weights_of_another_shape_do_not_pass_for_a_row(monkeypatch, weights_file):
    monkeypatch.setattr(zoo, "WEIGHTS_FOLDER", weights_file.parent)
    weights_file.rename(weights_file.parent / "lite.safetensors")
    with pytest.raises(ModelError, match="another network"):
        zoo.load_model("lite")


def test_random_weights_are_those_of_their_seed():
    one, again, other = (zoo.random_model("lite", seed).network.stem.weight for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_rows_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        zoo.ZOO["lite"].window = 7
