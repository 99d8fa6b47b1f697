"""Engines that run graphs compute the same as the network, whole and in tiles, for any size.

OpenVINO and ONNX Runtime alike: `graphs.py`, `openvino.py`, `onnx.py`, and what `base.py` asks of
every engine. Their graphs are converted once, as that takes seconds.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SMALL, TWO_ALIGNED, awake, one_scene
from unsmear.engines import onnx, openvino
from unsmear.engines.base import Engine, TorchEngine, threads_for
from unsmear.engines.graphs import level_graphs
from unsmear.models import trails
from unsmear.models.config import NetworkConfig
from unsmear.restoration.stream import describe_scenes, restore_stream
from unsmear.restoration.tiles import Tiler, TileSize

# SMALL has everything but trails and aligned neighbours, TWO_ALIGNED has these too and one level
# less, DENSE has neither neighbours nor attention at the coarsest level.
DENSE = dataclasses.replace(
    SMALL, neighbours=0, stem=1, block="dense", dense_layers=2, attention_levels=(1,)
)


@pytest.fixture(scope="module")
def told() -> Iterator[list[logging.LogRecord]]:
    """Warnings logged while the module's engines are converted."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    logging.getLogger().addHandler(handler)
    yield records
    logging.getLogger().removeHandler(handler)


@pytest.fixture(
    scope="module",
    # Conversion to ONNX is slow, so it is tested only with one network, of all kinds of layers.
    params=["openvino", "openvino-dense", "openvino-aligned", "onnxruntime-aligned"],
)
def engine(request, told) -> Iterator[Engine]:
    torch.manual_seed(0)
    kind, _, shape = request.param.partition("-")
    with pytest.MonkeyPatch.context() as patched:
        # Two places along a trail: each adds the same layers.
        patched.setattr(trails, "PLACES", (trails.PLACES[0], trails.PLACES[-1]))
        network = awake({"": SMALL, "dense": DENSE, "aligned": TWO_ALIGNED}[shape])
        workers = 2 if shape == "aligned" else 1
        if kind == "onnxruntime":
            yield onnx.OnnxEngine(network, onnx.convert_levels(network), workers)
        else:
            models = openvino.convert_levels(network)
            yield openvino.OpenVinoEngine(network, models, workers=workers)


@given(
    frames=st.integers(1, 4),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    window=st.sampled_from([1, 3, 5]),
)
@settings(max_examples=10)
def test_a_stream_has_the_networks_numbers(engine, frames, height, width, window):
    clip = one_scene(frames, height, width)
    wanted = list(restore_stream(engine.network, clip, window))
    found = list(restore_stream(engine, clip, window))
    assert len(found) == frames
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_tiles_and_the_whole_scene_too(engine):
    clip = one_scene(3, 60, 70)
    wanted_scenes = describe_scenes(engine.network, clip)
    scenes = describe_scenes(engine, clip, tiling=TileSize(16, 24))
    torch.testing.assert_close(scenes[0].contexts, wanted_scenes[0].contexts, rtol=0, atol=1e-4)
    wanted = list(restore_stream(engine.network, clip, "all", scenes=wanted_scenes))
    found = list(restore_stream(engine, clip, "all", scenes=scenes, tiling=TileSize(16, 24)))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_what_an_engine_gave_stays(engine):
    """Engines may reuse their memory: the next call must not change earlier results."""
    tiler = Tiler(engine, "off")
    first = tiler.encode(one_scene(1, 32, 32))
    kept = [x.clone() for x in first.features]
    tiler.encode(one_scene(1, 32, 32))
    torch.testing.assert_close(list(first.features), kept, rtol=0, atol=0)


def test_identities_tell_engines_and_versions_apart(engine):
    other = TorchEngine(engine.network)
    assert engine.identity != other.identity
    assert engine.name in engine.identity
    assert torch.__version__ in other.identity


def test_cores_are_left_to_engines_with_threads_of_their_own(engine):
    before = torch.get_num_threads()
    with threads_for(engine):
        assert torch.get_num_threads() == 1
    for workers in (1, 2):
        shared = TorchEngine(engine.network, workers=workers)
        with threads_for(shared):
            assert torch.get_num_threads() == shared.threads == max(before // workers, 1)
    assert torch.get_num_threads() == before


def test_converting_tells_users_nothing_of_what_it_passes_through(engine, told):
    """Trails split a weight, about which onnxscript would log a message."""
    assert told == []


def test_a_level_that_takes_nothing_but_its_features_becomes_onnx():
    config = NetworkConfig(
        widths=(4,), encoder_blocks=(0,), decoder_blocks=(0,), attention_levels=()
    )
    (graph,) = [one for one in level_graphs(awake(config)) if one.name == "decode_0"]
    session = onnx.open_session(onnx.convert(graph.module, graph.example), 1)
    features = torch.rand(1, 4, 9, 7)
    (entrance,) = session.get_inputs()
    (found,) = session.run(None, {entrance.name: features.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), graph.module(features))
