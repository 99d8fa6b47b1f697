"""A device whose results differ from the CPU's is detected; what happens then."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.conftest import ALIGNED, SMALL, awake
from unsmear.engines import choice, trial
from unsmear.engines.base import TorchEngine, to_device
from unsmear.engines.choice import open_model
from unsmear.engines.trial import fault_on
from unsmear.errors import ConfigError
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import ZOO, load_model

CPU = torch.device("cpu")
NOWHERE = torch.device("meta")  # its tensors have no values


def on_a_device(change):
    """`to_device` for a simulated device: the CPU computes, with changed weights."""

    def moved(network, device):
        network = copy.deepcopy(network)
        change(network)
        return network

    return moved


@pytest.mark.parametrize("config", [SMALL, ALIGNED], ids=["small", "aligned"])
def test_what_computes_alike_has_no_fault(config):
    network = awake(config)
    before = copy.deepcopy(network.state_dict())
    assert fault_on(CPU, network) is None
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_network_that_changes_nothing_has_no_fault():
    assert fault_on(CPU, DeblurNetwork(SMALL).eval()) is None


@pytest.mark.parametrize("row", ["lite", "core", "paper"])
def test_coarser_products_are_no_fault_and_half_an_upsampling_is_one(row, monkeypatch):
    network = load_model(row).network
    assert row in ZOO

    def coarse(network, device):
        def run(*given, **named):
            with torch.autocast("cpu", torch.bfloat16):
                return network(*given, **named).float()

        return run

    monkeypatch.setattr(trial, "to_device", coarse)
    assert fault_on(CPU, network) is None

    def halve(network):
        for parameter in network.ups[0].parameters():
            parameter.mul_(0.5)

    monkeypatch.setattr(trial, "to_device", on_a_device(halve))
    assert "other results than the CPU" in fault_on(CPU, network)


def test_numbers_that_are_none_are_a_fault(monkeypatch):
    def spoil(network):
        network.head.weight.fill_(float("nan"))

    monkeypatch.setattr(trial, "to_device", on_a_device(spoil))
    assert "other results than the CPU" in fault_on(CPU, awake())


def test_what_cannot_run_says_why_in_one_line():
    fault = fault_on(NOWHERE, awake())
    assert fault.startswith("cannot run the network (")
    assert "\n" not in fault


def test_an_error_without_words_is_told_by_its_kind(monkeypatch):
    def fail(network, device):
        raise RuntimeError

    monkeypatch.setattr(trial, "to_device", fail)
    assert fault_on(CPU, awake()) == "cannot run the network (RuntimeError)"


def test_auto_goes_on_on_the_cpu_and_says_so(weights_file, monkeypatch, caplog):
    monkeypatch.setattr(choice, "pick_device", lambda name: NOWHERE)
    opened = open_model(str(weights_file), "auto")
    assert opened.engine.device == CPU
    assert "using the CPU, because device 'meta' cannot run" in caplog.text


def test_a_device_that_was_asked_for_is_refused(weights_file, monkeypatch):
    monkeypatch.setattr(choice, "pick_device", lambda name: NOWHERE)
    with pytest.raises(ConfigError, match=r"device 'cuda' cannot run .* use auto or cpu"):
        open_model(str(weights_file), "cuda")


def test_channels_lie_last_but_on_apples_gpus():
    network = to_device(awake(), CPU)
    assert network.stem.weight.is_contiguous(memory_format=torch.channels_last)
    assert TorchEngine(network).memory_format == torch.channels_last

    class Apples(DeblurNetwork):
        def to(self, device, memory_format):
            self.asked = (device.type, memory_format)
            return self

    assert to_device(Apples(SMALL), torch.device("mps")).asked == ("mps", torch.contiguous_format)
