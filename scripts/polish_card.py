"""Write the model card of the weights that polish restored frames, from records of evaluations.

    unsmear eval --data val --niqe -m core --polish --json RESULTS/eval-core-polished.json
    python scripts/polish_card.py --photographs STILLS.tsv --command "..." --out CARDS/polish.md
    unsmear eval --data val --niqe -m core --polish --reblur --json RESULTS/eval-core-reblurred.json
    python scripts/polish_card.py --told ... --out CARDS/polish-told.md

RESULTS is `benchmarks/results`, CARDS `model_cards`, STILLS.tsv the table of credits. With --told,
it is the card of the network of `--polish --reblur`, which is told what reblurring finds. Beside
each `eval-NAME-polished.json` there must be `eval-NAME.json`, of the same weights. Without --out,
the card is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

from unsmear.errors import ConfigError
from unsmear.evaluate.cards import commands_of, credit_lines, read_text, training_runs
from unsmear.evaluate.programs import files_in, run_program
from unsmear.evaluate.report import markdown_table
from unsmear.models.checkpoint import digest_of, load_polish_weights
from unsmear.models.count import count_parameters, macs_of
from unsmear.models.polish import PolishConfig, PolishNetwork
from unsmear.models.zoo import POLISH_WEIGHTS, TOLD_WEIGHTS, ZOO
from unsmear.outputs import check_file, write_text

RECORDS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


class Subject(NamedTuple):
    """What a card is about.

    Attributes:
        weights: file of the network.
        ending: of the names of the evaluations with it.
        options: that make use of it.
        what: it does, in words.
    """

    weights: Path
    ending: str
    options: str
    what: str


PLAIN = Subject(POLISH_WEIGHTS, "-polished", "--polish", "Corrects what the burst step fused")
TOLD = Subject(
    TOLD_WEIGHTS,
    "-reblurred",
    "--polish --reblur",
    "Corrects what the burst step fused, and is told what blurring the result again finds",
)


def gain_table(records: Path, digest: str, ending: str) -> list[str]:
    """Markdown table: gains of each model by default and polished, and the frame that polishing
    changes for the worse most, or for the better least.

    Args:
        records: folder of evaluations.
        digest: of the weights.
        ending: of the names of those with these weights.

    Raises:
        InputError: there are no evaluations.
        ConfigError: two evaluations are not of the same weights.
    """
    order = list(ZOO)
    paths = files_in(records, f"eval-*{ending}.json")
    names = [path.stem[len("eval-") : -len(ending)] for path in paths]
    rows, sequences = [], []
    for name in sorted(names, key=lambda name: order.index(name) if name in order else len(order)):
        plain, polished = (
            json.loads((records / f"eval-{name}{end}.json").read_text(encoding="utf-8"))
            for end in ("", ending)
        )
        model, other = plain["model"], polished["model"]
        if model["digest"] != other["digest"] or other["polish"] != digest:
            raise ConfigError(f"eval-{name}{ending}.json is of other weights: measure again")
        sequences = [sequence["name"] for sequence in plain["sequences"]]
        cells, changes = [], []
        for before, after in zip(plain["sequences"], polished["sequences"], strict=True):
            cells.append(f"{_gain(before):+.2f} -> {_gain(after):+.2f}")
            frames = zip(before["scores"], after["scores"], strict=True)
            changes += [new["psnr"] - old["psnr"] for old, new in frames]
        rows.append([f"`{name}`", *cells, f"{min(changes):+.2f}"])
    return markdown_table(["model", *sequences, "worst frame"], rows)


def training_of(shape: PolishConfig) -> str:
    """How weights of a polishing network of this shape are trained from random ones, in words."""
    usual = PolishConfig()
    options = [
        *(["--told"] if shape.told else []),
        *([f"--blocks {shape.blocks}"] if shape.blocks != usual.blocks else []),
        *([f"--deep-blocks {shape.deep_blocks}"] if shape.deep_blocks != usual.deep_blocks else []),
    ]
    command = " ".join(["python scripts/train_polish.py", *options, "--data DATA/train"])
    told = f"`{command} --shake LOG ... --val DATA/val` trains such weights from random ones"
    if shape.passes == 1:
        return f"{told}."
    return (
        f"{told}; the same with `--passes {shape.passes} --weights OUT/weights.safetensors` and "
        "another `--out` teaches them to correct their own result."
    )


def _gain(sequence: dict[str, Any]) -> float:
    return float(sequence["psnr"] - sequence["psnr_before"])


def card(arguments: argparse.Namespace) -> str:
    """The card."""
    if arguments.out:
        check_file(arguments.out, inputs=(arguments.photographs, arguments.notes))
    commands = commands_of(read_text(arguments.after)) if arguments.after else []
    subject = TOLD if arguments.told else PLAIN
    network, origin = load_polish_weights(subject.weights)
    runs = training_runs(origin, commands + arguments.command)
    notes = read_text(arguments.notes).splitlines() if arguments.notes else []
    shape = network.config
    macs = macs_of(lambda: PolishNetwork(shape)(torch.empty(1, shape.channels, 256, 256)))
    macs *= shape.passes
    passes = f" in {shape.passes} passes" if shape.passes > 1 else ""
    return "\n".join(
        [
            f"# {subject.weights.stem}",
            "",
            f"{subject.what}, after any network: `unsmear CLIP {subject.options}`. "
            f"{count_parameters(network) / 1e6:.2f} M parameters, {macs / 1e9:.2f} GMAC a frame at "
            f"256x256{passes} and the kernels that it predicts. Licence of the weights: "
            "Apache-2.0.",
            "",
            "## Results",
            "",
            f"Gain in dB over the blurry frames, by default and with `{subject.options}`, on the "
            "sequences of the other cards.",
            "",
            *gain_table(RECORDS, digest_of(network), subject.ending),
            "",
            f"- **worst frame**: the smallest change of a frame's PSNR by `{subject.options}`",
            "",
            f"From the records `benchmarks/results/eval-*{subject.ending}.json`, which name "
            "machine, command and date; [docs/results.md](../docs/results.md) shows them.",
            "",
            *notes,
            "",
            "## Training",
            "",
            *runs,
            training_of(shape),
            "",
            *credit_lines(arguments.photographs),
        ]
    )


def main() -> None:
    """Print or write the card."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--told", action="store_true", help="the network of --polish --reblur")
    parser.add_argument("--photographs", type=Path, required=True, help="table of credits, TSV")
    parser.add_argument(
        "--command", nargs="+", required=True, help="that trained the weights, in order"
    )
    parser.add_argument(
        "--after", type=Path, help="card of the weights they started from; its commands come first"
    )
    parser.add_argument("--notes", type=Path, help="Markdown to include: hand-written sections")
    parser.add_argument("--out", type=Path, help="file for the card; default: print it")
    arguments = parser.parse_args()
    text = card(arguments) + "\n"
    if arguments.out:
        write_text(arguments.out, text)
    else:
        print(text, end="")


if __name__ == "__main__":
    sys.exit(run_program(main))
