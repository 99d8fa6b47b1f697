"""What a run notes of itself in its folder: what was asked for, and the numbers that it shows."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import torch
from torch import Tensor

from unsmear.data.sources import DataRecord
from unsmear.errors import MissingExtraError, writing
from unsmear.evaluate.origin import origin_of, portable_command
from unsmear.evaluate.records import finite, record_as_json
from unsmear.evaluate.validation import SequenceScore, mean_gain
from unsmear.outputs import write_text
from unsmear.train.config import TrainConfig
from unsmear.train.meter import Report
from unsmear.train.team import Team

CONFIG_FILE = "config.json"
LOG_FILE = "log.jsonl"
PICTURES = "blurry_restored_sharp"  # group of TensorBoard's images


def check_log() -> None:
    """Raise MissingExtraError if TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise MissingExtraError("tensorboard", "train", "the training log")


def describe_run(
    out: Path,
    config: TrainConfig,
    device: torch.device,
    team: Team,
    data: DataRecord | None,
    validation_data: DataRecord | None,
) -> None:
    """Write `config.json`: the command with its folder, all settings, data, machine and versions of
    the last start.

    Raises:
        OutputError: it cannot be written.
    """
    origin = origin_of(device)
    program = portable_command(sys.argv[:1])
    record = {
        "command": f"{program} {shlex.join(sys.argv[1:])}".rstrip(),  # paths whole, to repeat it
        "folder": str(Path.cwd()),
        "date": origin.date,
        "data": data,
        "validation": validation_data,
        "device": str(device),
        "processes": team.size,
        "machine": origin.machine,
        "versions": origin.versions,
        "config": config.to_json(),
    }
    write_text(out / CONFIG_FILE, record_as_json(record))


class Journal:
    """Logs of a run that continue from a step: TensorBoard's, and `log.jsonl`, which has a JSON
    object for each line that the console shows. Later entries, written by a killed run, are hidden
    in the first and dropped from the second.

    Args:
        out: folder of the run.
        step: that the run continues from.

    Raises:
        MissingExtraError: TensorBoard is not installed.
        OutputError: `log.jsonl` cannot be written.
    """

    def __init__(self, out: Path, step: int) -> None:
        check_log()
        from torch.utils.tensorboard import SummaryWriter

        self._path = out / LOG_FILE
        _drop_later(self._path, step)
        self._board = SummaryWriter(str(out), purge_step=step + 1)

    def add(self, line: Report, learning_rate: float) -> None:
        """Note a report and its validation.

        Raises:
            OutputError: `log.jsonl` cannot be written.
        """
        values = {
            "train/loss": line.loss,
            "train/psnr": line.psnr,
            "train/gain": line.gain,
            "train/learning_rate": learning_rate,
            "speed/frames_per_second": line.frames_per_second,
            "speed/learning_share": line.learning,
            "train/skipped_steps": line.skipped,
        }
        self._scalars(values, line.step)
        self._write(
            {
                "step": line.step,
                "loss": line.loss,
                "psnr": line.psnr,
                "gain": line.gain,
                "learning_rate": learning_rate,
                "frames_per_second": line.frames_per_second,
                "learning": line.learning,
                "skipped": line.skipped,
            }
        )
        if line.scores:
            self.add_scores(line.step, line.scores)

    def add_scores(self, step: int, scores: Sequence[SequenceScore]) -> None:
        """Note a validation without a report.

        Raises:
            OutputError: `log.jsonl` cannot be written.
        """
        mean = {"psnr": fmean(score.psnr_after for score in scores), "gain": mean_gain(scores)}
        values: dict[str, float] = {}
        sequences: dict[str, dict[str, float]] = {}
        for score in scores:
            values |= {f"val/{score.name}": score.psnr_after, f"val_gain/{score.name}": score.gain}
            sequences[score.name] = {"psnr": score.psnr_after, "gain": score.gain}
            if score.ssim_after is not None:
                values[f"val_ssim/{score.name}"] = score.ssim_after
                sequences[score.name]["ssim"] = score.ssim_after
        if ssims := [score.ssim_after for score in scores if score.ssim_after is not None]:
            values["val/ssim"] = mean["ssim"] = fmean(ssims)
        self._scalars(values | {"val/mean": mean["psnr"], "val_gain/mean": mean["gain"]}, step)
        self._write({"step": step, "validation": mean, "sequences": sequences})

    def add_pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Note pictures by name, (3, H, W), uint8, in TensorBoard's log alone. Not by `add_image`,
        which needs Pillow.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = []
        for name, picture in pictures.items():
            pixels = picture.permute(1, 2, 0).flip(-1).contiguous().numpy()  # BGR
            image = Summary.Image(
                height=picture.shape[1],
                width=picture.shape[2],
                colorspace=3,
                encoded_image_string=cv2.imencode(".png", pixels)[1].tobytes(),
            )
            values.append(Summary.Value(tag=f"{PICTURES}/{name}", image=image))
        writer: Any = self._board.file_writer  # typed as None
        if values:
            writer.add_summary(Summary(value=values), step)

    def close(self) -> None:
        """Write what TensorBoard's log still buffers."""
        self._board.close()

    def _scalars(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def _write(self, entry: dict[str, Any]) -> None:
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite(entry)) + "\n")


def _drop_later(path: Path, step: int) -> None:
    """Drop entries after a step, and a last one that was cut off."""
    if not path.is_file():
        return
    with writing(path):
        text = path.read_text(encoding="utf-8", errors="replace")
    kept = "".join(f"{line}\n" for line in text.splitlines() if _step_of(line) <= step)
    if kept != text:  # or the last one lacks its end of line
        write_text(path, kept)


def _step_of(line: str) -> float:
    """The step of an entry; infinite if it is no whole one."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
