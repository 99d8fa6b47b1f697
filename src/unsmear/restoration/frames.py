"""Decoded frames in, restored frames out, as pictures and as the planes of their codec."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import torch
from torch import Tensor

from unsmear.clip import Frame, YuvPlanes
from unsmear.engines.base import Runnable
from unsmear.restoration.effort import NETWORK_ALONE, Effort
from unsmear.restoration.guard import is_plausible
from unsmear.restoration.overlap import ahead
from unsmear.restoration.store import FeatureStore
from unsmear.restoration.stream import Scene, Window, restore_stream
from unsmear.restoration.tiles import Tiling
from unsmear.video.color import add_change


@dataclass(frozen=True)
class Restored:
    """A frame before and after.

    Attributes:
        frame: as decoded.
        rgb: restored, (3, H, W) float32, 0..1, on the CPU.
        planes: restored, in the codec's own format, where the clip is a video.
        plausible: what the network made of it was; else it is the decoded frame.
    """

    frame: Frame
    rgb: Tensor
    planes: YuvPlanes | None
    plausible: bool = True


def restore_frames(
    model: Runnable,
    frames: Iterable[Frame],
    window: Window,
    *,
    scenes: Sequence[Scene] = (),
    store: FeatureStore | None = None,
    tiling: Tiling = "auto",
    effort: Effort = NETWORK_ALONE,
    strength: float = 1.0,
    first: int = 0,
    lead: int = 0,
    overlap: bool = True,
) -> Generator[Restored, None, None]:
    """Restore decoded frames one after the other; see `restore_stream`.

    Args:
        strength: share of the change that is applied.
        overlap: three threads share the work: one decodes, one sees to the network, and the
            caller's does the rest, each a frame ahead of the next. It takes the memory of some
            frames.

    Yields:
        Restored frames. One that is not plausible is replaced by the decoded one.
    """
    pending: deque[Frame] = deque()

    def pictures(decoded: Iterable[Frame]) -> Iterator[Tensor]:
        for number, frame in enumerate(decoded):
            if number >= lead:
                pending.append(frame)
            yield frame.rgb

    with ExitStack() as stack:
        # Whatever happens, the network has ended before the decoder is ended, and that before the
        # caller closes the file: `pictures`, suspended, would outlive an error with its traceback.
        decoded = stack.enter_context(closing(ahead(frames))) if overlap else frames
        stream = restore_stream(
            model, pictures(decoded), window, scenes=scenes, store=store, tiling=tiling,
            effort=effort, first=first, lead=lead,
        )  # fmt: skip
        for out in stack.enter_context(closing(ahead(stream) if overlap else stream)):
            frame, rgb = pending.popleft(), out.cpu()
            if not is_plausible(frame.rgb, rgb):
                yield Restored(frame, frame.rgb, frame.planes, plausible=False)
                continue
            if strength != 1:
                rgb = torch.lerp(frame.rgb, rgb, strength)
            planes = None if frame.planes is None else add_change(frame.planes, rgb - frame.rgb)
            yield Restored(frame, rgb, planes)
            del frame, rgb, planes, out  # or they would stay while the next ones are made
