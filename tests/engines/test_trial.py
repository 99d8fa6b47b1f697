"""A device whose results differ from the CPU's is detected."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.conftest import ALIGNED, SMALL, awake
from unsmear.engines import trial
from unsmear.engines.trial import fault_on
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

    def rounded(_, given):
        return tuple(x.bfloat16().float() for x in given)

    def coarse(network, device):
        for module in network.modules():  # autocast would be slow on CPUs without bfloat16
            if isinstance(module, torch.nn.Conv2d):
                module.weight.copy_(module.weight.bfloat16())
                module.register_forward_pre_hook(rounded)
        return network

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
