"""Pictures of a run's progress: the same crops of the same frames each time, blurry, restored and
sharp side by side.

Crops are restored by themselves: that takes hardly any time, and shows what is learned as well.
Near their edges they differ a little from the frames that are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.data.clips import Clips
from unsmear.data.pairs import PairedSequence
from unsmear.video.images import integer_from_unit, unit_from_integer

_MOST = 4  # pictures
_SIDE = 256  # pixels of a crop, at most
_STRIDE = 32  # pixels between places where a crop may lie
_GAP = 4  # pixels


class Sample(NamedTuple):
    """A short clip, one of whose frames is shown.

    Attributes:
        name: of the picture.
        blurry: (T, 3, H, W), float, 0..1.
        sharp: same shape.
        shown: index of the frame.
    """

    name: str
    blurry: Tensor
    sharp: Tensor
    shown: int


def validation_samples(sequences: Sequence[PairedSequence], window: int) -> Iterator[Sample]:
    """The middle frames of at most four sequences, spread evenly, where their blur is worst.

    Args:
        sequences: of the validation set.
        window: number of frames to read around each, odd.

    Raises:
        InputError: a file cannot be read, or sizes differ.
    """
    count = min(len(sequences), _MOST)
    for number in range(count):
        sequence = sequences[number * len(sequences) // count]
        middle = len(sequence.blurry) // 2
        start = max(middle - window // 2, 0)
        blurry, sharp = map(unit_from_integer, sequence.read(start, window))
        rows, columns = worst_place(blurry[middle - start], sharp[middle - start])
        crop = (..., rows, columns)
        yield Sample(sequence.name, blurry[crop], sharp[crop], middle - start)


def training_samples(clips: Clips) -> Iterator[Sample]:
    """The middle frames of the first clips of a batch, at most four."""
    for number, (blurry, sharp) in enumerate(zip(*clips.pair, strict=True)):
        if number < _MOST:
            yield Sample(f"crop{number + 1}", blurry, sharp, len(blurry) // 2)


def worst_place(blurry: Tensor, sharp: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the crop in which two frames (3, H, W) differ most."""
    height, width = (min(size, _SIDE) for size in blurry.shape[-2:])
    error = (blurry - sharp).square().mean(dim=0, keepdim=True)
    means = functional.avg_pool2d(error, (height, width), _STRIDE)[0]
    top, left = (_STRIDE * index for index in divmod(int(means.argmax()), means.shape[-1]))
    return slice(top, top + height), slice(left, left + width)


@torch.no_grad()
def picture(restore: Callable[[Tensor], Tensor], sample: Sample) -> Tensor:
    """The frame blurry, restored and sharp, (3, H, 3 * W + 2 * gap), uint8, gaps in white.

    Args:
        restore: restores a clip (T, 3, H, W) that lies on the CPU.
        sample: what to show.
    """
    clip = sample.blurry.to("cpu", copy=True)  # networks of others may work in place
    restored = restore(clip)[sample.shown].float().cpu()
    sides = (sample.blurry[sample.shown].cpu(), restored, sample.sharp[sample.shown].cpu())
    padded = [functional.pad(side, (0, _GAP), value=1) for side in sides]
    return integer_from_unit(torch.cat(padded, dim=-1)[..., :-_GAP])
