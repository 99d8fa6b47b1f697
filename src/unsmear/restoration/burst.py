"""Burst accumulation: each restored frame takes sharper detail from its restored neighbours.

Camera shake changes direction from frame to frame, so detail that restoration could not recover in
one frame is often present in its neighbours. These are warped to the frame by optical flow between
restored frames, which is far more accurate than between blurry ones, and fused frequency by
frequency: blur only attenuates a spectrum, so where a neighbour has markedly more power at a
frequency than the frame itself, the neighbour dominates.

Source: Delbracio and Sapiro 2015, "Removing Camera Shake via Weighted Fourier Burst
Accumulation", and "Hand-held Video Deblurring via Efficient Fourier Aggregation". New here: it
runs after a network; windows overlap, which avoids seams; the frame itself is preferred.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import reduce
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unsmear.models.align import smoothed, warp
from unsmear.models.flow import luma_of, motion_between, shrunken_luma
from unsmear.models.network import pad_to_multiple
from unsmear.models.polish import NEIGHBOURS, STRIDE, PolishNetwork, stack_fusion
from unsmear.models.precision import no_autocast
from unsmear.models.trails import CELL
from unsmear.restoration.overlap import ALONE, Workers
from unsmear.restoration.reblur import Blur, correction, evidence
from unsmear.restoration.smoothing import tent_filtered
from unsmear.restoration.tiles import Layer, TileSize, run_tiled

MOST_BURST = 4
"""Maximum number of frames on each side; those further away have moved too far to be aligned."""

_WINDOW = 64  # pixels; with 32 the gain is smaller, and in larger windows blur is not uniform
_HOP = _WINDOW // 2
_ROWS = 4  # rows of windows processed at a time
# Chosen on synthetic clips and by eye on real ones. The result depends little on the exact values
# (model_cards/LADDER.md).
_OWN = float(np.exp(2.5))  # weight of the frame; a neighbour of equal power has weight 1
_FLOOR = 2.5e-5  # power below which a frequency counts as empty
_MOST_RATIO = 1e6
_SHRINK = 4
_DISAGREEMENT = 0.04  # of 0..1: low-pass difference at which a neighbour's weight falls to 1 / e
_TORN = 1.0  # pixels: likewise, deviation of the motion from its smoothed field
_BEYOND = 0.01  # of 0..1: how far a value may exceed the range of its inputs
_TILE = TileSize(height=768, width=640)  # of the polishing network


class _Restored(NamedTuple):
    """A restored frame and what is derived from it.

    Attributes:
        frame: (3, H, W).
        luma: of the padded frame, (1, 1, H', W'), H' and W' multiples of `CELL`.
        small: the same at a quarter of the size, (H' / 4, W' / 4) uint8; None if the frame has
            values that are not finite. Such a frame is not used as a neighbour.
        blurry: the frame as it came, (3, H, W); None if it is not needed.
    """

    frame: Tensor
    luma: Tensor
    small: np.ndarray | None
    blurry: Tensor | None

    @classmethod
    def of(cls, frame: Tensor, blurry: Tensor | None = None) -> _Restored:
        padded = pad_to_multiple(frame[None], CELL)
        luma = luma_of(padded)
        sound = bool(luma.isfinite().all())
        return cls(frame, luma, shrunken_luma(padded)[0] if sound else None, blurry)


class Corrections(NamedTuple):
    """What corrects fused frames.

    Attributes:
        blurry: the frames as they came, (3, H, W), any device, one for each restored one.
        network: polishes them, on the device of the restored frames, in evaluation mode; None:
            nothing does.
        reblur: whether they are corrected by reblurring after that. A network that is told what
            reblurring finds needs this.
    """

    blurry: Iterator[Tensor]
    network: PolishNetwork | None = None
    reblur: bool = False


def accumulate_bursts(
    frames: Iterable[Tensor],
    burst: int,
    workers: Workers = ALONE,
    skipped: int = 0,
    corrections: Corrections | None = None,
) -> Iterator[Tensor]:
    """Fuse each restored frame of a scene with its neighbours.

    Args:
        frames: (3, H, W), float32, 0..1, of one size.
        burst: neighbours on each side; at the ends of the scene, those that exist.
        workers: process several frames in parallel.
        skipped: number of frames at the beginning that only serve as neighbours.
        corrections: of what was fused; None: none. A scene of one frame stays as it is.

    Yields:
        (3, H, W), 0..1, one for each frame that is not skipped. The delay is `burst` frames, and
        one more for each worker beyond the first.
    """
    # The frame, its neighbours, and None where the scene has none.
    around: deque[_Restored | None] = deque([None] * 2 * burst)
    pending: deque[Future[Tensor]] = deque()
    number = 0  # of the next frame to fuse
    for frame in chain(frames, repeat(None, burst)):  # None flushes the last frames
        blurry = None if frame is None or corrections is None else next(corrections.blurry)
        around.append(None if frame is None else _Restored.of(frame, blurry))
        current = around[burst]
        if current is not None:
            if number >= skipped:
                pending.append(workers.submit(_fused, current, _pairs(around), corrections))
            number += 1
        around.popleft()
        if len(pending) >= workers.count:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


_Pairs = list[tuple[_Restored | None, _Restored | None]]


def _pairs(around: Sequence[_Restored | None]) -> _Pairs:
    """Pairs of the frames before and after the middle one, nearest first."""
    lenders = [one if one is not None and one.small is not None else None for one in around]
    middle = len(lenders) // 2
    return list(zip(reversed(lenders[:middle]), lenders[middle + 1 :], strict=True))


def _fused(current: _Restored, pairs: _Pairs, corrections: Corrections | None) -> Tensor:
    """The frame, with detail that is sharper in its neighbours, corrected if that is wanted."""
    with no_autocast(current.frame.device):
        motions = _motions(current, pairs)
        around = list(_aligned_neighbours(current, pairs, motions))
        fused = _with_neighbours(current, around)
        if corrections is None or fused is current.frame:
            return fused
        blur = _blur_of(fused, current, motions[0]) if corrections.reblur else None
        network = corrections.network
        if network is not None:
            for _ in range(network.config.passes):
                fused = _polished(fused, current, around, network, blur)
        told = network is not None and network.config.told
        return fused if blur is None else _reblur_corrected(fused, blur, told=told)


def _polished(
    fused: Tensor,
    current: _Restored,
    around: Sequence[Tensor | None],
    network: PolishNetwork,
    blur: Blur | None,
) -> Tensor:
    """A fused frame (3, H, W), corrected by the network, tile by tile."""
    parts = _parts(fused, current, around, blur if network.config.told else None)
    made = run_tiled(
        lambda parts: network(_stacked(parts)),
        [Layer(part, 1) for part in parts],
        1,
        _TILE,
        network.config.reach,
        torch.contiguous_format,
        step=STRIDE,
    )
    height, width = fused.shape[-2:]
    return made[0, :, :height, :width].clamp(0, 1).contiguous()


def _with_neighbours(current: _Restored, around: Sequence[Tensor | None]) -> Tensor:
    """The frame, fused with its aligned neighbours; the frame itself if there are none."""
    neighbours = [one for one in around if one is not None]
    if not neighbours:
        return current.frame
    own = current.luma[0, 0]
    change = accumulate(own, torch.cat(neighbours)[:, 0]) - own
    height, width = current.frame.shape[-2:]
    return (current.frame + change[:height, :width]).clamp_(0, 1)


def _blur_of(fused: Tensor, current: _Restored, motion: Tensor) -> Blur:
    """How the fused frame (3, H, W) was blurred; `motion` is that to the nearest pair."""
    back, forth = smoothed(motion).split(2, 1)
    own, seen = (_padded_luma(frame) for frame in (fused, _blurry(current)))
    return Blur.fitted(own, seen, (forth - back) / 2)


def _reblur_corrected(frame: Tensor, blur: Blur, *, told: bool) -> Tensor:
    """A frame (3, H, W), corrected by reblurring; `told`: see `correction`."""
    height, width = frame.shape[-2:]
    change = correction(_padded_luma(frame), blur, told=told)[0, :, :height, :width]
    return (frame + change).clamp_(0, 1)


def _padded_luma(frame: Tensor) -> Tensor:
    """(3, H, W) -> (1, 1, H', W'), multiples of `CELL`."""
    return luma_of(pad_to_multiple(frame[None], CELL))


def _blurry(current: _Restored) -> Tensor:
    """The frame as it came, (3, H, W), like the restored one."""
    assert current.blurry is not None
    return current.blurry.to(current.frame.device, current.frame.dtype).clamp(0, 1)


def _parts(
    fused: Tensor, current: _Restored, around: Sequence[Tensor | None], blur: Blur | None
) -> list[Tensor]:
    """Fused, blurry and restored frame, then luma of the four neighbours, then, if the blur is
    given, what reblurring finds: (1, C, H', W') each, H' and W' multiples of `CELL`. The frame
    stands in for neighbours that are missing.
    """
    frames = [
        pad_to_multiple(frame[None], CELL) for frame in (fused, _blurry(current), current.frame)
    ]
    lent = [current.luma if one is None else one for one in around[:NEIGHBOURS]]
    lent += [current.luma] * (NEIGHBOURS - len(lent))
    return [*frames, *lent, *([] if blur is None else [evidence(luma_of(frames[0]), blur)])]


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """`_parts`, or a tile of each, as the network takes them."""
    fused, blurry, restored, *lent = parts
    return stack_fusion(fused, blurry, restored, lent[:NEIGHBOURS], *lent[NEIGHBOURS:])


def fusions_of(
    frames: Sequence[Tensor],
    blurry: Sequence[Tensor],
    burst: int,
    numbers: Iterable[int],
    network: PolishNetwork,
) -> Iterator[list[Tensor]]:
    """What a polishing network takes for some frames of a scene, for training.

    Args:
        frames: restored, (3, H, W), 0..1, two or more; H and W multiples of `CELL`.
        blurry: the frames as they came, likewise.
        burst: neighbours on each side.
        numbers: of the frames that are wanted.
        network: polishes; of several passes, each takes what the one before gave.

    Yields:
        For each frame: `unsmear.models.polish.stack_fusion` for each pass of the network, (13, H,
        W), or 16 channels if it is told.
    """
    beyond: list[_Restored | None] = [None] * burst
    scene = [*beyond, *map(_Restored.of, frames, blurry), *beyond]
    for number in numbers:
        window = scene[number : number + 2 * burst + 1]
        current = window[burst]
        assert current is not None
        pairs = _pairs(window)
        motions = _motions(current, pairs)
        around = list(_aligned_neighbours(current, pairs, motions))
        fused = _with_neighbours(current, around)
        blur = _blur_of(fused, current, motions[0]) if network.config.told else None
        passes = [_stacked(_parts(fused, current, around, blur))]
        while len(passes) < network.config.passes:
            fused = network(passes[-1])[0].clamp(0, 1)
            passes.append(_stacked(_parts(fused, current, around, blur)))
        yield [stack[0] for stack in passes]


def _motions(current: _Restored, pairs: _Pairs) -> list[Tensor]:
    """Motion from the frame to both of each pair, (1, 4, H' / 8, W' / 8); none if the frame has
    values that are not finite.
    """
    if current.small is None:
        return []
    return [
        motion_between(
            None if before is None else before.small,
            current.small,
            None if after is None else after.small,
        )[None].to(current.luma.device)
        for before, after in pairs
    ]


def _aligned_neighbours(
    current: _Restored, pairs: _Pairs, motions: Sequence[Tensor]
) -> Iterator[Tensor | None]:
    """Luma of each neighbour, aligned to the frame: (1, 1, H', W'); None where there is none."""
    for pair, motion_of_pair in zip(pairs, motions, strict=False):
        for neighbour, motion in zip(pair, motion_of_pair.split(2, 1), strict=True):
            if neighbour is None:
                yield None
            else:
                yield aligned(current.luma, neighbour.luma, motion)


def aligned(own: Tensor, neighbour: Tensor, motion: Tensor) -> Tensor:
    """Warp a neighbour to a frame. Where the two disagree (occlusion, objects that move on their
    own, wrong motion), it is blended towards the frame.

    Args:
        own: luma of the frame, (1, 1, H, W), 0..1, H and W multiples of 8.
        neighbour: luma of the neighbour, likewise.
        motion: from the frame to the neighbour, (1, 2, H / 8, W / 8), pixels.

    Returns:
        (1, 1, H, W).
    """
    even = smoothed(motion)
    difference = warp(neighbour, even) - own
    # Compared without fine detail, which may differ: it is what the frame is to gain. Thin objects,
    # such as flying hair, vanish in this comparison, but there the motion is discontinuous.
    coarse = tent_filtered(functional.avg_pool2d(difference, _SHRINK), 1)
    doubt = tent_filtered(coarse.square(), 1) / _DISAGREEMENT**2
    torn = tent_filtered((motion - even).square().sum(dim=1, keepdim=True), 1) / _TORN**2
    doubt = doubt + _upsampled(torn, CELL // _SHRINK)
    return own + _upsampled(torch.exp(-doubt), _SHRINK) * difference


def _upsampled(x: Tensor, times: int) -> Tensor:
    return functional.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)


def accumulate(own: Tensor, neighbours: Tensor) -> Tensor:
    """For each window and frequency, average the frame and its neighbours. A neighbour's weight is
    the tenth power of the ratio of its magnitude to the frame's.

    Args:
        own: luma of the frame, (H, W).
        neighbours: luma of neighbours warped to it, (K, H, W).

    Returns:
        (H, W). Each value depends on pixels less than a window away. It is clamped to the range of
        the frame and its neighbours at that pixel, give or take `_BEYOND`, because an edge that is
        not aligned exactly rings through its whole window.
    """
    height, width = own.shape
    stack = torch.cat((own[None], neighbours))
    # Windows have the same positions in every frame. Borders are padded by replication.
    below, right = (_HOP + -side % _HOP for side in (height, width))
    padded = functional.pad(stack[None], (_HOP, right, _HOP, below), mode="replicate")[0]
    bell = torch.hann_window(_WINDOW, device=own.device, dtype=own.dtype).sqrt()
    taper = bell[:, None] * bell
    out = torch.zeros_like(padded[0])
    count = padded.shape[1] // _HOP - 1
    for row in range(0, count, _ROWS):
        rows = slice(row * _HOP, (min(row + _ROWS, count) + 1) * _HOP)
        windows = padded[:, rows].unfold(1, _WINDOW, _HOP).unfold(2, _WINDOW, _HOP)
        # `out` makes the result contiguous by window; the windows themselves overlap in memory.
        tapered = torch.mul(windows, taper, out=own.new_empty(windows.shape))
        spectra = torch.fft.rfft2(tapered, norm="ortho")
        joined = torch.fft.irfft2(_fuse_spectra(spectra), s=taper.shape, norm="ortho") * taper
        parts = joined.flatten(0, 1).flatten(1).t()[None]  # (1, pixels of a window, windows)
        strip = out[rows]
        strip += functional.fold(parts, strip.shape, _WINDOW, stride=_HOP)[0, 0]
    joined = out[_HOP : _HOP + height, _HOP : _HOP + width]
    least, most = (reduce(of, stack.unbind()) for of in (torch.minimum, torch.maximum))
    return joined.clamp(least - _BEYOND, most + _BEYOND)


def _fuse_spectra(spectra: Tensor) -> Tensor:
    """Fuse spectra: (1 + K, ..., h, w) complex, the frame's first -> (..., h, w)."""
    power = spectra.real.square() + spectra.imag.square()
    # Summed over 3x3 frequencies: the power of a single one is too noisy.
    power = _sum_of_three(_sum_of_three(power, -1), -2).add_(9 * _FLOOR)
    total, weights = spectra[0] * _OWN, torch.full_like(power[0], _OWN)
    for one, much in zip(spectra[1:], power[1:], strict=True):
        ratio = (much / power[0]).clamp_max_(_MOST_RATIO)
        weight = ratio.square().square_().mul_(ratio)  # tenth power of the magnitude ratio
        total += one * weight
        weights += weight
    return total / weights


def _sum_of_three(x: Tensor, dim: int) -> Tensor:
    """Each value plus its predecessor and successor along `dim`."""
    inner = x.shape[dim] - 1
    out = x.clone()
    out.narrow(dim, 1, inner).add_(x.narrow(dim, 0, inner))
    out.narrow(dim, 0, inner).add_(x.narrow(dim, 1, inner))
    return out
