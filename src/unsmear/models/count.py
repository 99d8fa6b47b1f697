"""Number of parameters and multiply-accumulates of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from unsmear.models.config import NetworkConfig
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import DeblurNetwork, join_frames

_WINDOW = 5  # frames whose descriptors are mixed


def count_parameters(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(config: NetworkConfig, height: int = 256, width: int = 256) -> int:
    """Multiply-accumulates per frame of a stream: encode, squeeze, mix and restore, once each.

    Args:
        config: shape of the network.
        height: of the frame, a multiple of `config.size_multiple`.
        width: of the frame, likewise.
    """

    def restore_a_frame() -> None:
        network = DeblurNetwork(config)
        encoded = network.encode(torch.empty(1, 3, height, width))
        contexts = network.mix(join_frames([network.squeeze(encoded)] * _WINDOW))
        around = Neighbourhood.alone(config, encoded.frame, encoded.local)
        network.restore(encoded, contexts, around)

    return macs_of(restore_a_frame)


def macs_of(work: Callable[[], object]) -> int:
    """Multiply-accumulates of convolutions and matrix products in `work`, which is run on PyTorch's
    meta device, without computing anything.
    """
    from torch.utils.flop_counter import FlopCounterMode

    counter, aten = FlopCounterMode(display=False), torch.ops.aten
    counter.flop_registry[aten.baddbmm_] = counter.flop_registry[aten.baddbmm]  # torch lacks it
    with torch.device("meta"), counter, _SamplingSkipped():
        work()
    return int(counter.get_total_flops()) // 2


class _SamplingSkipped(TorchFunctionMode):
    """Skips `grid_sample`: it counts as nothing, and takes long on the meta device."""

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is functional.grid_sample:
            image, grid = args
            return image.new_empty(*image.shape[:2], *grid.shape[1:-1])
        return func(*args, **(kwargs or {}))
