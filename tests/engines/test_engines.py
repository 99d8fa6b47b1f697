"""Every engine computes the same as the network, whole and in tiles, for any size."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.conftest import ALIGNED, SMALL, TWO_ALIGNED, TWO_LEVELS, awake, one_scene
from unsmear.engines import onnx, openvino
from unsmear.engines.base import Engine, TorchEngine, as_engine, threads_for
from unsmear.engines.compiled import CompiledEngine
from unsmear.engines.graphs import level_graphs
from unsmear.errors import ConfigError
from unsmear.models.config import NetworkConfig
from unsmear.restoration.guard import implausibility
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.stream import describe_scenes, restore_stream
from unsmear.restoration.tiles import Tiler, TileSize

# SMALL has everything but trails and aligned neighbours, ALIGNING has these too, DENSE has neither
# neighbours nor attention at the coarsest level. TWO_ALIGNED has one level less.
ALIGNING = dataclasses.replace(ALIGNED, trail_levels=(1,), aligned_levels=(1,))
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
    params=["openvino", "openvino-dense", "openvino-aligned", "onnxruntime-brief"],
)
def engine(request, told) -> Engine:
    torch.manual_seed(0)
    kind, _, shape = request.param.partition("-")
    network = awake({"": SMALL, "dense": DENSE, "aligned": ALIGNING, "brief": TWO_ALIGNED}[shape])
    workers = 2 if shape in ("aligned", "brief") else 1
    if kind == "onnxruntime":
        return onnx.OnnxEngine(network, onnx.convert_levels(network), workers)
    return openvino.OpenVinoEngine(network, openvino.convert_levels(network), workers=workers)


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


def test_compiled_graphs_have_the_networks_numbers():
    """Only dynamo's tracing; code generation by inductor would take half a minute."""
    network = awake(TWO_LEVELS)
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


def test_a_network_is_run_by_torch(network):
    assert isinstance(as_engine(network), TorchEngine)
    engine = TorchEngine(network)
    assert as_engine(engine) is engine


def test_half_precision_is_near_and_not_the_same():
    """In bfloat16 on a CPU, slowly if it has no instructions for it."""
    network = awake(NetworkConfig(
        widths=(6, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), attention_levels=(1,)
    ))  # fmt: skip
    clip = one_scene(2, 16, 24)
    full = torch.stack(list(restore_stream(network, clip, 3)))
    half = torch.stack(list(restore_stream(TorchEngine(network, half=True), clip, 3)))
    assert half.dtype == torch.float32
    change = (full - clip).abs().mean()
    assert 0 < (half - full).abs().mean() < 0.02 * change


def test_the_precision_of_callers_is_theirs(network):
    """Autocast of the caller does not affect the results, nor other threads."""
    clip, engine = one_scene(3, 16, 24), TorchEngine(network)
    wanted = list(restore_stream(engine, clip, 3, quality=QualityOptions(burst=1)))
    with torch.autocast("cpu", torch.bfloat16):
        found = list(restore_stream(engine, clip, 3, quality=QualityOptions(burst=1)))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    original = network.encode_level

    def beside(level, x):
        network.encode_level = original
        with ThreadPoolExecutor(1) as other:
            other.submit(engine.encode_level, level, x).result()
        return original(level, x)

    network.encode_level = beside
    with torch.autocast("cpu", torch.bfloat16):
        engine.encode_level(0, clip[:1])
        assert torch.is_autocast_enabled("cpu")


def test_the_default_dtype_of_callers_is_theirs(network):
    clip = one_scene(2, 16, 24)
    wanted = list(restore_stream(network, clip, 1, quality=QualityOptions(burst=2)))
    torch.set_default_dtype(torch.float64)
    try:
        found = list(restore_stream(network, clip, 1, quality=QualityOptions(burst=2)))
        assert not implausibility(clip[0], clip[0])
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


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
