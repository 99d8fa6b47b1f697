"""The record of a comparison of fusion techniques or networks, and its Markdown tables.

Each technique is trained with several seeds and measured twice in each run: after a number of
steps, and after a training time. The spread is over seeds. Differences are taken seed by seed,
since all techniques are trained on the same batches and start from the same backbone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from unsmear.evaluate.metrics import gain
from unsmear.evaluate.origin import Origin
from unsmear.evaluate.report import markdown_table

Limit = Literal["steps", "minutes"]
LIMITS: tuple[Limit, ...] = ("steps", "minutes")


@dataclass(frozen=True, kw_only=True)
class Words:
    """Wording of the tables of a comparison.

    Attributes:
        kind: heading of the column of labels.
        base: label of the baseline row.
        base_is: the baseline in words.
        ours: label of the row that the verdicts are about.
    """

    kind: str
    base: str
    base_is: str
    ours: str


FUSION_WORDS = Words(
    kind="fusion", base="none", base_is="the network without fusion", ours="factorised"
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """Scores of a network.

    Attributes:
        psnr: mean PSNR over all frames of the validation set, dB.
        ssim: mean SSIM over the frames of it that were selected for SSIM.
        fresh: gain in PSNR over the blurry frames on synthetic clips, from the training photographs
            but with motions that were not used in training, dB; 0 for the blurry frames themselves.
        neighbours: contribution of the neighbours to `fresh`: `fresh` minus the gain of the same
            network with all neighbours replaced by the current frame, dB.
        sequences: mean PSNR of each validation sequence, dB.
    """

    psnr: float
    ssim: float
    fresh: float
    neighbours: float
    sequences: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measurement of one technique with one seed.

    Attributes:
        seed: seed of weights and batches.
        limit: budget after which it was measured: `steps` or `minutes`.
        step: number of training steps.
        seconds: training time, without drawing batches and measuring.
        score: scores at that point.
    """

    seed: int
    limit: Limit
    step: int
    seconds: float
    score: Score


@dataclass(frozen=True, kw_only=True)
class Row:
    """One technique.

    Attributes:
        label: name, with settings that differ from the defaults.
        parameters: parameters of the whole network.
        macs: multiply-accumulates of the whole network for a frame of 256x256.
        own_macs: those of the fusion, without the blocks that equalise the budget.
        blocks: number of these blocks.
        step_seconds: time of a training step, lowest of all seeds.
        peak_bytes: peak memory of a training step, beyond the network and its data.
        runs: measurements.
    """

    label: str
    parameters: int
    macs: int
    own_macs: int
    blocks: int
    step_seconds: float
    peak_bytes: int
    runs: tuple[Run, ...]

    def values(self, limit: Limit, measure: str) -> list[float]:
        """A measure (field of `Score`), one value per seed, in the order of seeds."""
        runs = sorted((run for run in self.runs if run.limit == limit), key=lambda run: run.seed)
        return [float(getattr(run.score, measure)) for run in runs]


@dataclass(frozen=True, kw_only=True)
class ComparisonRecord:
    """A whole comparison.

    Attributes:
        title: what is compared.
        note: caveats for the reader.
        origin: machine, versions, command and date.
        settings: settings of training and evaluation, by name.
        blurry: scores of the blurry frames.
        rows: techniques.
        words: wording of its tables.
    """

    title: str
    note: str
    origin: Origin
    settings: dict[str, str | int | float]
    blurry: Score
    rows: tuple[Row, ...]
    words: Words = FUSION_WORDS

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Budgets at which the techniques were measured."""
        return tuple(limit for limit in LIMITS if self.rows[0].values(limit, "psnr"))


def comparison_lines(record: ComparisonRecord, *, legend: bool = True) -> list[str]:
    """The record as Markdown: a table for each limit, with its verdict.

    Args:
        record: to show.
        legend: whether to explain the columns first.
    """
    lines = [record.note, "", *([*_legend(record), ""] if legend else [])]
    for limit in record.limits:
        lines += [f"**Equal {'steps' if limit == 'steps' else 'time'}**", ""]
        lines += _table(record, limit)
        lines += ["", *verdict_lines(record, limit), ""]
    settings = "; ".join(f"{name} {value}" for name, value in record.settings.items())
    return [*lines, f"Settings: {settings}.", "", f"Measured by {record.origin.line}."]


def _legend(record: ComparisonRecord) -> list[str]:
    """The columns explained, as a list in Markdown."""
    words = record.words
    return [
        "- PSNR (dB) and SSIM: on val.",
        "- fresh gain: dB over the blurry frames on new synthetic clips, for frames that are "
        "really blurred. The clips are made from the training photographs, with motions that no "
        "network was trained on.",
        f"- against {words.base}: the difference in fresh gain to {words.base_is}, seed by seed.",
        "- neighbours: the part of the fresh gain that is lost when the current frame takes the "
        "place of all others.",
        "- GMAC: for a frame of 256x256.",
        *(
            ["- own GMAC: of the fusion, without the blocks added to balance the budget."]
            if _has_own(record)
            else []
        ),
        "- peak MiB: memory of a training step.",
        "- In brackets: the lowest and the highest seed.",
    ]


def _has_own(record: ComparisonRecord) -> bool:
    """Whether any row has multiply-accumulates of the fusion alone."""
    return any(row.own_macs for row in record.rows)


def _table(record: ComparisonRecord, limit: Limit) -> list[str]:
    words, own = record.words, _has_own(record)
    headings = [
        words.kind, "PSNR", "SSIM", "fresh gain", f"against {words.base}", "neighbours", "steps",
        "seconds", "M parameters", "GMAC", *(["own GMAC"] if own else []), "ms a step", "peak MiB",
    ]  # fmt: skip
    blurry = record.blurry
    empty = ["-"] * (len(headings) - 3)
    body = [["(blurry)", f"{blurry.psnr:.3f}", f"{blurry.ssim:.4f}", *empty]]
    base = next((row for row in record.rows if row.label == words.base), None)
    for row in sorted(record.rows, key=lambda row: -_mean(row.values(limit, "fresh"))):
        runs = [run for run in row.runs if run.limit == limit]
        against = "-"
        if base is not None and base is not row:
            against = _spread(_differences(row, base, limit, "fresh"), "{:+.3f}")
        body.append(
            [
                row.label,
                _spread(row.values(limit, "psnr"), "{:.3f}"),
                _spread(row.values(limit, "ssim"), "{:.4f}"),
                _spread(row.values(limit, "fresh"), "{:+.3f}"),
                against,
                _spread(row.values(limit, "neighbours"), "{:+.3f}"),
                f"{fmean(run.step for run in runs):.0f}",
                f"{fmean(run.seconds for run in runs):.0f}",
                f"{row.parameters / 1e6:.3f}",
                f"{row.macs / 1e9:.3f}",
                *([f"{row.own_macs / 1e9:.3f}"] if own else []),
                f"{1e3 * row.step_seconds:.0f}",
                f"{row.peak_bytes / (1 << 20):.0f}",
            ]
        )
    return markdown_table(headings, body)


def verdict_lines(record: ComparisonRecord, limit: Limit) -> list[str]:
    """Whether ours (such as the paper's attention) is ahead of the others, in words; empty if it
    was not measured.

    One technique counts as ahead of another only if it is ahead for every seed. The text also
    states how often that happens by chance.
    """
    ours = next((row for row in record.rows if row.label == record.words.ours), None)
    if ours is None:
        return []
    sentences = []
    for measure, name in (("psnr", "PSNR on val"), ("fresh", "Fresh gain")):
        ahead, behind, open_ = [], [], []
        for row in record.rows:
            if row is ours:
                continue
            differences = _differences(ours, row, limit, measure)
            if all(difference > 0 for difference in differences):
                ahead.append(row.label)
            elif all(difference < 0 for difference in differences):
                behind.append(row.label)
            else:
                open_.append(row.label)
        sentences.append(
            f"{name}: `{ours.label}` is ahead of {_listed(ahead)} for every seed, behind "
            f"{_listed(behind)}, undecided against {_listed(open_)}."
        )
    seeds = len(ours.values(limit, "psnr"))
    sentences.append(
        "With one seed there is no measure of the spread, so nothing is decided."
        if seeds == 1
        else f"By chance alone, {seeds} seeds agree in one case of {2 ** (seeds - 1)}."
    )
    return [" ".join(sentences)]


def _differences(row: Row, other: Row, limit: Limit, measure: str) -> list[float]:
    pairs = zip(row.values(limit, measure), other.values(limit, measure), strict=True)
    return [gain(one, two) for one, two in pairs]


def _mean(values: Sequence[float]) -> float:
    """Mean; NaN for infinities of both signs, for which `fmean` raises an error."""
    return fmean(values) if all(map(math.isfinite, values)) else sum(values) / len(values)


def _spread(values: Sequence[float], form: str) -> str:
    """Mean, with the lowest and highest value if there are several."""
    mean = form.format(_mean(values))
    if len(values) == 1:
        return mean
    return f"{mean} ({form.format(min(values))} to {form.format(max(values))})"


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels) if labels else "nothing"
