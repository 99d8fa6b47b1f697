"""Interpolate between the initial weights of a training run and its result.

    python scripts/mix_weights.py START.safetensors TUNED.safetensors MIXED.safetensors --share 0.4

A run that continues on other data gains there and may lose elsewhere; weights in between often keep
most of both. Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from unsmear.errors import ConfigError
from unsmear.evaluate.programs import run_program
from unsmear.models.checkpoint import Provenance, load_weights, save_weights
from unsmear.outputs import check_file


def mix(start: Path, tuned: Path, target: Path, share: float) -> None:
    """Write (1 - share) * start + share * tuned.

    Raises:
        ModelError: a file is not a weights file.
        ConfigError: the share is not between 0 and 1, or the second was not trained from the first.
    """
    if not 0 < share < 1:
        raise ConfigError(f"share is {share}: must lie between 0 and 1")
    first, before = load_weights(start)
    second, after = load_weights(tuned)
    start_of = after.parent and Provenance.from_record(after.parent).unmeasured
    follows = start_of == before.unmeasured
    if first.config != second.config or not follows:
        raise ConfigError(f"'{tuned}' was not trained from '{start}': weights between do not mix")
    weights = second.state_dict()
    mixed = {key: value.lerp(weights[key], share) for key, value in first.state_dict().items()}
    save_weights(target, first.config, mixed, dataclasses.replace(after, mixed=share))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("start", type=Path)
    parser.add_argument("tuned", type=Path, help="trained with --weights START")
    parser.add_argument("target", type=Path)
    parser.add_argument("--share", type=float, required=True, help="of the tuned ones")
    parser.add_argument("--overwrite", action="store_true", help="replace a target that exists")
    given = parser.parse_args()
    check_file(
        given.target,
        inputs=(given.start, given.tuned),
        suffixes=(".safetensors",),
        overwrite=given.overwrite,
    )
    mix(given.start, given.tuned, given.target, given.share)


if __name__ == "__main__":
    sys.exit(run_program(main))
