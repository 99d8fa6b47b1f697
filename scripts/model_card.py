"""Write the model card of released weights: their measured quality, training and data.

python scripts/model_card.py lite --val DATA/val --photographs DATA/train/stills.tsv \
        --command "unsmear train --preset lite ..." --out model_cards/lite.md

Without --out, the card is printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from runpy import run_path
from statistics import fmean

import torch

from unsmear.data.pairs import some_pairs
from unsmear.engines.eight_bit import eight_bit_path, load_eight_bit
from unsmear.evaluate.cards import commands_of, credit_lines, read_text, training_runs
from unsmear.evaluate.origin import origin_of
from unsmear.evaluate.programs import parser_for, run_program
from unsmear.evaluate.report import markdown_table
from unsmear.evaluate.validation import SequenceScore, measure
from unsmear.models.count import count_macs, count_parameters
from unsmear.models.zoo import ZOO, load_model
from unsmear.outputs import check_file, write_text
from unsmear.restoration import DEFAULT_BURST
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.views import ENSEMBLES

RETRAIN = Path(__file__).with_name("retrain.py")


def score_table(scores: list[SequenceScore], alone: list[SequenceScore]) -> list[str]:
    """Markdown table: a row for each sequence, then the mean over all frames.

    Args:
        scores: with SSIM, by the default settings.
        alone: of the network alone, without burst.
    """
    frames = [score.frames for score in scores]

    def mean(values: Iterable[float | None]) -> float:
        return fmean((value or 0.0 for value in values), weights=frames)

    whole = SequenceScore(
        name="**all frames**",
        frames=sum(frames),
        psnr_before=mean(score.psnr_before for score in scores),
        psnr_after=mean(score.psnr_after for score in scores),
        ssim_before=mean(score.ssim_before for score in scores),
        ssim_after=mean(score.ssim_after for score in scores),
        worst_gain=min(score.worst_gain for score in scores),
    )
    networks = [score.psnr_after for score in alone]
    rows = [
        [
            score.name,
            str(score.frames),
            f"{score.psnr_before:.2f}",
            f"{network:.2f}",
            f"{score.psnr_after:.2f}",
            f"{score.gain:+.2f}",
            f"{score.worst_gain:+.2f}",
            f"{score.ssim_before:.4f}",
            f"{score.ssim_after:.4f}",
        ]
        for score, network in zip([*scores, whole], [*networks, mean(networks)], strict=True)
    ]
    headings = [
        "sequence", "frames", "PSNR blurry", "network alone", "restored", "gain", "worst frame",
        "SSIM blurry", "SSIM restored",
    ]  # fmt: skip
    return markdown_table(headings, rows)


def option_table(scores_by_options: Mapping[str, list[SequenceScore]]) -> list[str]:
    """Markdown table of gains by command-line options.

    Args:
        scores_by_options: scores, by options as shown.
    """
    names = [score.name for score in next(iter(scores_by_options.values()))]
    rows = [
        [options, *(f"{score.gain:+.2f}" for score in scores)]
        for options, scores in scores_by_options.items()
    ]
    return markdown_table(["", *names], rows)


def option_text(refines: bool) -> str:
    """Description of the options in the table of `option_table`.

    Args:
        refines: whether the network aligns neighbours, so that `--refine` works.
    """
    refine = (
        "`--refine N` runs the network N more times, on its own results; each time adds more than "
        "half of the time of the first. "
    )
    return (
        "Gain in dB over the blurry frames where restoration may take longer. "
        + (refine if refines else "")
        + "`--ensemble N` averages the results for N views of each frame (as it is, rotated, "
        "mirrored) and takes N times as long."
    )


def retraining(row: str, commands: list[str]) -> list[str]:
    """How `scripts/retrain.py` trains a model again.

    Args:
        row: of the zoo.
        commands: those that trained the weights. If they used orientation logs, the new command
            does too.
    """
    recipe = run_path(str(RETRAIN))["RECIPES"][row]
    first = recipe[0]
    start = f"the released `{first[first.index('--weights') + 1]}`" if "--weights" in first else ""
    shake = "--shake LOG ... " if any("--shake" in command for command in commands) else ""
    taught = {run[run.index("--teacher") + 1] for run in recipe if "--teacher" in run}
    by = "".join(f", with the released `{teacher}` as a teacher" for teacher in sorted(taught))
    runs = "one run" if len(recipe) == 1 else f"{len(recipe)} runs"
    return [
        f"`python scripts/retrain.py {row} --data DATA/train {shake}--val DATA/val` trains this "
        f"model again: {runs}, from {start or 'random weights'}{by}."
    ]


def eight_bit_lines(model: str) -> list[str]:
    """What 8-bit graphs lose, as `unsmear quantize` measured it; empty if the model has none."""
    path = eight_bit_path(ZOO[model].weights)
    if not path.is_file():
        return []
    _, origin = load_eight_bit(path)
    clips = ", ".join(f"{name} ({frames} frames)" for name, frames in origin.calibrated_on.items())
    versions = ", ".join(f"{name} {number}" for name, number in origin.versions.items())
    rows = [
        [name, f"{full:.2f}", f"{eight:.2f}", f"{eight - full:+.3f}"]
        for name, (full, eight) in origin.scores.items()
    ]
    return [
        "## In eight bits",
        "",
        "The engine `openvino-int8` runs blocks of this network in eight bits. Stem, upsampling "
        "and head stay in float32, and so do blocks with which a sequence would lose 0.1 dB. PSNR "
        "on the same sequences:",
        "",
        *markdown_table(["sequence", "float32", "eight bits", "difference"], rows),
        "",
        "Value ranges that fit these sequences may not fit others (see docs/export.md), so "
        "`--engine auto` never uses this engine.",
        "",
        f"Made by `unsmear quantize {model}`, with value ranges from {clips}; {versions}.",
        "",
    ]


def main() -> None:
    """Measure, and print or write."""
    parser = parser_for(__doc__)
    parser.add_argument("model", choices=list(ZOO))
    parser.add_argument("--val", type=Path, help="paired sequences")
    parser.add_argument("--photographs", type=Path, help="table of credits, TSV")
    parser.add_argument("--command", nargs="+", help="commands that trained the weights, in order")
    parser.add_argument(
        "--after", type=Path, help="card of the weights they started from; its commands come first"
    )
    parser.add_argument("--notes", type=Path, help="Markdown to include: hand-written sections")
    parser.add_argument("--out", type=Path, help="file for the card; default: print it")
    arguments = parser.parse_args()
    if not (arguments.val and arguments.photographs and arguments.command):
        parser.error("to measure, give --val, --photographs and --command")
    text = card(arguments) + "\n"
    if arguments.out:
        write_text(arguments.out, text)
    else:
        print(text, end="")


def card(arguments: argparse.Namespace) -> str:
    """Measure and return the card. Mistakes are reported before anything is measured."""
    if arguments.out:
        check_file(arguments.out, inputs=(arguments.val, arguments.photographs, arguments.notes))
    commands = commands_of(read_text(arguments.after)) if arguments.after else []
    commands += arguments.command
    where = origin_of(torch.device("cpu"))
    loaded, entry = load_model(arguments.model), ZOO[arguments.model]
    runs = training_runs(loaded.provenance, commands)
    notes = read_text(arguments.notes).splitlines() if arguments.notes else []
    credited = credit_lines(arguments.photographs)
    sequences = some_pairs(arguments.val)
    network = loaded.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    began = time.monotonic()
    alone = measure(network, sequences, loaded.window, with_ssim=False)
    scores = measure(network, sequences, loaded.window, with_ssim=True, quality=QualityOptions())
    slower = {
        f"`--refine {refine}`": QualityOptions(refine=refine)
        for refine in ((1, 2) if entry.config.aligned_levels else ())
    }
    slower |= {f"`--ensemble {views}`": QualityOptions(ensemble=views) for views in ENSEMBLES[1:]}
    scores_by_options = {"default": scores} | {
        options: measure(network, sequences, loaded.window, with_ssim=False, quality=quality)
        for options, quality in slower.items()
    }
    lines = [
        f"# {arguments.model}",
        "",
        f"{entry.summary[0].upper()}{entry.summary[1:]}. {count_parameters(network) / 1e6:.2f} M "
        f"parameters, {count_macs(entry.config) / 1e9:.2f} GMAC a frame at 256x256, window "
        f"{entry.window}. Licence of the weights: Apache-2.0.",
        "",
        "## Results",
        "",
        "PSNR and SSIM of RGB frames, rounded to 8 bits, not cropped; means over frames. SSIM uses "
        "an 11x11 window with sigma 1.5. The sequences are real footage of 640x384, blurred by "
        "flow-interpolated motion and recorded hand shake, with sensor noise. They were never "
        "trained on.",
        "",
        *score_table(scores, alone),
        "",
        "- **restored**: by the default settings, with which each restored frame is fused with "
        f"{DEFAULT_BURST} restored neighbours on each side (`--burst {DEFAULT_BURST}`)",
        "- **network alone**: without this fusion (`--burst 0`)",
        "- **worst frame**: the smallest gain of a single frame",
        "",
        option_text(refines=bool(entry.config.aligned_levels)),
        "",
        *option_table(scores_by_options),
        "",
        f"Measured by `scripts/model_card.py` on {where.date}, in "
        f"{time.monotonic() - began:.0f} s on {where.machine}, {where.versions}.",
        "",
        *eight_bit_lines(arguments.model),
        *notes,
        "",
        "## Training",
        "",
        "These runs led to the weights. The first started from random weights, each later one from "
        "the weights of the run before. The numbers are those of this list; "
        "[LADDER.md](LADDER.md) has its own.",
        "",
        *runs,
        *retraining(arguments.model, commands),
        "",
        "Blur is synthesised (`unsmear.data.synthesis`). The commands are those that ran, with the "
        "present names of models that were renamed since. Presets have changed since as well: "
        f"`python scripts/retrain.py {arguments.model} --print` shows the commands of today. The "
        "header of the weights file has all settings of all runs:",
        '`python -c "from unsmear.models.zoo import load_model; '
        f"print(load_model('{arguments.model}').provenance)\"`.",
        "",
        *credited,
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_program(main))
