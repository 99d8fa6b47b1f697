"""Store weights in eight bits for a release, about half the size of what `unsmear train` saves.

    python scripts/pack_weights.py runs/paper/weights.safetensors paper.safetensors --bits 6

Fewer bits than eight make the file smaller only where it is compressed, as in Git and in wheels.
Measure the quality of the packed weights again: `unsmear eval -m paper.safetensors`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from unsmear.errors import OutputError
from unsmear.evaluate.programs import run_program
from unsmear.models.checkpoint import load_any_weights, save_weights
from unsmear.outputs import check_file


def repack(source: Path, target: Path, bits: int) -> float:
    """Write the weights of `source` to `target` in eight bits, rounded to `bits`.

    Returns:
        The largest change of a weight, as a fraction of the largest weight of its tensor.

    Raises:
        ConfigError: `bits` is not from 2 to 8.
        ModelError: `source` is not a weights file.
    """
    network, provenance = load_any_weights(source)
    save_weights(target, network.config, network.state_dict(), provenance, torch.int8, bits)
    after = load_any_weights(target)[0].state_dict()
    return max(
        float((after[key] - value).abs().max() / value.abs().max().clamp_min(1e-12))
        for key, value in network.state_dict().items()
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--bits", type=int, default=8, help="2 to 8; default: 8")
    given = parser.parse_args()
    if given.target.exists():
        raise OutputError(f"'{given.target}' exists: name another file, or remove it first")
    check_file(given.target, inputs=(given.source,), suffixes=(".safetensors",))
    change = repack(given.source, given.target, given.bits)
    sizes = [path.stat().st_size / 1e6 for path in (given.source, given.target)]
    print(f"{sizes[0]:.1f} MB -> {sizes[1]:.1f} MB, weights change by up to {change:.2%}")


if __name__ == "__main__":
    sys.exit(run_program(main))
