"""Restore a stream of frames: each is encoded once, its descriptors are kept as long as a
window may ask for them, and memory does not depend on the length of the stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unsmear.errors import ConfigError
from unsmear.models.network import (
    DeblurNetwork,
    Descriptors,
    Encoded,
    join_frames,
    pad_to_multiple,
)


def check_window(window: int) -> int:
    """Return a window length that can be centred on a frame.

    Raises:
        ConfigError: it is even or below 1.
    """
    if window < 1 or window % 2 == 0:
        raise ConfigError(f"window is {window}: must be an odd number of frames, such as 1, 3 or 5")
    return window


@dataclass
class _Held:
    """A frame on its way: all of it until it is restored, then only what neighbours need."""

    descriptors: Descriptors
    local: Tensor
    encoded: Encoded | None
    size: tuple[int, int]


@torch.no_grad()
def restore_stream(
    network: DeblurNetwork, frames: Iterable[Tensor], window: int
) -> Iterator[Tensor]:
    """Restore frames one after the other.

    Args:
        network: in evaluation mode, on the device of the work.
        frames: each (3, H, W), float, 0..1, all of one size, any device.
        window: frames that contribute to each one, centred on it, odd; at the ends of the
            stream it holds those that exist.

    Yields:
        Restored frames, (3, H, W), float32, 0..1, on the network's device, as many as came in;
        the first after window // 2 more have come in (at least `network.config.neighbours`).

    Raises:
        ConfigError: window is even or below 1.
        ValueError: the frames differ in size.
    """
    reach = check_window(window) // 2
    side = network.config.neighbours
    ahead = max(reach, side)
    device = next(network.parameters()).device
    held: deque[_Held] = deque(maxlen=2 * ahead + 1)  # ends at the newest frame
    waiting = 0  # frames taken in but not yet restored

    def restored() -> Tensor:
        nonlocal waiting
        here = len(held) - waiting
        waiting -= 1
        current = held[here]
        assert current.encoded is not None
        span = range(max(here - reach, 0), min(here + reach + 1, len(held)))
        last = len(held) - 1
        neighbours = [
            held[min(max(here + offset, 0), last)].local
            for offset in range(-side, side + 1)
            if offset
        ]
        descriptors = join_frames([held[index].descriptors for index in span])
        out = network.restore(current.encoded, descriptors, neighbours)
        current.encoded = None
        height, width = current.size
        return out[0, :, :height, :width].float().clamp(0, 1)

    for frame in frames:
        size = (frame.shape[-2], frame.shape[-1])
        if held and size != held[-1].size:
            raise ValueError(f"frame of {size} in a stream of {held[-1].size}: sizes must agree")
        batch = frame.to(device, torch.float32).unsqueeze(0)
        batch = pad_to_multiple(batch, network.config.size_multiple)
        encoded = network.encode(batch.contiguous(memory_format=torch.channels_last))
        held.append(_Held(network.squeeze(encoded), encoded.local, encoded, size))
        waiting += 1
        if waiting > ahead:
            yield restored()
    while waiting:
        yield restored()
