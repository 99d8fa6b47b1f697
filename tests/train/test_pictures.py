"""Pictures of a run: the same places of the same frames each time."""

from __future__ import annotations

from pathlib import Path

import torch

from unsmear.data.clips import unknown_clips
from unsmear.data.pairs import PairedSequence
from unsmear.train.pictures import Sample, picture, training_samples, validation_samples
from unsmear.video.images import write_image


def sequence(folder: Path, name: str, frames: int, marked: int) -> PairedSequence:
    """Grey frames of 320x288, each of its number; a part of one differs in the sharp ones."""
    sides = []
    for side in ("blur", "sharp"):
        paths = tuple(folder / name / side / f"{index}.png" for index in range(frames))
        for index, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            image = torch.full((3, 288, 320), index, dtype=torch.uint8)
            if index == marked and side == "sharp":
                image[:, 270:, 300:] = 200
            write_image(path, image)
        sides.append(paths)
    return PairedSequence(name, *sides)


def test_the_middle_frames_of_some_sequences_where_their_blur_is_worst(tmp_path):
    long, short = sequence(tmp_path, "long", 7, 3), sequence(tmp_path, "short", 2, 1)
    chosen = [*validation_samples([long] * 3 + [short] * 2 + [long] * 3, window=5)]
    assert [sample.name for sample in chosen] == ["long", "long", "short", "long"]
    first, last = chosen[0], chosen[2]
    assert first.blurry.shape == first.sharp.shape == (5, 3, 256, 256)
    assert (255 * first.blurry[:, 0, 0, 0]).round().tolist() == [1, 2, 3, 4, 5]
    assert first.shown == 2
    assert (first.sharp[2, 0, -18:, -20:] > 0.7).all()  # the corner that differs is inside
    assert (last.blurry.shape[0], last.shown) == (2, 1)


def test_a_frame_stands_between_what_it_was_and_what_it_should_be():
    blurry, sharp = torch.zeros(2, 3, 3, 16, 24), torch.ones(2, 3, 3, 16, 24)
    samples = [*training_samples(unknown_clips(blurry, sharp))]
    assert [(sample.name, sample.shown) for sample in samples] == [("crop1", 1), ("crop2", 1)]
    weights = torch.tensor([1.0, 0.5, 0.25]).view(3, 1, 1, 1)
    clip = Sample("", torch.ones(3, 3, 16, 24) * weights, torch.ones(3, 3, 16, 24), 1)
    shown = picture(torch.nn.Threshold(0.6, 2.0, inplace=True), clip)
    assert shown.shape == (3, 16, 3 * 24 + 8)
    assert shown[0, 0, [0, 23, 24, 28, 51, 52, 56, 79]].tolist() == [
        128, 128, 255, 255, 255, 255, 255, 255,
    ]  # fmt: skip
