"""What users see of a run. `tests/test_training.py` has the contact sheet."""

from __future__ import annotations

import io

from rich.console import Console

from unsmear.evaluate.validation import SequenceScore
from unsmear.train.display import TrainDisplay
from unsmear.train.meter import Report


def test_a_report_is_a_line_and_its_validation_another():
    shown = io.StringIO()
    scores = (
        SequenceScore("a", 4, 20.0, 21.5, None, None, 1.0),
        SequenceScore("b", 4, 30.0, 29.5, None, None, -1.0),
    )
    usual = Report(
        step=30, steps=90, loss=0.0123, psnr=31.504, gain=1.25, frames_per_second=12.34,
        learning=0.875, seconds_left=3725.4,
    )  # fmt: skip
    skipping = Report(**vars(usual) | {"scores": scores, "skipped": 2, "seconds_left": 59.6})
    with TrainDisplay(Console(file=shown, width=40), 90) as display:
        display.show(usual)
        display.show(skipping)
    start = "step 30/90  loss 0.0123  PSNR 31.50 dB (+1.25)  12.3 frames/s  88 % learning"
    assert shown.getvalue().splitlines() == [
        f"{start}  1:02:05 left",
        f"{start}  0:01:00 left  2 skipped",
        "step 30  validation: a 21.50 dB (+1.50), b 29.50 dB (-0.50); mean +0.50 dB",
    ]
