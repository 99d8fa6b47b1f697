"""Gradients: which pixels of which frames one pixel of the result depends on, and how much.

A frame reaches the result in two ways, which are kept apart here: through convolutions (its own,
those of the local path, and those over aligned neighbours), which see a known number of pixels
around, and through its descriptors, which see everything. The chain rule is applied by hand at the
interfaces of the network, so that only one frame's features and one tile's graph are in memory at
a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from unsmear.explain.window import FrameWindow
from unsmear.models.align import TRIPLET_CHANNELS, aligned_triplet
from unsmear.models.attention import Descriptor
from unsmear.models.neighbourhood import Neighbourhood
from unsmear.models.network import (
    DeblurNetwork,
    Descriptors,
    Encoded,
    pad_to_multiple,
)
from unsmear.restoration.tiles import Box, Tiler, TileSize, prepared, tile_boxes

_TILE = 512  # pixels of the finest level; bounds the memory of a graph for any frame size


@dataclass(frozen=True)
class ReceptiveField:
    """Gradient of one pixel of the result, averaged over its channels, with respect to all values
    of all frames. Its two parts add up to the whole gradient.

    Attributes:
        pixel: x and y in the frame.
        local: part through convolutions, the local path and aligned neighbours, (F, 3, H, W)
            float32. Zero beyond the reach of the convolutions around the pixel; in aligned
            neighbours, around the position that shows the same.
        attention: part through the descriptors of eq. 1-4, (F, 3, H, W) float32; zero in frames
            outside the window.
    """

    pixel: tuple[int, int]
    local: Tensor
    attention: Tensor

    @property
    def total(self) -> Tensor:
        """Absolute gradient, summed over the input channels, (F, H, W)."""
        return (self.local + self.attention).abs().sum(dim=1)

    @property
    def shares(self) -> Tensor:
        """Share of each frame in the total, through convolutions and through the attention, (F, 2):
        sums of absolute gradients, normalised to 1 over all frames (0 if all are 0).
        """
        parts = torch.stack((self.local, self.attention), dim=1)  # (F, 2, 3, H, W)
        sizes = parts.abs().sum(dim=(-3, -2, -1), dtype=torch.float64)
        return sizes / sizes.sum().clamp_min(torch.finfo(torch.float64).tiny)


def receptive_field(
    tiler: Tiler,
    window: FrameWindow,
    current: Encoded,
    descriptors: Descriptors,
    around: Neighbourhood,
    pixel: tuple[int, int],
    *,
    tile: int = _TILE,
) -> ReceptiveField:
    """Compute the gradient of one pixel of the result.

    Args:
        tiler: runs the network.
        window: the frames.
        current: encoded frame to restore, padded.
        descriptors: of the T frames in the window of the attention, (1, T, ...) per level.
        around: as `DeblurNetwork.restore` takes it. Its motion is treated as a constant: gradients
            do not flow through its estimation.
        pixel: x and y in the frame.
        tile: size of the tiles in which gradients are computed, in pixels; it affects the result
            only by rounding.
    """
    network = tiler.network
    end = _through_decoder(network, current, descriptors, around, pixel)
    through_descriptors = _through_mix(network, descriptors, end.contexts)
    local, attention = torch.zeros(2, *window.pictures.shape)
    neighbours = window.neighbours(network.config.neighbours)
    for index, picture in enumerate(window.pictures):
        places = [place for place, neighbour in enumerate(neighbours) if neighbour == index]
        own, attended = index == window.current, index in window.attended
        aligned = end.triplet is not None and abs(index - window.current) <= 1
        if not (own or attended or places or aligned):
            continue
        encoded = current if own else tiler.encode(prepared(picture, tiler.engine))
        if own or places or aligned:
            gradients = [torch.zeros_like(features) for features in encoded.features]
            above = torch.zeros_like(encoded.frame)
            coarsest = end.box.cut(gradients[-1], network.stride(len(gradients) - 1))
            for place in places:
                coarsest.add_(end.neighbours[place])
            if own:
                end.box.cut(above, 1).add_(end.frame)
                for level, features in enumerate(gradients):
                    end.box.cut(features, network.stride(level)).add_(end.features[level])
            if aligned:
                assert around.motion is not None
                above += _through_triplet(end, window, index, encoded.frame, around.motion)
            above += _through_encoder(network, encoded, gradients, tile)
            local[index] = _unpadded(above, picture, network)
        if attended:
            frame = window.attended.index(index)
            gradients = _through_squeeze(network, encoded, through_descriptors, frame)
            attention[index] = _unpadded(
                _through_encoder(network, encoded, gradients, tile), picture, network
            )
    return ReceptiveField(pixel, local, attention)


class _DecoderGradients(NamedTuple):
    """Gradients of the pixel at the decoder's inputs; spatial ones are cut to `box`."""

    box: Box
    frame: Tensor
    features: list[Tensor]
    contexts: list[Tensor]
    neighbours: list[Tensor]
    triplet: Tensor | None


def _through_decoder(
    network: DeblurNetwork,
    current: Encoded,
    descriptors: Descriptors,
    around: Neighbourhood,
    pixel: tuple[int, int],
) -> _DecoderGradients:
    """Through the decoder: given the contexts it is convolutional, so part of the frame will do."""
    (x, y), multiple = pixel, network.config.size_multiple
    levels = range(len(network.config.widths))
    reach = sum(network.decode_reach(level) for level in levels)
    top, left = y // multiple * multiple, x // multiple * multiple
    box = Box(top, left, top + multiple, left + multiple).grown(
        -(-reach // multiple) * multiple, *current.frame.shape[-2:]
    )
    strides = [network.stride(level) for level in levels]
    frame = _leaf(box.cut(current.frame, 1))
    features = [_leaf(box.cut(current.features[n], strides[n])) for n in levels]
    contexts = [_leaf(context) for context in network.mix(descriptors)]
    local = tuple(_leaf(box.cut(one, strides[-1])) for one in around.local)
    motion = None if around.motion is None else box.cut(around.motion, strides[-1])
    triplet = [] if around.triplet is None else [_leaf(box.cut(around.triplet, 1))]
    with torch.enable_grad():
        encoded = Encoded(frame, tuple(features))
        part = Neighbourhood(local, motion, *triplet)
        out = network.restore(encoded, tuple(contexts), part)
        value = out[0, :, y - box.top, x - box.left].mean()
        found = iter(torch.autograd.grad(value, [frame, *features, *contexts, *local, *triplet]))

    def take(count: int) -> list[Tensor]:
        return [next(found) for _ in range(count)]

    return _DecoderGradients(
        box,
        next(found),
        take(len(features)),
        take(len(contexts)),
        take(len(local)),
        next(found, None),
    )


def _through_triplet(
    end: _DecoderGradients, window: FrameWindow, index: int, frame: Tensor, motion: Tensor
) -> Tensor:
    """From the triplet to one of its frames, padded, (1, 3, H, W). The current frame also stands in
    for missing neighbours.
    """
    assert end.triplet is not None
    whole = frame.new_zeros(1, TRIPLET_CHANNELS, *frame.shape[-2:])
    end.box.cut(whole, 1).copy_(end.triplet)
    leaf = _leaf(frame)
    frames = [None if one is None else frame for one in window.beside]
    place = index - window.current
    if place:
        frames[0 if place < 0 else 1] = leaf
    with torch.enable_grad():
        middle = frame if place else leaf
        made = aligned_triplet(frames[0], middle, frames[1], motion)
        (found,) = torch.autograd.grad(made, leaf, whole)
    return found


def _through_mix(
    network: DeblurNetwork, descriptors: Descriptors, gradients: Sequence[Tensor]
) -> Descriptors:
    """From the contexts to the descriptors of all frames in the window (eq. 3-4)."""
    if not descriptors:
        return ()
    leaves = tuple(Descriptor(*(_leaf(part) for part in level)) for level in descriptors)
    with torch.enable_grad():
        flat = [part for level in leaves for part in level]
        found = torch.autograd.grad(list(network.mix(leaves)), flat, list(gradients))
    return tuple(Descriptor(*found[n : n + 2]) for n in range(0, len(found), 2))


def _through_squeeze(
    network: DeblurNetwork, encoded: Encoded, gradients: Descriptors, frame: int
) -> list[Tensor]:
    """From the descriptors of one frame of the window to its features (eq. 1-2)."""
    leaves = [_leaf(features) for features in encoded.features]
    if not gradients:
        return [torch.zeros_like(leaf) for leaf in leaves]
    with torch.enable_grad():
        made = [
            part
            for level in network.squeeze(Encoded(encoded.frame, tuple(leaves)))
            for part in level
        ]
        wanted = [part[:, frame : frame + 1] for level in gradients for part in level]
        return list(torch.autograd.grad(made, leaves, wanted, materialize_grads=True))


def _through_encoder(
    network: DeblurNetwork, encoded: Encoded, gradients: Sequence[Tensor], tile: int
) -> Tensor:
    """From the features of all levels of a frame to the frame itself, (1, 3, H, W)."""
    gradient = gradients[-1]
    for level in reversed(range(len(gradients))):
        below = encoded.features[level - 1] if level else encoded.frame
        gradient = _through_level(network, level, below, gradient, tile)
        if level:
            gradient = gradient + gradients[level - 1]
    return gradient


def _through_level(
    network: DeblurNetwork, level: int, below: Tensor, gradient: Tensor, tile: int
) -> Tensor:
    """From the features of a level to its input, tile by tile."""
    multiple = network.config.size_multiple
    stride, stride_below = network.stride(level), network.stride(level - 1) if level else 1
    height, width = (side * stride for side in gradient.shape[-2:])
    side = -(-(tile << level) // multiple) * multiple
    halo = -(-network.encode_reach(level) // multiple) * multiple
    out = torch.zeros_like(below)
    for box in tile_boxes(height, width, TileSize(side, side), multiple):
        wanted = box.cut(gradient, stride)
        if not wanted.any():
            continue
        grown = box.grown(halo, height, width)
        leaf = _leaf(grown.cut(below, stride_below))
        with torch.enable_grad():
            made = box.within(grown).cut(network.encode_level(level, leaf), stride)
            (found,) = torch.autograd.grad(made, leaf, wanted)
        grown.cut(out, stride_below).add_(found)
    return out


def _unpadded(gradient: Tensor, picture: Tensor, network: DeblurNetwork) -> Tensor:
    """Gradient of the padded frame (1, 3, H', W') -> of the frame (3, H, W), on the CPU. Gradients
    of replicated rows and columns are added to their originals.
    """
    leaf = _leaf(picture.to(gradient))
    with torch.enable_grad():
        padded = pad_to_multiple(leaf[None], network.config.size_multiple)
        (found,) = torch.autograd.grad(padded, leaf, gradient)
    return found.cpu()


def _leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()
