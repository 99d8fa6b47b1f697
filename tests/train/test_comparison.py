"""Networks side by side: notes, one record."""

from __future__ import annotations

import argparse

import pytest
import torch

from tests.conftest import picture
from tests.train.test_learner import BUILDS, CPU, PLAN
from unsmear.evaluate.comparison import ComparisonRecord, Words, comparison_lines
from unsmear.evaluate.records import record_from_json
from unsmear.train import comparison
from unsmear.train.comparison import add_arguments, compare, measured_row, note_of
from unsmear.train.learner import Learner, train_in_turn
from unsmear.video.images import write_image


def test_the_note_tells_a_start_from_a_full_run():
    learner = Learner.start("one", BUILDS["recurrent"], PLAN, CPU)
    learner.step = 150
    assert "reduced run" in note_of([learner], CPU)
    learner.step = 150_000
    assert "full run" in note_of([learner], CPU)


class Inline:
    """A process pool that runs in this process."""

    def __init__(self, *arguments, **options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exit_info):
        pass

    def apply(self, work, arguments):
        return work(*arguments)


def test_a_comparison_is_made_and_recorded(tmp_path, monkeypatch):
    for folder in ("photos", "val/a/blur", "val/a/sharp"):
        (tmp_path / folder).mkdir(parents=True)
        for index in range(2):
            image = torch.from_numpy(picture(48, 64, index).transpose(2, 0, 1).copy())
            write_image(tmp_path / folder / f"{index}.png", image // (1 + ("blur" in folder)))
    monkeypatch.setattr(
        comparison.multiprocessing, "get_context", lambda _: argparse.Namespace(Pool=Inline)
    )
    monkeypatch.setattr("sys.argv", [
        "baseline.py", "--data", str(tmp_path / "photos"), "--val", str(tmp_path / "val"),
        "--steps", "2", "--minutes", "0.001", "--seeds", "0", "1", "--crop", "32", "--clips", "1",
        "--frames", "2", "--fresh", "12", "--threads", "1", "--device", "cpu",
        "--json", str(tmp_path / "record.json"),
    ])  # fmt: skip
    parser = argparse.ArgumentParser()
    parser.set_defaults(title="a title")
    arguments = add_arguments(parser)
    assert arguments.seconds == pytest.approx(0.06)
    drawn = []

    def train_from(plan, batches, scorer, device):
        drawn.extend((batches.draw(0).blurry, scorer.fresh[0][0]))
        learners = [
            Learner.start(label, build, plan, device, window=3) for label, build in BUILDS.items()
        ]
        train_in_turn(learners, batches, scorer, arguments.steps, arguments.seconds)
        return learners

    words = Words(kind="network", base="recurrent", base_is="the recurrent one", ours="paper")
    row = lambda label, peak, all_: measured_row(  # noqa: E731
        label, all_, macs=5, own_macs=0, blocks=0, peak=peak
    )
    record = compare(arguments, BUILDS, train_from, row, {"of note": "nothing"}, words)
    assert record_from_json(ComparisonRecord, (tmp_path / "record.json").read_text()) == record
    assert [row.label for row in record.rows] == ["paper", "recurrent"]
    assert all(row.peak_bytes >= 0 and len(row.runs) == 4 for row in record.rows)
    assert [run.seed for run in record.rows[0].runs] == [0, 0, 1, 1]
    first, fresh, second, again = drawn  # what is measured on is not learned from
    assert torch.equal(fresh, again)
    for one, other in ((first, second), (first, fresh), (second, fresh)):
        assert not torch.equal(one, other)
    text = "\n".join(comparison_lines(record))
    assert "| network | PSNR" in text
    assert "against recurrent" in text
    assert "own GMAC" not in text
    assert "`paper` is" in text
    assert "seeds 0 1; of note nothing; batch 1 clips of 2 frames, 32x32" in text
