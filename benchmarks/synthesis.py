"""Synthesised training data against real cameras: blur, duty, noise, blocks, clipping.

    python benchmarks/synthesis.py --data PHOTOS --clips BLURRED_VIDEOS --preset lite

Takes crops of frames of real videos and of synthesised clips, measures both in the same way, and
prints the percentiles of each measure side by side. See `unsmear.evaluate.camera` for the measures.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from unsmear.data.degrade import compress
from unsmear.data.light import round_to_8_bit
from unsmear.data.sources import find_training_files
from unsmear.device import usable_cores
from unsmear.errors import ConfigError, InputError
from unsmear.evaluate.camera import (
    CROP,
    CameraMeasures,
    CameraRecord,
    camera_lines,
    measure_camera,
    pieces_of,
    spreads,
)
from unsmear.evaluate.origin import origin_of
from unsmear.evaluate.programs import parser_for, refuse_repeated, run_program
from unsmear.evaluate.records import record_as_json
from unsmear.outputs import check_file, write_text
from unsmear.train.batches import Batches
from unsmear.train.config import Stage, preset
from unsmear.video.reader import VideoReader, count_frames

SYNTHESISED = "synthesised"
_CROPS = 3  # per frame
_SHARES = ("bright_share", "coarse_share")  # 0 in all presets
_BATCH = 6  # clips drawn at a time


def real_pieces(clip: Path, pieces: int, random: torch.Generator) -> Iterator[CameraMeasures]:
    """Measure crops of frames evenly spread over a video, which is decoded to its end.

    Args:
        clip: of at least two frames.
        pieces: approximate number, _CROPS per frame; fewer if the video has too few frames.
        random: for their positions.

    Raises:
        InputError: the video cannot be read, or has fewer than two frames.
    """
    total = count_frames(clip)
    if total < 2:
        raise InputError(f"'{clip}' has {total} frames: at least two are needed")
    wanted = max(round(pieces / _CROPS), 1)
    chosen = {int((index + 0.5) * (total - 1) / wanted) for index in range(wanted)}
    before: Tensor | None = None
    with VideoReader(clip) as reader:
        for number, frame in enumerate(reader):
            if before is not None and number - 1 in chosen:
                for pair in pieces_of(before, frame.rgb, _CROPS, random):
                    yield measure_camera(*pair)
            before = frame.rgb


def coded_name(quality: float) -> str:
    """Name of the synthesis compressed at a quality."""
    return f"{SYNTHESISED}, coded at quality {quality:g}"


def check_names(clips: Sequence[Path], qualities: Sequence[float]) -> None:
    """Raise ConfigError if two sides have the same name: a record could not tell them apart."""
    names = [clip.stem for clip in clips] + [SYNTHESISED, *map(coded_name, qualities)]
    refuse_repeated("side", names, "rename the video, or give each quality once")


def synthesised_pieces(
    batches: Batches, pieces: int, qualities: Sequence[float]
) -> dict[str, list[CameraMeasures]]:
    """Measure at least `pieces` clips of two frames: as the network is fed them, and with
    additional compression at each of the qualities, to compare block artefacts.
    """
    found: dict[str, list[CameraMeasures]] = {SYNTHESISED: []}
    for step in range(-(-pieces // _BATCH)):
        blurry = batches.draw(step).blurry
        found[SYNTHESISED] += [measure_camera(clip[0], clip[1]) for clip in blurry]
        for quality in qualities:
            coded = round_to_8_bit(
                compress(blurry, torch.full((len(blurry),), quality)).clamp(0, 1)
            )
            side = found.setdefault(coded_name(quality), [])
            side += [measure_camera(clip[0], clip[1]) for clip in coded]
    return found


def compare(
    clips: Sequence[Path],
    batches: Batches,
    pieces: int,
    *,
    qualities: Sequence[float] = (),
    seed: int = 0,
    title: str,
) -> CameraRecord:
    """Measure both sides.

    Args:
        clips: real videos; each is a side of its own, with an equal number of pieces.
        batches: of two frames each, see `open_batches`.
        pieces: approximate number for all videos together, and for the synthesis.
        qualities: see `synthesised_pieces`; on libjpeg's scale.
        seed: for their positions.
        title: of the record.

    Raises:
        ConfigError: two sides have the same name.
    """
    check_names(clips, qualities)
    random = torch.Generator().manual_seed(seed)
    sides: dict[str, list[CameraMeasures]] = {}
    for clip in clips:
        sides[clip.stem] = list(real_pieces(clip, pieces // len(clips), random))
    sides |= synthesised_pieces(batches, pieces, qualities)
    measured = {name: spreads(found) for name, found in sides.items()}
    counts = {name: len(found) for name, found in sides.items()}
    return CameraRecord(title, counts, measured, origin_of(torch.device("cpu")))


def open_batches(
    data: Sequence[Path],
    shake: Sequence[Path],
    name: str,
    seed: int,
    shares: Mapping[str, float] | None = None,
) -> Batches:
    """What training with a preset synthesises from these folders, as crops of two frames. They are
    larger than those that `lite` learns from, since estimating blur needs 128 pixels or more.

    Args:
        data: folders of training data.
        shake: orientation logs.
        name: of the preset.
        seed: of the batches.
        shares: of the synthesis, instead of the preset's.
    """
    config = preset(name)
    config = replace(
        config,
        synthesis=replace(config.synthesis, **(shares or {})),
        stages=(Stage(steps=1, clips=_BATCH, frames=2, crop=CROP),),
        shards=1,
        seed=seed,
    )
    files = replace(find_training_files(data), pairs=())  # recorded, not synthesised
    return Batches(config, files, shake, torch.device("cpu"), usable_cores())


def main() -> None:
    """Measure and print a table."""
    parser = parser_for(__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="of training")
    parser.add_argument("--clips", type=Path, nargs="+", required=True, help="blurred real videos")
    parser.add_argument("--shake", type=Path, nargs="*", default=[], help="orientation logs")
    parser.add_argument("--preset", default="lite")
    for share in _SHARES:
        flag = f"--{share.replace('_', '-')}"
        parser.add_argument(flag, type=float, help="default: the preset's")
    parser.add_argument("--pieces", type=int, default=600, help="of all videos, and of synthesis")
    parser.add_argument(
        "--quality", type=float, nargs="*", default=[], help="also code the synthesis at these"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the record there")
    arguments = parser.parse_args()
    if arguments.pieces < len(arguments.clips):
        raise ConfigError(f"pieces is {arguments.pieces}: at least one a clip")
    for quality in arguments.quality:
        if not 1 <= quality <= 100:
            raise ConfigError(f"quality is {quality:g}: 1 to 100, as libjpeg counts it")
    check_names(arguments.clips, arguments.quality)
    if arguments.json:
        read = (*arguments.data, *arguments.clips, *arguments.shake)
        check_file(arguments.json, inputs=read)
    asked = {share: getattr(arguments, share) for share in _SHARES}
    shares = {share: value for share, value in asked.items() if value is not None}
    batches = open_batches(
        arguments.data, arguments.shake, arguments.preset, arguments.seed, shares
    )
    changed = "".join(f", {share.replace('_', ' ')} {value:g}" for share, value in shares.items())
    title = f"Preset `{arguments.preset}`{changed} against real video"
    record = compare(
        arguments.clips,
        batches,
        arguments.pieces,
        qualities=arguments.quality,
        seed=arguments.seed,
        title=title,
    )
    print("\n".join(camera_lines(record)))
    if arguments.json:
        write_text(arguments.json, record_as_json(record))


if __name__ == "__main__":
    sys.exit(run_program(main))
