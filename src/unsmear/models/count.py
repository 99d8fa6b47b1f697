"""Number of parameters and multiply-accumulates of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from unsmear.models.config import NetworkConfig
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import DeblurNetwork, join_frames


def count_parameters(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(config: NetworkConfig, height: int = 256, width: int = 256, window: int = 5) -> int:
    """Multiply-accumulates per frame of a stream: encode, squeeze, mix and restore, once each.

    Args:
        config: shape of the network.
        height: of the frame, a multiple of `config.size_multiple`.
        width: of the frame, likewise.
        window: frames whose descriptors are mixed.
    """

    def restore_a_frame() -> None:
        network = DeblurNetwork(config)
        encoded = network.encode(torch.empty(1, 3, height, width))
        contexts = network.mix(join_frames([network.squeeze(encoded)] * window))
        around = Neighbourhood.alone(config, encoded.frame, encoded.local)
        network.restore(encoded, contexts, around)

    return macs_of(restore_a_frame)


def macs_of(work: Callable[[], object]) -> int:
    """Multiply-accumulates of convolutions and matrix products in `work`, which is run on PyTorch's
    meta device, without computing anything.
    """
    from torch.utils.flop_counter import FlopCounterMode

    in_place = {torch.ops.aten.baddbmm_: _flops_of_baddbmm}  # torch counts only `baddbmm`
    counter = FlopCounterMode(display=False, custom_mapping=in_place)
    with torch.device("meta"), counter:
        work()
    return int(counter.get_total_flops()) // 2


def _flops_of_baddbmm(
    _total: Sequence[int], one: Sequence[int], other: Sequence[int], **_: object
) -> int:
    """FLOPs of a batched matrix product, from the shapes (B, I, K) and (B, K, J)."""
    batch, rows, shared = one
    return 2 * batch * rows * shared * other[2]
