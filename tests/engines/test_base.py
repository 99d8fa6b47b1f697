"""Torch as an engine: its precision, and the memory layout of weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.conftest import SMALL, awake, one_scene
from unsmear.engines.base import TorchEngine, as_engine, threads_for, to_device
from unsmear.errors import ConfigError
from unsmear.models.config import NetworkConfig
from unsmear.models.network import DeblurNetwork
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.stream import restore_stream

CPU = torch.device("cpu")


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


def test_after_an_error_torch_has_its_threads_again(network):
    torch.set_num_threads(2)
    with pytest.raises(ConfigError), threads_for(TorchEngine(network, workers=2)):
        assert torch.get_num_threads() == 1
        raise ConfigError("no")
    assert torch.get_num_threads() == 2


def test_channels_lie_last_but_on_apples_gpus():
    network = to_device(awake(), CPU)
    assert network.stem.weight.is_contiguous(memory_format=torch.channels_last)
    assert TorchEngine(network).memory_format == torch.channels_last

    class Apples(DeblurNetwork):
        def to(self, device, memory_format):
            self.asked = (device.type, memory_format)
            return self

    assert to_device(Apples(SMALL), torch.device("mps")).asked == ("mps", torch.contiguous_format)
