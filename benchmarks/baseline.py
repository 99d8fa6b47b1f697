"""Rows of the zoo against a recurrent network of the ESTRNN kind.

They are trained on the same batches, from the same seeds, and measured after equal steps and after
equal time.

    python benchmarks/baseline.py --data PHOTOS CLIPS --val VAL --steps 100000 --minutes 600
    python benchmarks/baseline.py paper recurrent --precision bfloat16 ...

See `unsmear.train.learner` for the rules. All are trained with the optimiser and the loss of the
preset `plain`: this compares networks, not the schedules of their papers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from torch import nn

from unsmear.evaluate.comparison import Row, Words, comparison_lines
from unsmear.evaluate.programs import parser_for, run_program
from unsmear.models.baseline import RecurrentConfig, RecurrentNetwork, count_recurrent_macs
from unsmear.models.count import count_macs
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import find_entry
from unsmear.train.comparison import add_arguments, compare, measured_row, trainer_of
from unsmear.train.learner import Learner

BASELINE = "recurrent"
WORDS = Words(
    kind="network", base=BASELINE, base_is="the recurrent network of the ESTRNN kind", ours="paper"
)


def build_of(label: str) -> Callable[[], nn.Module]:
    """A function that builds the network of a label: a row of the zoo, or the baseline."""
    if label == BASELINE:
        return partial(RecurrentNetwork, RecurrentConfig())
    return partial(DeblurNetwork, find_entry(label).config)


def macs_of(label: str) -> int:
    """Multiply-accumulates for a frame of 256x256."""
    if label == BASELINE:
        return count_recurrent_macs(RecurrentConfig())
    return count_macs(find_entry(label).config)


def row_of(label: str, peak: int, learners: list[Learner]) -> Row:
    """The row of one network."""
    return measured_row(label, learners, macs=macs_of(label), peak=peak)


def main() -> None:
    """Train, measure, print tables, write the record."""
    parser = parser_for(__doc__)
    parser.add_argument("networks", nargs="*", default=[], help="default: paper plain recurrent")
    parser.add_argument("--title", default="Against a recurrent network of the ESTRNN kind")
    arguments = add_arguments(parser)
    builds = {
        label: build_of(label) for label in arguments.networks or ("paper", "plain", BASELINE)
    }
    windows = {label: find_entry(label).window for label in builds if label != BASELINE}
    told = ", ".join(f"{label} {window} frames" for label, window in windows.items())
    settings = {"windows on val": told} if windows else {}
    train_from = trainer_of(arguments, builds, windows)
    record = compare(arguments, builds, train_from, row_of, settings, WORDS)
    print("\n".join(comparison_lines(record)))


if __name__ == "__main__":
    sys.exit(run_program(main))
