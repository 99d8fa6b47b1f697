"""Which device `auto` chooses, and the errors where one is missing."""

from __future__ import annotations

import os

import pytest
import torch

from unsmear.device import has_bfloat16, pick_device, usable_cores
from unsmear.errors import ConfigError


def test_only_cores_that_may_be_used_count(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == 64


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx2": True, "amx_bf16": False}, False),
        ({}, False),
    ],
)
def test_bfloat16_is_what_torch_tells(monkeypatch, told, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert has_bfloat16() == wanted


@pytest.fixture
def machine(monkeypatch):
    def has(*, cuda, mps):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


@pytest.mark.parametrize(
    ("cuda", "mps", "restores", "trains"),
    [
        (True, False, "cuda", "cuda"),
        (False, True, "mps", "cpu"),
        (False, False, "cpu", "cpu"),
    ],
)
def test_auto_takes_what_is_there(machine, cuda, mps, restores, trains):
    machine(cuda=cuda, mps=mps)
    assert pick_device("auto").type == restores
    assert pick_device("auto", trains=True).type == trains


def test_apples_gpu_trains_where_it_is_named(machine):
    machine(cuda=False, mps=True)
    assert pick_device("mps", trains=True).type == "mps"


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_not_there_is_refused(machine, name):
    machine(cuda=name == "cuda:1", mps=False)
    with pytest.raises(ConfigError, match=f"'{name}' is not available on this machine"):
        pick_device(name)


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:x", "", None])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(ConfigError, match=f"unknown device '{name}'"):
        pick_device(name)
