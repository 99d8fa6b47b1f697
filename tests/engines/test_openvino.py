"""OpenVINO: its runtime, and graphs that it cannot read. For its numbers see `test_graphs.py`."""

from __future__ import annotations

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from unsmear.engines import openvino
from unsmear.engines.choice import open_engine
from unsmear.engines.eight_bit import EightBitOrigin, eight_bit_path, save_eight_bit
from unsmear.errors import ModelError
from unsmear.models.checkpoint import digest_of


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such stack")
def test_a_signal_finds_a_stack_when_engines_are_gone(network):
    """With a runtime for each engine, Ctrl-C ended the process by a segmentation fault."""

    class Stack(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    def use_engines() -> bool:
        graph = openvino.convert(nn.Conv2d(1, 1, 1), (torch.rand(1, 1, 8, 8),))
        first, second = (openvino.OpenVinoEngine(network, {"one": graph}) for _ in range(2))
        del first  # before the second, which was made later
        del second
        stack = Stack()
        assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
        if not stack.base:
            return True
        with Path("/proc/self/maps").open(encoding="ascii") as maps:
            spans = (line.split()[0].split("-") for line in maps)
            return any(int(begin, 16) <= stack.base < int(end, 16) for begin, end in spans)

    with ThreadPoolExecutor(1) as thread:  # whose stack nobody else has set
        assert thread.submit(use_engines).result()


def test_graphs_that_openvino_cannot_read_are_named(loaded):
    origin = EightBitOrigin(
        digest=digest_of(loaded.network), calibrated_on={}, scores={}, versions={}
    )
    graphs = openvino.write_graphs(openvino.convert_levels(loaded.network))
    broken = {name: graph._replace(structure=b"<net/>") for name, graph in graphs.items()}
    save_eight_bit(eight_bit_path(loaded.weights), broken, origin)
    with pytest.raises(ModelError, match="cannot read"):
        open_engine(loaded, "openvino-int8")
