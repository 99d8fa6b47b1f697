"""Restoring on a simulated GPU: the computation there, and the results on the CPU.

It crosses `stream.py`, `scene.py`, `tiles.py`, `burst.py` and `engines/choice.py`.
"""

from __future__ import annotations

import pytest
import torch

from tests.conftest import SMALL, TWO_ALIGNED, awake, one_scene
from tests.elsewhere import Elsewhere, pretending, sent
from unsmear.engines import choice, trial
from unsmear.engines.base import TorchEngine
from unsmear.models.zoo import load_polish
from unsmear.restoration.quality import NETWORK_ALONE, QualityOptions
from unsmear.restoration.stream import describe_scenes, restore_stream
from unsmear.restoration.tiles import TileSize


@pytest.fixture(params=["cuda", "mps"])
def device(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1 << 40, 1 << 40))
    return torch.device(request.param, 0)


def test_two_devices_do_not_mix_and_numpy_sees_neither(device):
    here = torch.rand(3)
    with pretending(device):
        there = here.to(device)
        assert isinstance(there, Elsewhere)
        assert there.device == torch.arange(3, device=device).device == device
        assert torch.equal((there + there).cpu(), here + here)
        with pytest.raises(RuntimeError, match="two devices"):
            there + here
        with pytest.raises(TypeError, match="array"):
            there.numpy()


@pytest.mark.parametrize(
    ("config", "window", "quality", "tiling"),
    [
        (SMALL, 3, NETWORK_ALONE, "auto"),
        (
            TWO_ALIGNED,
            "all",
            QualityOptions(refine=1, burst=1, polish=True),
            TileSize(24, 32),
        ),
    ],
)
def test_frames_are_those_of_the_cpu(device, config, window, quality, tiling):
    network, clip = awake(config), list(one_scene(3, 27, 44))

    def restored(model, polish=None):
        scenes = ()
        if window == "all":
            scenes = describe_scenes(model, clip, tiling=tiling, ensemble=quality.ensemble)
        return list(restore_stream(model, clip, window, scenes=scenes, tiling=tiling,
                                   quality=quality, polish=polish))  # fmt: skip

    wanted = restored(network)
    with pretending(device):
        polish = load_polish() if device.type == "mps" else sent(load_polish(), device)
        found = restored(TorchEngine(sent(network, device)), polish)
        # On Apple's GPUs, the burst runs on the CPU.
        assert {frame.device.type for frame in found} == {"cpu" if device.type == "mps" else "cuda"}
        back = [frame.cpu() for frame in found]
    torch.testing.assert_close(back, wanted, rtol=0, atol=1e-4)


def test_auto_takes_a_gpu_that_computes_what_it_should(device, weights_file, monkeypatch):
    monkeypatch.setattr(choice, "pick_device", lambda _: device)
    for module in (choice, trial):
        monkeypatch.setattr(
            module, "to_device", lambda network, where: sent(network, where) if where == device
            else network,
        )  # fmt: skip
    with pretending(device):
        assert choice.open_model(str(weights_file), "auto").engine.device == device
