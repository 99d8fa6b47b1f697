"""What users see of a run: a progress bar or log lines, and a contact sheet of the data."""

from __future__ import annotations

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch import Tensor
from torch.nn import functional

from unsmear.evaluate.validation import mean_gain
from unsmear.train.meter import Report
from unsmear.video.images import integer_from_unit


class TrainDisplay:
    """Shows reports on a console. Use as a context manager.

    Args:
        console: to print on.
        steps: of the whole run.
    """

    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("step"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps)

    def show(self, report: Report) -> None:
        """Show a report of `train`."""
        text = (
            f"loss {report.loss:.4f}  PSNR {report.psnr:.2f} dB ({report.gain:+.2f})  "
            f"{report.frames_per_second:.1f} frames/s  "
            f"{100 * report.learning:.0f} % learning  {_clock(report.seconds_left)} left"
        )
        if report.skipped:
            text += f"  {report.skipped} skipped"
        self._bar.update(self._task, completed=report.step, description=text)
        if not self._console.is_terminal:
            self._print(f"step {report.step}/{report.steps}  {text}")
        if report.scores:
            parts = (f"{s.name} {s.psnr_after:.2f} dB ({s.gain:+.2f})" for s in report.scores)
            mean = f"mean {mean_gain(report.scores):+.2f} dB"
            self._print(f"step {report.step}  validation: {', '.join(parts)}; {mean}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def __enter__(self) -> TrainDisplay:
        self._bar.__enter__()
        return self

    def __exit__(self, *exit_info: object) -> None:
        self._bar.stop()


def contact_sheet(blurry: Tensor, sharp: Tensor) -> Tensor:
    """Clips as one image: a row for each clip, with each blurry frame above its sharp one.

    Args:
        blurry: (B, T, 3, H, W), float, 0..1.
        sharp: same shape.

    Returns:
        (3, B * (2 * H + gap), T * (W + gap)) uint8, gaps in white.
    """
    gap = 4
    pairs = torch.cat((blurry, functional.pad(sharp, (0, 0, 0, gap), value=1)), dim=-2)
    cells = functional.pad(pairs, (0, gap), value=1)  # (B, T, 3, 2H + gap, W + gap)
    rows = cells.permute(2, 0, 3, 1, 4)  # (3, B, 2H + gap, T, W + gap)
    return integer_from_unit(rows.flatten(1, 2).flatten(2, 3))


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"
