"""Fit the model of sharp photographs that NIQE compares with, and check how it behaves.

python scripts/fit_niqe.py fit --data DATA/train     # writes src/unsmear/evaluate/niqe.json
python scripts/fit_niqe.py check --data DATA/train   # on photographs that the fit did not see
python scripts/fit_niqe.py check --pairs DATA/val    # on the sharp frames of paired sequences

One in ten photographs is held out of the fit; `check --data` uses only these. The file contains
only the mean and covariance of 36 statistics, and no image data.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.data.degrade import compress
from unsmear.data.light import linear_from_srgb, srgb_from_linear
from unsmear.data.pairs import some_pairs
from unsmear.data.sources import find_training_files, load_photograph
from unsmear.device import use_threads
from unsmear.errors import InputError
from unsmear.evaluate.niqe import (
    FITTED,
    PATCH,
    PristineModel,
    gaussian_of,
    has_room,
    load_model,
    model_as_json,
    niqe,
    sharp_features,
)
from unsmear.evaluate.origin import origin_of
from unsmear.evaluate.programs import parser_for, run_program
from unsmear.outputs import check_file, write_text
from unsmear.restoration.sharpness import luma_of
from unsmear.video.images import unit_from_integer

HELD_OUT = 10
LONGEST_SIDE = 1280


def photographs(folder: Path) -> tuple[list[Path], list[Path]]:
    """Photographs to fit on, and held-out ones."""
    paths = sorted(find_training_files([folder]).photographs)
    held_out = paths[::HELD_OUT]
    del paths[::HELD_OUT]
    return paths, held_out


def read(path: Path) -> Tensor:
    """Read a photograph: (3, H, W), float, 0..1."""
    return unit_from_integer(load_photograph(path, LONGEST_SIDE))


def fit(folder: Path, target: Path) -> None:
    """Fit the model and write it.

    Raises:
        InputError: no photograph is large enough.
        OutputError: the model cannot be written.
    """
    check_file(target, inputs=(folder,))
    paths, held_out = photographs(folder)
    features = []
    for path in paths:
        frame = read(path)
        if min(frame.shape[-2:]) >= PATCH:
            features.append(sharp_features(255 * luma_of(frame)))
    if not features:
        raise InputError(f"no photograph below '{folder}' to fit on has {PATCH} pixels a side")
    patches = torch.cat(features)
    told: dict[str, str | int] = {
        "photographs": len(features),
        "patches": len(patches),
        "held out": len(held_out),
        "origin": origin_of(torch.device("cpu")).line,
        "remark": "CC0, public domain and CC-BY photographs, short side up to 640 pixels; not "
        "those of the paper: values are not comparable with published ones",
    }
    write_text(target, model_as_json(gaussian_of(patches), told))
    print(f"{len(patches):,} patches of {len(features)} photographs: {target.name}")


def smeared(frame: Tensor, pixels: int) -> Tensor:
    """Horizontal motion blur in linear light, as of a panning camera."""
    half = pixels // 2
    light = functional.pad(linear_from_srgb(frame)[None], (half, half, 0, 0), "replicate")[0]
    return srgb_from_linear(light.unfold(-1, pixels, 1).mean(dim=-1))


def noisy(frame: Tensor, deviation: float) -> Tensor:
    """White noise; the deviation is in code values."""
    drawn = torch.randn(frame.shape, generator=torch.Generator().manual_seed(0))
    return (frame + deviation / 255 * drawn).clamp(0, 1)


def coded(frame: Tensor, quality: float) -> Tensor:
    """JPEG artefacts."""
    return compress(frame[None, None], torch.tensor([quality]))[0, 0].clamp(0, 1)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "as they are": lambda frame: frame,
    **{f"smeared by {n} pixels": partial(smeared, pixels=n) for n in (3, 5, 9, 15)},
    **{f"noise of {n} code values": partial(noisy, deviation=n) for n in (2, 5, 10, 25)},
    **{f"JPEG-like, quality {n}": partial(coded, quality=n) for n in (60, 30, 10)},
}


def check(title: str, paths: Sequence[Path], model: PristineModel) -> None:
    """Print NIQE of images, unchanged and degraded. Images that are too small are left out. An
    image counts if both values are defined.

    Raises:
        InputError: there are no images, none is large enough, or none has any texture.
    """
    if not paths:
        raise InputError(f"{title}: no photographs to check on")
    frames = [frame for frame in map(read, paths) if has_room(frame.shape[-1], frame.shape[-2])]
    small = len(paths) - len(frames)
    if not frames:
        raise InputError(f"{title}: none of {small} pictures is large enough to be told of")
    left_out = f", {small} more are too small" if small else ""
    print(f"{title}, {len(frames)} pictures{left_out}:")
    base = [niqe(frame, model) for frame in frames]
    if all(before is None for before in base):
        raise InputError(f"{title}: no picture has any texture to tell of")
    for name, change in CHANGES.items():
        values = (niqe(change(frame), model) for frame in frames)
        pairs = [
            (value, before)
            for value, before in zip(values, base, strict=True)
            if value is not None and before is not None
        ]
        if not pairs:
            print(f"{name}: no picture has any texture left")
            continue
        known = [value for value, _ in pairs]
        worse = fmean(value > before for value, before in pairs)
        print(
            f"{name}: mean {fmean(known):.2f}, median {median(known):.2f}, "
            f"worse than as it was: {100 * worse:.0f} % of {len(known)}"
        )


def main() -> None:
    """Fit or check."""
    parser = parser_for(__doc__)
    parser.add_argument("work", choices=("fit", "check"))
    parser.add_argument("--data", type=Path, help="folder of photographs")
    parser.add_argument("--pairs", type=Path, help="folder of blurry and sharp sequences")
    parser.add_argument("--model", type=Path, default=FITTED, help="written, or checked")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    if arguments.work == "fit":
        if arguments.data is None:
            parser.error("fit needs --data")
        fit(arguments.data, arguments.model)
        return
    if arguments.data is None and arguments.pairs is None:
        parser.error("check needs --data, --pairs or both")
    pairs = some_pairs(arguments.pairs) if arguments.pairs is not None else []
    model = load_model(arguments.model)
    if arguments.data is not None:
        check("held out", photographs(arguments.data)[1], model)
    for pair in pairs:
        check(pair.name, pair.sharp, model)


if __name__ == "__main__":
    sys.exit(run_program(main))
