"""Measure the guard's quantities on released weights, on ground truth and on broken networks.

python scripts/calibrate_guard.py --val DATA/val --clips DATA/real

The limits in `unsmear.restoration.guard` are well above the values of good restorations, including
perfect ones (the sharp frame as the result), and below those of broken networks.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, fields
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from unsmear.data.pairs import some_pairs
from unsmear.demo import shaky_clip
from unsmear.engines.choice import open_model
from unsmear.errors import InputError
from unsmear.evaluate.metrics import psnr
from unsmear.evaluate.programs import at_least, files_in, parser_for, run_program
from unsmear.models.network import DeblurNetwork
from unsmear.restoration.guard import LIMITS, Change, implausibility, measure_change
from unsmear.restoration.stream import restore_stream
from unsmear.video.images import unit_from_integer
from unsmear.video.reader import VideoReader

NAMES = [field.name for field in fields(Change)]
Clip = tuple[str, list[Tensor], list[Tensor]]  # name, frames, ground truth (may be empty)


def find_clips(arguments: argparse.Namespace) -> Iterator[Clip]:
    """Pairs, their sharp frames as another input, real clips, and the demo clip with two blurs.

    Raises:
        InputError: there are no pairs or no real clips, or a clip has fewer than two frames.
    """
    count = arguments.frames
    pairs, paths = some_pairs(arguments.val), files_in(arguments.clips, "*.mp4")
    for sequence in pairs:
        blurry, sharp = (list(unit_from_integer(side))[:count] for side in sequence.read())
        yield sequence.name, blurry, sharp
        yield f"{sequence.name}, sharp", sharp, sharp
    for path in paths:
        with VideoReader(path) as reader:
            step = max((reader.info.frames or count) // count, 1)
            yield path.stem, [frame.rgb for frame in islice(reader, 0, count * step, step)], []
    for blur in (7.0, 20.0):
        shaken, still = shaky_clip(count, blur=blur)
        yield f"demo, {blur:g} px", list(shaken), list(still)


def largest(name: str, pairs: Iterable[tuple[Tensor, Tensor]]) -> list[float]:
    """The largest value of each quantity in a clip.

    Raises:
        InputError: no restored frame is finite.
    """
    found = [measure_change(before, after) for before, after in pairs]
    rows = [astuple(change) for change in found if change is not None]
    if not rows:
        raise InputError(f"'{name}': no restored frame has finite values: give another --model")
    return [max(column) for column in zip(*rows, strict=True)]


def show(name: str, values: Sequence[float]) -> None:
    """Print one line of the table."""
    print(f"{name:34s}" + "".join(f"{value:>11.3f}" for value in values), flush=True)


def scale(network: DeblurNetwork, layer: str, factor: float) -> None:
    """Multiply the weights of one layer."""
    network.get_parameter(f"{layer}.weight").mul_(factor)


def randomise(network: DeblurNetwork) -> None:
    """Replace all weights by random ones, the head included."""
    for parameter in network.parameters():
        parameter.copy_(0.1 * torch.randn_like(parameter))


def perturb(network: DeblurNetwork, share: float) -> None:
    """Add noise to all weights, in proportion to each tensor's standard deviation."""
    for parameter in network.parameters():
        if parameter.numel() > 1:
            parameter.add_(share * parameter.std() * torch.randn_like(parameter))


def overflow(network: DeblurNetwork) -> None:
    """Set one weight to NaN."""
    network.head.weight[0, 0, 0, 0] = float("nan")


LAYERS = ("head", "local_fusion", "stem")


def damages_to(network: DeblurNetwork) -> list[tuple[str, Callable[[DeblurNetwork], None]]]:
    """Ways to break a network, by name; layers that it lacks are skipped."""
    there = {name for name, _ in network.named_parameters()}
    layers = [layer for layer in LAYERS if f"{layer}.weight" in there]
    return [
        ("random weights", randomise),
        ("not a number", overflow),
        *((f"{layer} x{factor:g}", partial(scale, layer=layer, factor=factor))
          for layer in layers for factor in (4.0, 16.0)),
        ("noise on weights, 0.3", partial(perturb, share=0.3)),
        ("noise on weights, 1", partial(perturb, share=1.0)),
    ]  # fmt: skip


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    parser = parser_for(__doc__)
    parser.add_argument("--val", type=Path, required=True, help="paired sequences")
    parser.add_argument("--clips", type=Path, required=True, help="folder of real clips")
    parser.add_argument("--model", default="lite")
    parser.add_argument("--frames", type=int, default=8, help="of each clip")
    parser.add_argument("--every", type=int, default=3, help="clips to break the network on")
    arguments = parser.parse_args()
    at_least(2, frames=arguments.frames)
    at_least(1, every=arguments.every)
    torch.manual_seed(0)
    model = open_model(arguments.model, "cpu", "torch")
    clips = list(find_clips(arguments))
    for name, frames, _ in clips:
        if len(frames) < 2:
            raise InputError(f"'{name}' has {len(frames)} frames: at least two are needed")
    print(f"{'':34s}" + "".join(f"{name[:10]:>11s}" for name in NAMES))
    show("limits", astuple(LIMITS))
    most: list[float] = [0.0] * len(NAMES)
    for name, frames, truth in clips:
        values = largest(
            name,
            zip(frames, restore_stream(model.network, frames, model.window), strict=True),
        )
        show(f"{name}: restored", values)
        sides = [values]
        if truth and truth is not frames:
            sides.append(largest(name, zip(frames, truth, strict=True)))
            show(f"{name}: truth", sides[-1])
        most = [max(column) for column in zip(most, *sides, strict=True)]
    show(
        "limit over the largest of these",
        [a / b for a, b in zip(astuple(LIMITS), most, strict=True)],
    )
    print("\nbroken networks, a piece of a frame each: PSNR against the input, what the guard says")
    for damage_name, damage in damages_to(model.network):
        broken = copy.deepcopy(model.network)
        damage(broken)
        for name, frames, _ in clips[:: arguments.every]:
            few = [frame[:, :384, :640] for frame in frames[:3]]
            after = list(restore_stream(broken, few, model.window))[1]
            report(f"{damage_name}: {name}", few[1], after)
    for name, frames, _ in clips:
        report(f"red and blue swapped: {name}", frames[0], frames[0].flip(0))


def report(name: str, before: Tensor, after: Tensor) -> None:
    """Print one line with the guard's verdict."""
    near = psnr(after.nan_to_num(), before)
    print(f"{name:48s} {near:5.1f} dB  {implausibility(before, after) or '-'}", flush=True)


if __name__ == "__main__":
    sys.exit(run_program(main))
