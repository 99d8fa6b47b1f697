"""Gain of models on clips compressed by a video codec, at several qualities.

    python benchmarks/coded.py lite core --refined core --polished core --val DATA/val

Encodes the blurry frames of paired sequences as in training (`unsmear.data.codec`), restores the
decoded frames, and compares them with the sharp ones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from unsmear.arguments import weights_named
from unsmear.data.codec import Coding
from unsmear.data.pairs import some_pairs
from unsmear.engines.base import Runnable
from unsmear.evaluate.coded import CodedRecord, coded_lines, measure_coded
from unsmear.evaluate.origin import origin_of
from unsmear.evaluate.programs import parser_for, refuse_repeated, run_program
from unsmear.evaluate.records import record_as_json
from unsmear.models.zoo import load_model
from unsmear.outputs import check_file, write_text
from unsmear.restoration.quality import QualityOptions

CODINGS = (
    None,
    Coding("libx264", 18),
    Coding("libx264", 23),
    Coding("libx264", 28),
    Coding("libx264", 33),
    Coding("mpeg4", 4),
    Coding("mpeg4", 10),
)


def measured(
    names: Sequence[str],
    val: Path,
    title: str,
    refined: Sequence[str] = (),
    polished: Sequence[str] = (),
    reblurred: Sequence[str] = (),
) -> CodedRecord:
    """Measure models, by name or path, on all sequences of a folder.

    Args:
        names: restored with the default settings.
        val: the folder.
        title: of the record.
        refined: models that are also measured with one refinement pass.
        polished: models whose results are also measured polished.
        reblurred: models whose results are also measured polished and reblurred.

    Raises:
        InputError: there are no sequences.
        ModelError: a model cannot be loaded.
        ConfigError: two models have the same name, or one cannot refine.
    """
    sequences = some_pairs(val)
    found: list[tuple[str, tuple[Runnable, int, QualityOptions]]] = []
    for more, asked, quality in (
        ("", names, QualityOptions()),
        (", refined", refined, QualityOptions(refine=1)),
        (", polished", polished, QualityOptions(polish=True)),
        (", reblurred", reblurred, QualityOptions(polish=True, reblur=True)),
    ):
        for one in map(load_model, asked):
            quality.check(one.network)
            found.append((one.name + more, (one.network, one.window, quality)))
    refuse_repeated("model", (label for label, _ in found), "give each file a name of its own")
    models = dict(found)
    scores = measure_coded(models, sequences, CODINGS)
    return CodedRecord(title, scores, origin_of(torch.device("cpu")))


def main() -> None:
    """Measure and print a table."""
    parser = parser_for(__doc__)
    parser.add_argument("models", nargs="+", help="names from `unsmear models`, or files")
    parser.add_argument("--refined", nargs="*", default=[], help="of these also with --refine 1")
    parser.add_argument("--polished", nargs="*", default=[], help="of these also with --polish")
    parser.add_argument(
        "--reblurred", nargs="*", default=[], help="of these also with --polish --reblur"
    )
    parser.add_argument("--val", type=Path, required=True, help="paired sequences")
    parser.add_argument("--title", default="Gain on coded clips")
    parser.add_argument("--json", type=Path, help="also write the record there")
    arguments = parser.parse_args()
    if arguments.json:
        asked = (*arguments.models, *arguments.refined, *arguments.polished, *arguments.reblurred)
        read = map(weights_named, asked)
        check_file(arguments.json, inputs=(arguments.val, *read))
    record = measured(
        arguments.models,
        arguments.val,
        arguments.title,
        arguments.refined,
        arguments.polished,
        arguments.reblurred,
    )
    print("\n".join(coded_lines(record)))
    if arguments.json:
        write_text(arguments.json, record_as_json(record))


if __name__ == "__main__":
    sys.exit(run_program(main))
