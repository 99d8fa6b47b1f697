"""Compiled graphs compute the same as the network, and where they cannot, an error says so."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import ONE_LEVEL, awake, one_scene
from unsmear.engines.compiled import CompiledEngine
from unsmear.errors import ConfigError
from unsmear.restoration.stream import restore_stream


def test_compiled_graphs_have_the_networks_numbers():
    """Only dynamo's tracing; code generation by inductor would take half a minute."""
    network = awake(ONE_LEVEL)
    engine = CompiledEngine(network, backend="eager")
    for height, width in ((20, 30), (40, 24)):
        clip = one_scene(2, height, width)
        found = list(restore_stream(engine, clip, 3))
        torch.testing.assert_close(found, list(restore_stream(network, clip, 3)), rtol=0, atol=1e-5)


def test_a_compiler_that_is_missing_is_named():
    def fails(graph, example):
        raise OSError("no C++ compiler")

    with pytest.raises(ConfigError, match="another engine"):
        list(restore_stream(CompiledEngine(awake(), backend=fails), one_scene(1, 16, 16), 1))
