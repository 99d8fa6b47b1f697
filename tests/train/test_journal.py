"""The logs of a run: TensorBoard's and `log.jsonl`, also after it was killed."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from tests.train.conftest import CONFIG, CPU, logged, run
from unsmear.data.pairs import find_pairs
from unsmear.data.sources import find_training_files
from unsmear.evaluate.validation import SequenceScore
from unsmear.train.batches import Batches
from unsmear.train.config import Stage
from unsmear.train.journal import LOG_FILE, PICTURES, Journal
from unsmear.train.loop import train
from unsmear.video.images import read_image

pytestmark = pytest.mark.usefixtures("tiny")


def test_tensorboard_can_read_the_log(data, pairs, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(CONFIG, data, tmp_path / "run", find_pairs(pairs))
    log = EventAccumulator(str(tmp_path / "run"))
    log.Reload()
    for tag, steps in (("val/mean", [6, 9]), ("val_gain/mean", [6, 9]), ("val/ssim", [9])):
        assert [event.step for event in log.Scalars(tag)] == steps
    speed = {"speed/frames_per_second", "speed/learning_share"}
    assert {"train/loss", "train/psnr"} | speed <= set(log.Tags()["scalars"])
    assert log.Tags()["images"] == [f"{PICTURES}/seq"]
    shown = log.Images(f"{PICTURES}/seq")
    assert [(event.step, event.width, event.height) for event in shown] == [
        (6, 248, 64), (9, 248, 64),
    ]  # fmt: skip
    image = tmp_path / "shown.png"
    image.write_bytes(shown[-1].encoded_image_string)
    for left, side in ((0, "blur"), (168, "sharp")):
        frame = read_image(pairs / "seq" / side / "2.png")  # the middle one
        assert torch.equal(read_image(image)[..., left : left + 80], frame)
    assert [event.step for event in log.Scalars("train/loss")] == [3, 6, 9]


@pytest.mark.usefixtures("files_stay_in_use")
def test_the_log_of_a_killed_run_shows_no_step_twice(data, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.summary.writer import event_file_writer as writer

    # Files of one second and process are read in the order of this number, as text: 10 before 9.
    monkeypatch.setattr(writer, "_global_uid", writer.AtomicCounter(0))

    def killed(report):
        raise SystemExit(report.step)

    two_clips = (Stage(steps=6, clips=2, frames=2, crop=32),)
    often = dataclasses.replace(CONFIG, stages=two_clips, log_every=1)
    batches = Batches(often, find_training_files([data]), [], CPU, 1)
    run(often, data, tmp_path / "run", stop_after=2, shown=batches.draw(0))
    with pytest.raises(SystemExit):
        train(often, batches, [], tmp_path / "run", CPU, killed, stop_after=4)
    run(often, data, tmp_path / "run", stop_after=4)
    log = EventAccumulator(str(tmp_path / "run"))
    log.Reload()
    assert [event.step for event in log.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [line["step"] for line in logged(tmp_path / "run")] == [1, 2, 3, 4]
    assert log.Tags()["images"] == [f"{PICTURES}/crop1", f"{PICTURES}/crop2"]


def test_a_log_of_json_goes_on_after_the_last_whole_entry(tmp_path):
    journal = Journal(tmp_path, 0)
    score = SequenceScore("s", 1, 20.0, math.inf, None, None, math.inf)
    for step in (1, 2, 3):
        journal.add_scores(step, [score])
    journal.close()
    log = tmp_path / LOG_FILE
    log.write_text(log.read_text() + '{"step": 2, "lo')
    Journal(tmp_path, 2).close()
    assert [line["step"] for line in logged(tmp_path)] == [1, 2]
    assert logged(tmp_path)[0]["validation"] == {"psnr": "inf", "gain": "inf"}
    log.write_text(log.read_text().rstrip("\n"))  # only its end of line was cut off
    journal = Journal(tmp_path, 2)
    journal.add_scores(3, [score])
    journal.close()
    assert [line["step"] for line in logged(tmp_path)] == [1, 2, 3]
