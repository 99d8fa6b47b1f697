"""Networks that are no rows of the zoo are trained, resumed and validated by the same loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.conftest import picture
from unsmear.data.pairs import find_pairs
from unsmear.data.sources import find_training_files
from unsmear.errors import ConfigError, ModelError
from unsmear.models.checkpoint import load_weights, read_provenance
from unsmear.train.batches import Batches
from unsmear.train.config import Stage, TrainConfig
from unsmear.train.loop import train
from unsmear.train.state import STATE_FILE, WEIGHTS_FILE
from unsmear.train.team import Team
from unsmear.train.trainable import OwnNetwork
from unsmear.video.images import write_image

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    model="recurrent",
    stages=(Stage(steps=4, clips=2, frames=2, crop=32),),
    learning_rate=1e-2,
    optimizer="muon",
)


class Recurrent(nn.Module):
    """Each frame is changed by what was seen before it, which is forgotten at times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, kernel_size=3, padding=1)
        self.cell = nn.Conv2d(8, 4, kernel_size=3, padding=1)
        self.also_cell = self.cell
        self.norm = nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.2))
        self.head = nn.Conv2d(4, 3, kernel_size=3, padding=1)

    def forward(self, clip: Tensor) -> Tensor:
        state, restored = torch.zeros_like(self.stem(clip[:, 0])), []
        for frame in clip.unbind(1):
            state = self.norm(self.cell(torch.cat((self.stem(frame), state), dim=1))).tanh()
            restored.append(frame + self.head(state))
        return torch.stack(restored, dim=1)


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture(64, 80, seed).transpose(2, 0, 1).copy()
    write_image(path, torch.from_numpy(image))


def test_a_module_of_any_kind_is_trained_as_a_row_of_the_zoo_is(tmp_path):
    for index in range(3):
        save(tmp_path / "stills" / f"{index}.png", index)
        for side in ("blur", "sharp"):
            save(tmp_path / "val" / "a" / side / f"{index}.png", index + len(side))
    val, seen, shared = find_pairs(tmp_path / "val"), [], []

    def restore(network, frames):
        clip = torch.stack([*frames])
        seen.append((len(clip), clip.shape[-1]))
        yield from network(clip[None])[0]

    class Watched(Team):
        def broadcast(self, tensors):
            shared.append([*tensors])

    batches = Batches(CONFIG, find_training_files([tmp_path / "stills"]), [], CPU, 1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    kinds = {whole: OwnNetwork(make=Recurrent, window=3)}
    kinds[parts] = OwnNetwork(make=Recurrent, restore=restore)
    for out, stop in ((whole, None), (parts, 3), (parts, None)):
        options = {"trainable": kinds[out], "stop_after": stop, "team": Watched()}
        train(CONFIG, batches, val, out, CPU, lambda _: None, **options)
    one, two = (load_file(out / STATE_FILE) for out in (whole, parts))
    assert {key for key in one if not torch.equal(one[key], two[key])} == set()
    assert any(key.startswith("optimizer.momentum_buffer.cell") for key in one)
    # The whole sequence, and what is shown of it, after step 3 and at the end.
    assert seen == [(3, 80), (3, 80)] * 2
    assert len(shared[-1]) == 3  # statistics that were measured with

    network = Recurrent()
    network.load_state_dict(load_file(whole / WEIGHTS_FILE))
    statistics = network.norm[0]
    assert statistics.num_batches_tracked == 4 * 2  # frames: the average has their statistics
    assert torch.equal(statistics.running_mean, one["network.norm.0.running_mean"])
    (score,) = read_provenance(whole / WEIGHTS_FILE).scores.values()
    assert read_provenance(parts / WEIGHTS_FILE).scores["a"] == score  # a clip of three frames
    with pytest.raises(ModelError, match="network of its own, 'Recurrent': read them with"):
        load_weights(whole / WEIGHTS_FILE)


class OfADevice(nn.Module):
    """Has no implementation on a CPU."""

    def forward(self, clip: Tensor) -> Tensor:
        assert clip.device.type == "meta"
        return clip


def test_a_network_is_tried_on_the_device_that_learns():
    OwnNetwork(make=OfADevice).build(CONFIG, torch.device("meta"))


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (Recurrent, {"model": "core"}, "model is 'core', a row of the zoo: give"),
        (Recurrent, {"refine_share": 1.0}, "refine_share is 1.0: is for networks of the zoo"),
        (
            lambda: nn.Flatten(1, 2),
            {},
            r"'recurrent' maps a clip of \(1, 2, 3, 32, 32\) to \(1, 6,",
        ),
        (
            lambda: nn.MaxPool3d(1, return_indices=True),
            {},
            "to a tuple: must be a tensor of",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_first(tmp_path, make, changes, message):
    config = TrainConfig(**(vars(CONFIG) | changes))
    with pytest.raises(ConfigError, match=message):
        train(config, None, [], tmp_path, CPU, print, trainable=OwnNetwork(make=make))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="window is 4: must be odd"):
        OwnNetwork(make=make, window=4)
