"""A run of a small network can start from the most important part of a large one."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from tests.conftest import SMALL, TRAILS, awake
from unsmear.cli import main
from unsmear.data.sources import find_training_files
from unsmear.models import zoo
from unsmear.models.checkpoint import Provenance, load_weights, save_weights
from unsmear.models.zoo import Entry, LoadedModel
from unsmear.train import pruning
from unsmear.train.batches import Batches
from unsmear.train.config import PRESETS, Stage, TrainConfig
from unsmear.train.pruning import needs_pruning, pruned
from unsmear.train.state import WEIGHTS_FILE

CPU = torch.device("cpu")
CONFIG = TrainConfig(model="tiny", stages=(Stage(steps=6, clips=2, frames=2, crop=32),))
ORIGIN = Provenance(model="large", steps=7, seed=0, hours=0, device="cpu", version="test")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(zoo.ZOO, "tiny", Entry(name="tiny", summary="", config=SMALL, window=3))
    monkeypatch.setitem(PRESETS, "tiny", CONFIG)


def test_command_line_trains_a_small_network_from_a_part_of_a_large_one(
    data, tmp_path, monkeypatch
):
    wide = dataclasses.replace(TRAILS, widths=(10, 14, 20), encoder_blocks=(2, 1, 2))
    network, path = awake(wide), tmp_path / "large.safetensors"
    save_weights(path, wide, network.state_dict(), ORIGIN)
    taken = []
    original = pruning.prune_from

    def noted(small, large, importance):
        original(small, large, importance)
        taken.append(copy.deepcopy(small))

    monkeypatch.setattr(pruning, "prune_from", noted)
    command = ["train", "--preset", "tiny", "--data", str(data), "--weights", str(path)]
    command += ["-o", str(tmp_path / "run"), "--device", "cpu", "--learning-rate", "1e-12"]
    main([*command, "--stop-after", "4"])
    first, _ = load_weights(tmp_path / "run" / WEIGHTS_FILE)
    assert first.config == SMALL
    for name, value in taken[0].named_parameters():
        there = dict(first.named_parameters())[name]
        torch.testing.assert_close(there, value, rtol=1e-3, atol=1e-4)  # half precision on disk
    main(command)  # resumes without measuring importance again
    assert len(taken) == 1
    _, provenance = load_weights(tmp_path / "run" / WEIGHTS_FILE)
    assert provenance.total_steps == CONFIG.steps + 7


def test_weights_of_a_network_with_more_here_and_less_there_are_a_start_too(data, tmp_path):
    """They are pruned to what both networks have, and grown from there."""
    other = dataclasses.replace(TRAILS, widths=(10, 8, 14), attention_levels=(1,))
    path = tmp_path / "other.safetensors"
    save_weights(path, other, awake(other).state_dict(), ORIGIN)
    command = ["train", "--preset", "tiny", "--data", str(data), "--weights", str(path)]
    main([*command, "-o", str(tmp_path / "run"), "--device", "cpu"])
    network, provenance = load_weights(tmp_path / "run" / WEIGHTS_FILE)
    assert network.config == SMALL
    assert provenance.total_steps == CONFIG.steps + 7


def test_what_matters_is_measured_in_half_precision_but_synthesised_in_full(data):
    """Under autocast, the synthesis of compressed clips would fail on mixed precisions."""
    synthesis = dataclasses.replace(CONFIG.synthesis, compressed_share=1.0, coder_share=0.0)
    config = dataclasses.replace(CONFIG, precision="bfloat16", synthesis=synthesis)
    batches = Batches(config, find_training_files([data]), [], CPU, 1)
    wide = dataclasses.replace(SMALL, widths=(10, 14, 20))
    network = pruned(LoadedModel("large", awake(wide), 3, ORIGIN), config, batches, CPU).network
    assert network.config == SMALL
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def test_the_same_batches_give_the_same_part(data):
    """Each process of a team measures on its own; all must get the same result."""
    batches = Batches(CONFIG, find_training_files([data]), [], CPU, 1)
    wide = dataclasses.replace(SMALL, widths=(10, 14, 20))
    large = LoadedModel("large", awake(wide), 3, ORIGIN)
    assert needs_pruning(large, CONFIG)
    one, two = (pruned(large, CONFIG, batches, CPU).network for _ in range(2))
    drawn = []

    class Noted:
        def draw(self, step, shards=None):
            drawn.append(step)
            return batches.reseeded(5).draw(step, shards)

    other = pruned(large, CONFIG, Noted(), CPU).network
    assert drawn == list(range(16))
    assert all(map(torch.equal, one.parameters(), two.parameters()))
    assert not all(map(torch.equal, one.parameters(), other.parameters()))
    assert not any(parameter.requires_grad for parameter in large.network.parameters())
