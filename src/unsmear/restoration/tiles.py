"""Run a network on frames of any size in bounded memory, with the same result as on whole frames.

Tiles cut each level of the network, not the frame: the input of a level is whole, its output is
computed tile by tile, with the halo that this one level needs. So halos stay narrow, no tile is
computed twice, and the attention, whose softmax spans the frame, sees all of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from unsmear.engines.base import Engine, Runnable, as_engine
from unsmear.errors import ConfigError, DeviceMemoryError, first_line
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import Contexts, DeblurNetwork, Encoded, pad_to_multiple
from unsmear.restoration.integers import as_integer
from unsmear.restoration.overlap import ALONE, Workers

SMALLEST_TILE = 64  # pixels; below it, most of the work is spent on the halo
_CPU_TILE = 640
_SMALL = 1280 * 768  # pixels; up to this size glibc keeps freed layers of a whole frame
_LARGE = 2560 * 1440  # pixels; above it, tiles are smaller: some engines keep buffers per graph
_GPU_TILE = 1024
_TILE_AFTER_OUT_OF_MEMORY = 512


class TileSize(NamedTuple):
    """In pixels of the frame, at the finest level. A coarser level at half the resolution uses
    tiles of twice the size.
    """

    height: int
    width: int


Tiling = TileSize | Literal["auto", "off"]


def parse_tiling(text: str) -> Tiling:
    """Parse a tile size as users type it: `auto`, `off` or `WxH` in pixels.

    Raises:
        ConfigError: it has another form, or a side is below `SMALLEST_TILE`.
    """
    if text == "auto":
        return "auto"
    if text == "off":
        return "off"
    match = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text, re.ASCII)
    if match is None:
        raise ConfigError(f"tile is '{text}': use auto, off, or WIDTHxHEIGHT such as 512x512")
    width, height = int(match[1]), int(match[2])
    if min(width, height) < SMALLEST_TILE:
        raise ConfigError(
            f"tile is {text}: must be at least {SMALLEST_TILE}x{SMALLEST_TILE} pixels"
        )
    return TileSize(height, width)


def check_tiling(tiling: Tiling) -> Tiling:
    """Return the tiling, its size as Python ints.

    Raises:
        ConfigError: it is not `auto`, `off` or a TileSize of at least 1x1.
    """
    if isinstance(tiling, TileSize):
        height, width = (as_integer(side) or 0 for side in tiling)
        if min(height, width) > 0:
            return TileSize(height, width)
    elif tiling in ("auto", "off"):
        return tiling
    raise ConfigError(f"tiling is {tiling!r}: must be auto, off or a TileSize, 1 pixel or more")


@dataclass(frozen=True)
class Box:
    """Part of a frame, in pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    def grown(self, halo: int, height: int, width: int) -> Box:
        """Add a margin, clipped to the frame: at its edges convolutions pad with zeros, in a tile
        as in the whole frame.
        """
        return Box(
            max(self.top - halo, 0),
            max(self.left - halo, 0),
            min(self.bottom + halo, height),
            min(self.right + halo, width),
        )

    def within(self, outer: Box) -> Box:
        """The same part in the coordinates of an outer box."""
        return Box(
            self.top - outer.top,
            self.left - outer.left,
            self.bottom - outer.top,
            self.right - outer.left,
        )

    def cut(self, x: Tensor, stride: int) -> Tensor:
        """This part of features (..., H / stride, W / stride), as a view."""
        rows = slice(self.top // stride, self.bottom // stride)
        return x[..., rows, self.left // stride : self.right // stride]


def tile_boxes(height: int, width: int, size: TileSize, step: int = 1) -> Iterator[Box]:
    """Cover a frame with as few boxes as possible, of about equal size, without overlap, row by
    row. Sides of a box are at most those of `size`, and multiples of `step` except at the right and
    bottom edges.
    """
    rows, columns = _evened(height, size.height, step), _evened(width, size.width, step)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield Box(top, left, min(top + rows, height), min(left + columns, width))


def _evened(whole: int, most: int, step: int) -> int:
    """Side of about equal parts, at most `most` each, that cover a side of length `whole`."""
    parts = -(-whole // most)
    return -(-whole // (parts * step)) * step


class Layer(NamedTuple):
    """Features and their stride: pixels of the frame per feature position, each way."""

    features: Tensor
    stride: int


def run_tiled(
    stage: Callable[[list[Tensor]], Tensor],
    inputs: Sequence[Layer],
    out_stride: int,
    size: TileSize,
    halo: int,
    memory_format: torch.memory_format = torch.channels_last,
    workers: Workers = ALONE,
    step: int = 1,
) -> Tensor:
    """Run a local operation tile by tile.

    Args:
        stage: takes the same part of every input, returns that part of the output.
        inputs: (B, C, H / stride, W / stride) each, of frames of H x W pixels.
        out_stride: stride of the output.
        size: of a tile, in pixels; size and halo are multiples of all strides.
        halo: how far beyond its own pixels `stage` looks, in pixels.
        memory_format: of the output, if it is assembled from tiles.
        workers: process tiles in parallel.
        step: tiles start at multiples of this and of all strides; size and halo are multiples too.

    Returns:
        The same as `stage(inputs)`, except for rounding.
    """
    first = inputs[0]
    height, width = (side * first.stride for side in first.features.shape[-2:])
    if size.height >= height and size.width >= width:
        return stage([layer.features for layer in inputs])
    step = math.lcm(step, out_stride, *(layer.stride for layer in inputs))
    boxes = tile_boxes(height, width, size, step)

    def made(box: Box) -> tuple[Box, Tensor]:
        grown = box.grown(halo, height, width)
        part = stage([grown.cut(layer.features, layer.stride) for layer in inputs])
        return box, box.within(grown).cut(part, out_stride)

    out: Tensor | None = None
    for box, part in workers.map(made, boxes):
        if out is None:
            shape = (*part.shape[:2], height // out_stride, width // out_stride)
            out = torch.empty(
                shape, dtype=part.dtype, device=part.device, memory_format=memory_format
            )
        box.cut(out, out_stride).copy_(part)
    assert out is not None
    return out


class Tiler:
    """Encodes and restores with a network, on whole frames or in tiles.

    Args:
        model: an engine, or a network in evaluation mode.
        tiling: size of the tiles; `off`: whole frames; `auto`: see `auto_tile`. With `auto`, if a
            GPU runs out of memory, work continues with smaller tiles.
        workers: process tiles in parallel if `shares_tiles`, otherwise whole frames.
    """

    def __init__(self, model: Runnable, tiling: Tiling = "auto", workers: Workers = ALONE) -> None:
        self.engine = as_engine(model)
        self._workers = workers
        self.network = self.engine.network
        self._tiling = tiling
        self._size = None if isinstance(tiling, str) else tiling  # None: whole frames
        self._chosen_for: tuple[int, ...] | None = None

    def shares_tiles(self, height: int, width: int) -> bool:
        """Whether workers share the tiles of one frame. They do so for frames so large that two at
        a time would need too much memory. Otherwise each worker takes whole frames, which avoids
        waiting for each other at the end of every level.
        """
        return self._tiling != "off" and height * width > _LARGE

    def workers_for(self, height: int, width: int) -> Workers:
        """Workers for whole frames of this size; `ALONE` if they share tiles instead."""
        return ALONE if self.shares_tiles(height, width) else self._workers

    def encode(self, frames: Tensor) -> Encoded:
        """Like `DeblurNetwork.encode`.

        Raises:
            DeviceMemoryError: a GPU runs out of memory, and tiles cannot be made smaller.
        """
        self._choose(frames)
        features = [frames]
        for level in range(len(self.network.config.widths)):
            features.append(self._encode_level(level, features[-1]))
        return Encoded(frames, tuple(features[1:]))

    def encode_finest(self, frames: Tensor) -> Tensor:
        """The features of the finest level only; see `encode`."""
        self._choose(frames)
        return self._encode_level(0, frames)

    def _encode_level(self, level: int, features: Tensor) -> Tensor:
        network = self.network
        return self._run(
            lambda parts: self.engine.encode_level(level, parts[0]),
            [Layer(features, network.stride(level - 1) if level else 1)],
            network.stride(level),
            level,
            network.encode_reach(level),
        )

    def restore(
        self,
        current: Encoded,
        contexts: Contexts,
        around: Neighbourhood,
    ) -> Tensor:
        """Like `DeblurNetwork.restore`; raises like `encode`."""
        around.check(self.network.config)
        coarser: Tensor | None = None
        for level in reversed(range(len(self.network.config.widths))):
            coarser = self._decode_level(level, current.features[level], coarser, contexts, around)
        assert coarser is not None  # there is a level
        return coarser.add_(current.frame)  # in place: a frame of 8K takes 400 MB

    def _decode_level(
        self,
        level: int,
        features: Tensor,
        coarser: Tensor | None,
        contexts: Contexts,
        around: Neighbourhood,
    ) -> Tensor:
        network = self.network
        stride, last = network.stride(level), len(network.config.widths) - 1
        inputs = [Layer(features, stride)]
        for one in network.below(level, coarser, around):
            stride_below = 1 if one is around.triplet else network.stride(min(level + 1, last))
            inputs.append(Layer(one, stride_below))
        context = network.context_of(level, contexts)
        return self._run(
            lambda parts: self.engine.decode_level(level, parts[0], parts[1:], context),
            inputs,
            1 if level == 0 else stride,
            level,
            network.decode_reach(level),
        )

    def _choose(self, frames: Tensor) -> None:
        if self._tiling == "auto" and (shape := tuple(frames.shape)) != self._chosen_for:
            self._size = auto_tile(self.network, frames)
            self._chosen_for = shape  # set last: other workers rely on it

    def _run(
        self,
        stage: Callable[[list[Tensor]], Tensor],
        inputs: Sequence[Layer],
        out_stride: int,
        level: int,
        reach: int,
    ) -> Tensor:
        multiple = self.network.config.size_multiple
        halo = -(-reach // multiple) * multiple
        # Everything after the network processes frames plane by plane.
        layout = torch.contiguous_format if out_stride == 1 else self.engine.memory_format
        first = inputs[0]
        shared = self.shares_tiles(*(side * first.stride for side in first.features.shape[-2:]))
        workers = self._workers if shared else ALONE
        while True:
            try:
                if self._size is None:
                    return stage([layer.features for layer in inputs])
                size = TileSize(
                    *(-(-(side << level) // multiple) * multiple for side in self._size)
                )
                return run_tiled(stage, inputs, out_stride, size, halo, layout, workers)
            except torch.OutOfMemoryError as error:
                self._size = self._smaller(error)
            torch.cuda.empty_cache()  # outside `except`, whose traceback keeps tensors alive

    def _smaller(self, error: torch.OutOfMemoryError) -> TileSize:
        """Smaller tiles to continue with after a GPU ran out of memory.

        Raises:
            DeviceMemoryError: the tiling is not `auto`, or tiles cannot be made smaller.
        """
        side = _TILE_AFTER_OUT_OF_MEMORY if self._size is None else min(self._size) // 2
        if self._tiling == "auto" and side >= SMALLEST_TILE:
            return TileSize(side, side)
        size = "whole frames" if self._size is None else "tiles of {1}x{0}".format(*self._size)
        raise DeviceMemoryError(
            f"not enough GPU memory for {size}: use smaller tiles (--tile) or "
            f"--device cpu ({first_line(error)})"
        )


@contextmanager
def convert_out_of_memory() -> Iterator[None]:
    """Convert errors when a GPU runs out of memory outside the tiled levels, in steps that process
    whole frames.

    Raises:
        DeviceMemoryError: it did.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            "not enough GPU memory for whole frames: use --device cpu, --burst 0, "
            f"--refine 0 or a smaller model, such as lite ({first_line(error)})"
        ) from None


def prepared(frame: Tensor, engine: Engine) -> Tensor:
    """(3, H, W) on any device -> (1, 3, H', W') float32 on the engine's, padded to its multiple."""
    batch = frame.to(engine.device, torch.float32).unsqueeze(0)
    return pad_to_multiple(batch, engine.network.config.size_multiple)


def auto_tile(network: DeblurNetwork, frames: Tensor) -> TileSize | None:
    """Choose the tile size for frames (B, 3, H, W); None: whole frames.

    On a CUDA GPU, tiles are used if a whole frame would take more than half of the free memory.
    Elsewhere they are always used, because they keep intermediates small and cost nothing if the
    halo is narrow. The exceptions are small frames of a network with a wide halo at its finest
    level.
    """
    batch, _, height, width = frames.shape
    if frames.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(frames.device)
        if batch * height * width * peak_bytes_per_pixel(network) < free // 2:
            return None
        return TileSize(_GPU_TILE, _GPU_TILE)
    far = 10 * network.decode_reach(0) > _CPU_TILE
    if far and height * width <= _SMALL:
        return None
    side = _CPU_TILE if far or height * width <= _LARGE else _CPU_TILE // 2
    return TileSize(side, side)


def peak_bytes_per_pixel(network: DeblurNetwork) -> float:
    """Estimated peak memory of an untiled level, per pixel of the frame: four times the input and
    output of its widest convolution, in float32.
    """
    widest = 0.0
    for level in range(len(network.config.widths)):
        parts = [network.encoder[level], network.decoder[level]]
        if level in network.config.aligned_levels:
            parts.append(network.aligned[str(level)])
        convolutions = [
            conv.in_channels + conv.out_channels
            for part in parts
            for conv in part.modules()
            if isinstance(conv, torch.nn.Conv2d)
        ]
        widest = max(widest, max(convolutions, default=0) / network.stride(level) ** 2)
    return 4 * widest * 4
