"""Decoded frames in, restored frames out, as RGB and as YUV planes in the codec's format."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import torch
from torch import Tensor

from unsmear.clip import Frame, YuvPlanes
from unsmear.engines.base import Runnable
from unsmear.restoration.guard import implausibility
from unsmear.restoration.overlap import prefetch
from unsmear.restoration.quality import NETWORK_ALONE, QualityOptions
from unsmear.restoration.store import FeatureStore
from unsmear.restoration.stream import Scene, Window, restore_stream
from unsmear.restoration.tiles import Tiling
from unsmear.video.color import add_change


@dataclass(frozen=True)
class Restored:
    """A frame before and after restoration.

    Attributes:
        frame: as decoded.
        rgb: restored, (3, H, W) float32, 0..1, on the CPU.
        planes: restored, in the codec's format; None if the clip is a folder of images.
        plausible: whether the network's result was; if not, `rgb` and `planes` are the decoded
            ones.
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
    quality: QualityOptions = NETWORK_ALONE,
    strength: float = 1.0,
    first: int = 0,
    lead: int = 0,
    overlap: bool = True,
) -> Generator[Restored, None, None]:
    """Restore decoded frames in order; see `restore_stream` for the other arguments.

    Args:
        strength: share of the change that is applied, 0 to 1.
        overlap: pipeline the work over three threads: one decodes, one runs the network, and the
            caller's does the rest, each a frame ahead of the next. Needs memory for a few more
            frames.

    Yields:
        Restored frames. An implausible result is replaced by the decoded frame.
    """
    pending: deque[Frame] = deque()

    def pictures(decoded: Iterable[Frame]) -> Iterator[Tensor]:
        for number, frame in enumerate(decoded):
            if number >= lead:
                pending.append(frame)
            yield frame.rgb

    with ExitStack() as stack:
        # Always stop the network first, then the decoder, then let the caller close the file. After
        # an error, the traceback would otherwise keep `pictures` alive and suspended.
        decoded = stack.enter_context(closing(prefetch(frames))) if overlap else frames
        stream = restore_stream(
            model, pictures(decoded), window, scenes=scenes, store=store, tiling=tiling,
            quality=quality, first=first, lead=lead,
        )  # fmt: skip
        for out in stack.enter_context(closing(prefetch(stream) if overlap else stream)):
            frame, rgb = pending.popleft(), out.cpu()
            if implausibility(frame.rgb, rgb):
                yield Restored(frame, frame.rgb, frame.planes, plausible=False)
                continue
            if strength != 1:
                rgb = torch.lerp(frame.rgb, rgb, strength)
            planes = None if frame.planes is None else add_change(frame.planes, rgb - frame.rgb)
            yield Restored(frame, rgb, planes)
            del frame, rgb, planes, out  # or they would stay alive while the next ones are computed
