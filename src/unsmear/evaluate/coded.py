"""Gain on compressed video, which nearly all real clips are: compression removes noise, and with it
the easiest part of the gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from unsmear.data.codec import Coding, code_clip
from unsmear.data.light import round_to_8_bit
from unsmear.data.pairs import PairedSequence
from unsmear.engines.base import Runnable
from unsmear.evaluate.metrics import psnr
from unsmear.evaluate.origin import Origin
from unsmear.evaluate.report import markdown_table
from unsmear.evaluate.validation import read_frames
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.stream import restore_stream


@dataclass(frozen=True)
class CodedScore:
    """PSNR of one sequence at one coding, against the sharp frames: dB, mean over frames.

    Attributes:
        sequence: name of the sequence.
        coding: see `name_of`.
        before: PSNR of the coded blurry frames.
        after: PSNR of the restored frames, by model.
    """

    sequence: str
    coding: str
    before: float
    after: dict[str, float]


@dataclass(frozen=True)
class CodedRecord:
    """The record of `benchmarks/coded.py`.

    Attributes:
        title: of the record.
        scores: one for each sequence and coding.
        origin: machine, versions, command and date.
    """

    title: str
    scores: tuple[CodedScore, ...]
    origin: Origin


def name_of(coding: Coding | None) -> str:
    """A coding in words; None: `not coded`."""
    if coding is None:
        return "not coded"
    kind = "quantiser" if coding.encoder == "mpeg4" else "crf"
    return f"{coding.encoder}, {kind} {coding.quality}"


def measure_coded(
    models: Mapping[str, tuple[Runnable, int, QualityOptions]],
    sequences: Sequence[PairedSequence],
    codings: Sequence[Coding | None],
) -> tuple[CodedScore, ...]:
    """Encode and decode the blurry frames, restore them, and compare them with the sharp ones: RGB,
    rounded to 8 bits, no crop.

    Args:
        models: by name: an engine, or a network in evaluation mode; its window; its options.
        sequences: to measure on.
        codings: used for every sequence; None: not coded.
    """
    scores = []
    for sequence in sequences:
        blurry = torch.stack([*read_frames(sequence.blurry)])  # `code_clip` takes a whole clip
        for coding in codings:
            seen = blurry if coding is None else code_clip(blurry, coding)
            after = {
                name: _mean_psnr(restore_stream(model, seen, window, quality=quality), sequence)
                for name, (model, window, quality) in models.items()
            }
            before = _mean_psnr(seen, sequence)
            scores.append(CodedScore(sequence.name, name_of(coding), before, after))
    return tuple(scores)


def _mean_psnr(frames: Iterable[Tensor], sequence: PairedSequence) -> float:
    """Mean PSNR of frames against the sharp ones, one by one; the sharp frames are read each time,
    to save memory.
    """
    both = zip(frames, read_frames(sequence.sharp), strict=True)
    return fmean(psnr(round_to_8_bit(frame.cpu()), sharp) for frame, sharp in both)


def coded_lines(record: CodedRecord) -> list[str]:
    """The record as a Markdown table: one row per coding, with the gain of each model on each
    sequence.
    """
    sequences = list(dict.fromkeys(score.sequence for score in record.scores))
    models = list(record.scores[0].after)
    header = ["blurry frames"]
    for sequence in sequences:
        header += [f"{sequence}: PSNR", *models]
    rows = []
    for coding in dict.fromkeys(score.coding for score in record.scores):
        row = [coding]
        for sequence in sequences:
            score = next(s for s in record.scores if (s.sequence, s.coding) == (sequence, coding))
            row += [f"{score.before:.2f}"]
            row += [_gain(score.before, score.after[model]) for model in models]
        rows.append(row)
    equal = any(math.isinf(score.before) for score in record.scores)
    return [
        "PSNR of the blurry frames against the sharp ones, and the gain of each model, dB"
        + (
            "; `to`: PSNR after restoration, where the input equals the sharp frames."
            if equal
            else "."
        ),
        "",
        *markdown_table(header, rows),
    ]


def _gain(before: float, after: float) -> str:
    """A cell: the gain, or the PSNR after restoration if the PSNR before is infinite."""
    return f"to {after:.2f}" if math.isinf(before) else f"{after - before:+.2f}"
