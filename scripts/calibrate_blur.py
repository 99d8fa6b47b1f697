"""Fit the blur estimate to synthetic blur of known length, and measure its accuracy.

python scripts/calibrate_blur.py fit --data DATA/train          # writes the regression
python scripts/calibrate_blur.py check --data DATA/train --val DATA/val --clips DATA/real
python scripts/calibrate_blur.py gain --data DATA/train --val DATA/val

Three in ten photographs are held out of the fit. `check` and `gain` use only these.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from statistics import fmean, median

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.data.canvas import cut_canvas
from unsmear.data.degrade import compress, sensor_noise, soften_noise
from unsmear.data.generators import Generators
from unsmear.data.light import linear_from_srgb, round_to_8_bit, srgb_from_linear
from unsmear.data.motion import draw_motion
from unsmear.data.pairs import some_pairs
from unsmear.data.render import expose, render
from unsmear.data.shake import OrientationLog, path_length, read_orientation_log, transform_points
from unsmear.data.sources import find_training_files, load_photograph
from unsmear.engines.choice import OpenedModel, open_model
from unsmear.errors import InputError
from unsmear.evaluate.metrics import psnr
from unsmear.evaluate.programs import at_least, files_in, parser_for, run_program
from unsmear.outputs import write_text
from unsmear.restoration import sharpness
from unsmear.restoration.sharpness import BLOCK, block_features, blocks, estimate_blur
from unsmear.restoration.stream import restore_stream
from unsmear.video.images import unit_from_integer
from unsmear.video.reader import VideoReader

SIZE = 2 * BLOCK
HELD_OUT = 3  # photographs out of ten
FEWEST = 4  # photographs, so that one is held out
BLURRED = 4.0  # pixels
DISK = 0.866  # length of a linear motion with the variance of a disk, relative to its diameter
UNITS = 8
EDGES = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 13.0, 18.0, math.inf)


@dataclass(frozen=True)
class Sample:
    """A synthetic clip, and the ground truth of its middle frame.

    Attributes:
        blurry: (T, 3, SIZE, SIZE), as an 8-bit file would hold it.
        sharp: ground truth, same shape.
        lengths: true blur of each block of the middle frame in pixels, (N,).
        angle: direction of the motion, radians; None: there is no single direction.
        noise: 0 (none) .. 1 (a phone at night).
        quality: of JPEG compression; 100: none.
    """

    blurry: Tensor
    sharp: Tensor
    lengths: Tensor
    angle: float | None
    noise: float
    quality: float


def split_photographs(data: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Photographs to fit on, and held-out ones.

    Raises:
        InputError: there are too few to hold some out.
    """
    files = find_training_files(list(data)).photographs
    if len(files) < FEWEST:
        raise InputError(
            f"{len(files)} photographs below {', '.join(map(str, data))}: at least {FEWEST}, so "
            "that some are held out"
        )
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    count = len(files) * HELD_OUT // 10
    return [files[i] for i in order[count:]], [files[i] for i in order[:count]]


def make_sample(
    seed: int, files: Sequence[Path], logs: Sequence[OrientationLog], frames: int = 1
) -> Sample:
    """Make one clip: blur length log-uniform up to 36 pixels, or below 1 for 15 %; 15 % out of
    focus; random exposure, noise and compression.
    """
    random = Generators.seeded(seed, torch.device("cpu"))
    picture = load_photograph(files[random.index(len(files))], 1200)
    faint, defocus = random.chance(0.15), random.chance(0.15)
    length = float(random.uniform(0, 1) if faint else torch.exp(random.uniform(-0.7, 3.58)))
    moved = 0.3 if defocus else length
    # The second clip only makes the sub-frames dense: parts of a frame are blurred more than its
    # mean, and gaps between sub-frames would look like detail.
    motion = draw_motion(torch.tensor([moved, 3 * moved]), frames, SIZE, logs, 0.4, random)
    homographies = motion.homographies[:1]
    reach = transform_points(homographies, torch.tensor([[-SIZE, -SIZE], [SIZE, SIZE]]) / 2)
    side = min(2 * math.ceil(float(reach.abs().amax())) + 3, 3 * SIZE)
    y, x = random.uniform(0, 1, 2).tolist()
    canvas = linear_from_srgb(cut_canvas(picture, side, (y, x), random.chance(0.5)))[None]
    canvas = canvas * torch.exp(random.uniform(-1.6, 0.2))
    light, truth = expose(render(canvas, homographies, SIZE, SIZE))
    middle = homographies[:, frames // 2]
    lengths, towards = block_motion(middle)
    angle = None if defocus else towards
    if defocus:
        light = out_of_focus(light[0], length / DISK)[None]
        lengths = torch.full_like(lengths, length)
    blurry, noise, quality = camera(light, random)
    return Sample(blurry, srgb_from_linear(truth)[0], lengths, angle, noise, quality)


def block_motion(homographies: Tensor) -> tuple[Tensor, float]:
    """True blur length of each block, (N,), and the principal direction of the motion, from
    homographies (1, S, 3, 3).
    """
    axis = torch.linspace(-0.4, 0.4, 5) * BLOCK
    centres = (-BLOCK / 2, BLOCK / 2)
    lengths, covariance = [], torch.zeros(2, 2)
    for y in centres:
        for x in centres:
            grid = torch.cartesian_prod(axis + x, axis + y)
            way = transform_points(homographies, grid)[0]  # (S, 25, 2)
            lengths.append(path_length(way.transpose(0, 1)[None]))
            centred = way - way.mean(dim=0)
            covariance += torch.einsum("snd,sne->de", centred, centred)
    x, y = torch.linalg.eigh(covariance).eigenvectors[:, 1].tolist()
    return torch.cat(lengths), math.atan2(y, x)


def out_of_focus(light: Tensor, diameter: float) -> Tensor:
    """Blur frames (T, 3, H, W) with a disk kernel."""
    fine = 5
    radius = math.ceil(diameter / 2) + 1
    axis = (torch.arange((2 * radius + 1) * fine) - (2 * radius + 1) * fine / 2 + 0.5) / fine
    disk = (torch.hypot(axis[:, None], axis) <= max(diameter / 2, 0.2)).float()
    kernel = functional.avg_pool2d(disk[None, None], fine)
    padded = functional.pad(light, (radius,) * 4, mode="reflect")
    weight = (kernel / kernel.sum()).expand(3, 1, -1, -1)
    return functional.conv2d(padded, weight, groups=3)


def camera(light: Tensor, random: Generators) -> tuple[Tensor, float, float]:
    """Linear light (1, T, 3, H, W) -> frames as a file holds them (T, 3, H, W); noise; quality."""
    noise = float(random.uniform(0, 1)) ** 2
    clean = light.clamp(0, 1)
    read = 0.02 * noise * random.uniform(0, 1, 1)
    noisy = sensor_noise(clean, torch.tensor([0.002 * noise]), read, random.device)
    if random.chance(0.5):
        noisy = soften_noise(noisy, clean, random.uniform(0, 1, 1))
    encoded = round_to_8_bit(srgb_from_linear(noisy))
    quality = 100.0
    if random.chance(0.4):
        quality = float(random.uniform(30, 95))
        encoded = compress(encoded, torch.tensor([quality]))
    return round_to_8_bit(encoded)[0], noise, quality


def samples(
    seeds: range, files: Sequence[Path], logs: Sequence[OrientationLog], workers: int, frames: int
) -> Iterator[Sample]:
    """The samples of these seeds, in order."""
    make = partial(make_sample, files=files, logs=logs, frames=frames)
    if workers == 1:
        yield from map(make, seeds)
        return
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(make, seeds, chunksize=8)


def fit(arguments: argparse.Namespace) -> None:
    """Fit the regression and write its file."""
    files, _ = split_photographs(arguments.data)
    rows, wanted = [], []
    for sample in samples(
        range(arguments.samples), files, logs_of(arguments), arguments.workers, 1
    ):
        features, _, usable = block_features(blocks(sharpness.luma_of(sample.blurry[0])))
        rows.append(features[usable])
        wanted.append(torch.log2(1 + sample.lengths[usable]))
    x, y = torch.cat(rows), torch.cat(wanted)
    mean, spread = x.mean(dim=0), x.std(dim=0).clamp_min(1e-3)
    torch.manual_seed(0)
    first, last = torch.nn.Linear(x.shape[1], UNITS), torch.nn.Linear(UNITS, 1)
    network = torch.nn.Sequential(first, torch.nn.Tanh(), last)
    steps = 1500
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2, weight_decay=3e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = functional.smooth_l1_loss(network((x - mean) / spread)[:, 0], y, beta=0.3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    held = {
        "mean": mean, "spread": spread, "hidden": first.weight, "hidden_bias": first.bias,
        "out": last.weight[0], "out_bias": last.bias[0],
    }  # fmt: skip
    text = json.dumps({name: rounded(value) for name, value in held.items()}, indent=None)
    write_text(sharpness._FITTED, text.replace('], "', '],\n"') + "\n")
    print(f"{len(y)} blocks of {arguments.samples} samples, loss {float(loss.detach()):.3f}")


def rounded(values: Tensor) -> object:
    """Numbers with four significant digits, nested like the tensor."""
    if values.dim():
        return [rounded(value) for value in values]
    return float(f"{float(values.detach()):.4g}")


def check(arguments: argparse.Namespace) -> None:
    """Measure on held-out photographs and on pairs, and print estimates for real clips."""
    _, files = split_photographs(arguments.data)
    sequences = some_pairs(arguments.val) if arguments.val else []
    clips = files_in(arguments.clips, "*.mp4") if arguments.clips else []
    seeds = range(10**6, 10**6 + arguments.samples)
    check_samples(samples(seeds, files, logs_of(arguments), arguments.workers, 1))
    frame = torch.rand(3, 720, 1280)
    estimate_blur(frame)
    began = time.process_time()
    for _ in range(10):
        estimate_blur(frame)
    seconds = (time.process_time() - began) / 10
    print(f"a frame of 1280x720: {1e3 * seconds:.0f} ms of processor time")
    for sequence in sequences:
        for side, frames in zip(("blurry", "sharp"), sequence.read(), strict=True):
            print(f"{sequence.name:10s} {side:6s} {summary(unit_from_integer(frames))}")
    for clip in clips:
        with VideoReader(clip) as reader:
            print(f"{clip.name} {summary(frame.rgb for frame in islice(reader, 0, None, 8))}")


def check_samples(made: Iterable[Sample]) -> None:
    """Print how far estimates are from the true lengths and angles of samples."""
    found, truth, noisy, packed, angles, unknown = [], [], [], [], [], 0
    for sample in made:
        estimate = estimate_blur(sample.blurry[0])
        if estimate.length is None:
            unknown += 1
            continue
        found.append(estimate.length)
        truth.append(float(sample.lengths.median()))
        noisy.append(sample.noise > 0.4)
        packed.append(sample.quality < 60)
        if sample.angle is not None and truth[-1] > 6:
            off = abs(estimate.angle - sample.angle) % math.pi
            angles.append(math.degrees(min(off, math.pi - off)))
    print(f"held-out photographs: {len(found)} frames of {SIZE}x{SIZE}, {unknown} unknown")
    f, t = torch.tensor(found), torch.tensor(truth)
    night, coarse = torch.tensor(noisy, dtype=torch.bool), torch.tensor(packed, dtype=torch.bool)
    for name, chosen in (
        ("all", torch.ones_like(night)),
        ("noise of a night (>0.4)", night),
        ("quality below 60", coarse),
        ("neither", ~(night | coarse)),
    ):
        print(f"  {name:24s} {accuracy(f[chosen], t[chosen])}")
    if angles:
        off_by = float(torch.tensor(angles).median())
        print(f"  direction, motion of >6 px: off by {off_by:.0f} degrees (median)")
    print("  true length: estimate at 10 %, median, 90 %")
    for low, high in pairwise(EDGES):
        inside = f[(t >= low) & (t < high)]
        if len(inside) > 4:
            q = ", ".join(f"{float(inside.quantile(p)):.1f}" for p in (0.1, 0.5, 0.9))
            print(f"  {low:4g}-{high:<4g} n {len(inside):4d}: {q}")


def accuracy(found: Tensor, truth: Tensor) -> str:
    """Agreement of estimated and true lengths, (N,) each, as text."""
    if not len(found):
        return "n    0"
    octaves = (torch.log2(1 + found) - torch.log2(1 + truth)).abs()
    return (
        f"n {len(found):4d}  rank correlation {rank_correlation(found, truth):.3f}  "
        f"AUC of >{BLURRED:g} px {auc(found, truth > BLURRED):.3f}  error of log2(1+px): "
        f"median {float(octaves.median()):.2f}, 90 % {float(octaves.quantile(0.9)):.2f}"
    )


@dataclass(frozen=True)
class Gain:
    """Result for one frame: estimated length before and after, and gain in PSNR, dB."""

    before: float | None
    after: float | None
    psnr: float


def gain(arguments: argparse.Namespace) -> None:
    """Print the gain of the network by estimated blur."""
    loaded = open_model(arguments.model, "cpu", "torch")
    _, files = split_photographs(arguments.data)
    sequences = some_pairs(arguments.val) if arguments.val else []
    seeds = range(2 * 10**6, 2 * 10**6 + arguments.samples)
    synthetic, val = [], []
    for sample in samples(seeds, files, logs_of(arguments), arguments.workers, 5):
        synthetic.append(gains(loaded, sample.blurry, sample.sharp)[2])
    for sequence in sequences:
        blurry, sharp = (unit_from_integer(side) for side in sequence.read())
        val += gains(loaded, blurry, sharp)
    for source, rows in (("synthetic", synthetic), ("val", val)):
        print(f"{source}, by estimated length in pixels")
        print(f"  unknown: {table_cell([row for row in rows if row.before is None])}")
        for low, high in pairwise(EDGES):
            inside = [row for row in rows if row.before is not None and low <= row.before < high]
            print(f"  {low:4g}-{high:<4g}: {table_cell(inside)}")


def table_cell(rows: list[Gain]) -> str:
    """Mean and median gain, how often it exceeds 0.2 dB, and the blur that remains."""
    if not rows:
        return "-"
    values = [row.psnr for row in rows]
    left = [row.after for row in rows if row.after is not None]
    return (
        f"n {len(rows):4d}  gain in dB: mean {fmean(values):+.2f}, median {median(values):+.2f}, "
        f"above 0.2 in {fmean(value > 0.2 for value in values):.0%}; "
        f"length afterwards: median {median(left) if left else math.nan:.1f}"
    )


def gains(model: OpenedModel, blurry: Tensor, sharp: Tensor) -> list[Gain]:
    """Gain of each frame of a clip; blurry and sharp, each (T, 3, H, W)."""
    restored = [round_to_8_bit(f) for f in restore_stream(model.network, blurry, model.window)]
    return [
        Gain(
            estimate_blur(before).length,
            estimate_blur(after).length,
            psnr(after, truth) - psnr(before, truth),
        )
        for before, after, truth in zip(blurry, restored, sharp, strict=True)
    ]


def summary(frames: Iterable[Tensor]) -> str:
    """Estimates over a clip as text."""
    estimates = [estimate_blur(frame) for frame in frames]
    known = [e for e in estimates if e.length is not None]
    if not known:
        return f"{len(estimates)} frames, all unknown"
    lengths = torch.tensor([e.length for e in known])
    worst = torch.tensor([e.worst for e in known])
    return (
        f"{len(estimates):3d} frames, {len(estimates) - len(known)} unknown, px: "
        f"least {float(lengths.min()):.1f}, median {float(lengths.median()):.1f}, "
        f"most {float(lengths.max()):.1f}; worst part, median {float(worst.median()):.1f}; "
        f"confidence {fmean(e.confidence for e in known):.2f}"
    )


def ranks(values: Tensor) -> Tensor:
    """Ranks from 0; ties share their mean rank."""
    _, inverse, counts = values.double().unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts + 1) / 2)[inverse]


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's rank correlation."""
    return float(torch.corrcoef(torch.stack((ranks(one), ranks(other))))[0, 1])


def auc(score: Tensor, positive: Tensor) -> float:
    """Area under the ROC curve: probability that a positive scores above a negative; NaN without
    positives or without negatives.
    """
    count = int(positive.sum())
    if count in (0, len(score)):
        return math.nan
    above = float(ranks(score)[positive].sum()) - count * (count - 1) / 2
    return above / (count * (len(score) - count))


def logs_of(arguments: argparse.Namespace) -> list[OrientationLog]:
    """The recorded orientation logs, if any were given."""
    return [read_orientation_log(path) for path in arguments.shake]


def main() -> None:
    """Run the command that was asked for."""
    parser = parser_for(__doc__)
    parser.add_argument("what", choices=["fit", "check", "gain"])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="photographs")
    parser.add_argument("--shake", type=Path, nargs="*", default=[], help="orientation logs")
    parser.add_argument("--val", type=Path, help="paired sequences")
    parser.add_argument("--clips", type=Path, help="folder of real clips")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--model", default="lite")
    arguments = parser.parse_args()
    at_least(1, samples=arguments.samples, workers=arguments.workers)
    {"fit": fit, "check": check, "gain": gain}[arguments.what](arguments)


if __name__ == "__main__":
    sys.exit(run_program(main))
