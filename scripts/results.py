"""Write docs/results.md from the records in benchmarks/results, so that no figure is typed by hand.

    python scripts/results.py            # writes the page
    python scripts/results.py --check    # fails if the page does not match the records

Records (a Markdown file of the same name beside a record holds notes on it):

    eval-*.json             `unsmear eval ... --json`
    eval-gopro-*.json       of these, evaluations on GOPRO: rows of Table 1
    eval-NAME-window-N.json of these, one network with several windows: one table
    fusion-*.json           benchmarks/fusion.py
    attention-*.json        benchmarks/attention_use.py
    baseline-*.json         benchmarks/baseline.py
    ablation-*.json         benchmarks/ablation.py
    synthesis-*.json        benchmarks/synthesis.py
    coded-*.json            benchmarks/coded.py
    bench-*.json            `unsmear bench --json`
    windows-*.json          benchmarks/windows.py
    dense-*.json            benchmarks/attention.py
    memory-*.json           benchmarks/memory.py

The comparison of released networks uses `eval-NAME.json` and the `bench-*.json` of 1280x720.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from unsmear.deploy.records import (
    BenchRecord,
    MemoryRecord,
    WindowRecord,
    bench_lines,
    memory_lines,
    window_lines,
)
from unsmear.evaluate.camera import CameraRecord, camera_lines
from unsmear.evaluate.coded import CodedRecord, coded_lines
from unsmear.evaluate.comparison import comparison_from_json, comparison_lines
from unsmear.evaluate.dense import DenseRecord, dense_lines
from unsmear.evaluate.front import FrontRow, front_lines
from unsmear.evaluate.metrics import gain
from unsmear.evaluate.origin import Origin
from unsmear.evaluate.report import markdown_table, measured_row, table_1
from unsmear.models.count import count_macs, count_parameters
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import ZOO

WINDOWED = re.compile(r"eval-(?P<name>.+)-window-(?P<window>\d+)")
MOVING, STILL = ("walk_a", "walk_b"), "dog"  # sequences
TIMED_SIZE = (1280, 720)
ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"
COMPARISONS = {
    "fusion": "Fusion techniques",
    "baseline": "Against a recurrent network",
    "ablation": "Parts of the network",
}
COLUMNS = (
    ("PSNR blurry", "psnr_before", "{:.2f}"),
    ("PSNR restored", "psnr", "{:.2f}"),
    ("SSIM blurry", "ssim_before", "{:.4f}"),
    ("SSIM restored", "ssim", "{:.4f}"),
    ("flicker blurry", "flicker_before", "{:.2f}"),
    ("flicker restored", "flicker", "{:.2f}"),
    ("NIQE blurry", "niqe_before", "{:.2f}"),
    ("NIQE restored", "niqe", "{:.2f}"),
    ("NIQE sharp", "niqe_sharp", "{:.2f}"),
)


def page(records: Path = RECORDS) -> str:
    """The whole page, in Markdown."""
    evaluations = {
        path: json.loads(path.read_text()) for path in sorted(records.glob("eval-*.json"))
    }
    of_gopro = [path for path in evaluations if path.name.startswith("eval-gopro-")]
    by_window = {path: WINDOWED.fullmatch(path.stem) for path in evaluations}
    benches = {
        path: BenchRecord.from_json(json.loads(path.read_text()))
        for path in sorted(records.glob("bench-*.json"))
    }
    lines = [
        "# Results",
        "",
        "Written by `scripts/results.py` from the records in `benchmarks/results`; do not edit.",
        "",
        "## Released weights",
        "",
        *front_section({path.stem: one for path, one in evaluations.items()}, benches.values()),
    ]
    for path, evaluation in evaluations.items():
        if path not in of_gopro and not by_window[path]:
            lines += [*evaluation_lines(evaluation), "", *words_beside(path)]
    for name in sorted({found["name"] for found in by_window.values() if found}):
        lines += window_section(
            {
                int(found["window"]): evaluations[path]
                for path, found in by_window.items()
                if found and found["name"] == name
            },
            name,
        )
    for path in in_order(records.glob("coded-*.json")):
        coded = CodedRecord.from_json(json.loads(path.read_text()))
        lines += [f"### {coded.title}", "", *coded_lines(coded), ""]
        lines += [measured_by(coded.origin), "", *words_beside(path)]
    lines += ["## Table 1 of the paper: GOPRO", ""]
    rows = [
        measured_row(
            record["title"],
            record["all"]["psnr"],
            record["all"]["ssim"],
            record["protocol"]["name"],
            record["all"]["frames"],
        )
        for path, record in evaluations.items()
        if path in of_gopro
    ]
    lines += [*table_1(rows), ""]
    if not rows:
        lines += [
            "Nothing of ours stands here yet: GOPRO could not be had where this was written. "
            "`unsmear eval --data GOPRO/test --json benchmarks/results/eval-gopro-lite.json` and "
            "this script add the row.",
            "",
        ]
    for kind, heading in COMPARISONS.items():
        found = in_order(records.glob(f"{kind}-*.json"))
        lines += [f"## {heading}", ""] if found else []
        for path in found:
            record = comparison_from_json(path.read_text())
            lines += [f"### {record.title}", "", *comparison_lines(record), "", *words_beside(path)]
        for path in in_order(records.glob("attention-*.json")) if kind == "fusion" else ():
            use = json.loads(path.read_text())
            lines += [f"### {use['title']}", "", *use["table"], "", *use["legend"], ""]
            lines += [measured_by(Origin(**use["origin"])), "", *words_beside(path)]
    synthesised = in_order(records.glob("synthesis-*.json"))
    lines += ["## What training is fed, against real cameras", ""] if synthesised else []
    for path in synthesised:
        cameras = CameraRecord.from_json(json.loads(path.read_text()))
        lines += [f"### {cameras.title}", "", *camera_lines(cameras), ""]
        lines += [measured_by(cameras.origin), "", *words_beside(path)]
    lines += ["## Speed and memory", ""]
    for bench in benches.values():
        lines += [*bench_lines(bench), "", measured_by(bench.origin), ""]
    for path in sorted(records.glob("windows-*.json")):
        windows = WindowRecord.from_json(json.loads(path.read_text()))
        lines += [*window_lines(windows), "", measured_by(windows.origin), ""]
    for path in in_order(records.glob("dense-*.json")):
        dense = DenseRecord.from_json(json.loads(path.read_text()))
        lines += [*dense_lines(dense), "", measured_by(dense.origin), ""]
    for path in sorted(records.glob("memory-*.json")):
        memory = MemoryRecord.from_json(json.loads(path.read_text()))
        lines += [*memory_lines(memory), "", measured_by(memory.origin), ""]
    return "\n".join(lines).rstrip() + "\n"


def front_section(
    evaluations: Mapping[str, dict[str, Any]], benches: Iterable[BenchRecord]
) -> list[str]:
    """Released networks side by side: cost, gain, and which ones no other beats.

    Args:
        evaluations: by name of their record, without the suffix.
        benches: all of them.
    """
    machine, seconds = frame_times(benches)
    rows = [
        front_row(name, evaluations[f"eval-{name}"], seconds.get(name))
        for name in ZOO
        if f"eval-{name}" in evaluations
    ]
    if not rows:
        return []
    where = f", on {machine}, by the quickest of the records below" if machine else ""
    return [
        "### Gain against time",
        "",
        *front_lines(rows),
        "",
        "Gains are those of the evaluations below, restored as by default; time is that of the "
        f"network alone in float32 with torch{where}. A row is on the front where no other gains "
        "at least as much on the mean of `walk_a` and `walk_b` for less time; where one of two was "
        "not timed at 1280x720, for less arithmetic.",
        "",
    ]


def front_row(name: str, evaluation: dict[str, Any], seconds: float | None) -> FrontRow:
    """The row of a network of the zoo, with the result of its evaluation."""
    gains = sequence_gains(evaluation)
    macs, parameters = network_size(name)
    return FrontRow(
        name=name,
        macs=macs,
        parameters=parameters,
        seconds=seconds,
        walks=fmean(gains[sequence] for sequence in MOVING),
        still=gains[STILL],
    )


@functools.cache  # counting runs each network on torch's meta device, which takes seconds
def network_size(name: str) -> tuple[int, int]:
    """Multiply-accumulates at 256x256, and parameters, of a row of the zoo."""
    with torch.device("meta"):
        network = DeblurNetwork(ZOO[name].config)
    return count_macs(ZOO[name].config), count_parameters(network)


def frame_times(benches: Iterable[BenchRecord]) -> tuple[str, dict[str, float]]:
    """Seconds per frame of 1280x720 with torch: the best of several records, on the machine that
    has timed most networks. Returns the name of the machine too.
    """
    found: dict[tuple[str, str], float] = {}
    for bench in benches:
        for row in bench.engines:
            size = bench.width, bench.height
            if row.engine == "torch" and row.seconds is not None and size == TIMED_SIZE:
                key = bench.origin.machine, bench.model
                found[key] = min(row.seconds, found.get(key, row.seconds))
    counts = Counter(machine for machine, _ in found)
    if not counts:
        return "", {}
    machine = max(sorted(counts), key=counts.__getitem__)
    return machine, {model: seconds for (on, model), seconds in found.items() if on == machine}


def sequence_gains(evaluation: dict[str, Any]) -> dict[str, float]:
    """Gain in PSNR by sequence, dB."""
    return {
        row["name"]: gain(float(row["psnr"]), float(row["psnr_before"]))  # "inf" of equal frames
        for row in evaluation["sequences"]
    }


def window_section(evaluations: Mapping[int, dict[str, Any]], name: str) -> list[str]:
    """Gain of a network by window: a row for each.

    Args:
        evaluations: by window size.
        name: of the network.
    """
    windows = sorted(evaluations)
    gains = {window: sequence_gains(evaluations[window]) for window in windows}
    sequences = list(gains[windows[0]])
    rows = [
        [
            str(window),
            *(f"{gains[window][sequence]:+.3f}" for sequence in sequences),
            f"{evaluations[window]['all']['ssim']:.4f}",
        ]
        for window in windows
    ]
    return [
        f"### `{name}` by window",
        "",
        *markdown_table(
            ["frames", *(f"gain on {sequence}, dB" for sequence in sequences), "SSIM, all frames"],
            rows,
        ),
        "",
        *(
            line
            for window in windows
            for line in (measured_by(Origin(**evaluations[window]["origin"])), "")
        ),
    ]


def measured_by(origin: Origin) -> str:
    """Command, date, machine and versions of a measurement, in one sentence."""
    return f"Measured by {origin.line}."


def in_order(records: Iterable[Path]) -> list[Path]:
    """Shorter names first (`zoo` before `zoo-why`), then alphabetical: small numbers come first."""
    return sorted(records, key=lambda path: (len(path.stem), path.stem))


def words_beside(record: Path) -> list[str]:
    """The notes on a record, if there are any."""
    words = record.with_suffix(".md")
    return [*words.read_text(encoding="utf-8").splitlines(), ""] if words.exists() else []


def cell(value: float | str | None, form: str) -> str:
    """A measured value, possibly "inf"; a dash if it was not measured."""
    return "-" if value is None else form.format(float(value))


def evaluation_lines(record: dict[str, Any]) -> list[str]:
    """The result of `unsmear eval`: a row for each sequence, then all frames."""
    columns = [column for column in COLUMNS if record["all"].get(column[1]) is not None]
    rows = [
        [row["name"], str(row["frames"]), *(cell(row[key], form) for _, key, form in columns)]
        for row in [*record["sequences"], {"name": "all frames", **record["all"]}]
    ]
    protocol, names = record["protocol"], [name for name, _, _ in columns]
    units = "; flicker in code values of 255" if "flicker restored" in names else ""
    return [
        f"{record['title']}; protocol `{protocol['name']}` ({protocol['summary']}); "
        f"PSNR in dB{units}.",
        "",
        *markdown_table(["sequence", "frames", *names], rows),
        "",
        *(line for remark in record.get("remarks", []) for line in (remark, "")),
        measured_by(Origin(**record["origin"])),
    ]


def main() -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        raise SystemExit(f"{PAGE.name} is not what the records say: run scripts/results.py")


if __name__ == "__main__":
    main()
