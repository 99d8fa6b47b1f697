"""Quantization: what is kept, what is reverted, and what is refused."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.conftest import ONE_LEVEL, TWO_LEVELS, mild, one_scene, write_video
from unsmear.data.pairs import find_pairs
from unsmear.deploy.quantize import (
    Recorder,
    _paired,
    largest_psnr_loss,
    quantize_model,
    read_frames,
)
from unsmear.engines.eight_bit import load_eight_bit, psnr_loss
from unsmear.engines.openvino import OpenVinoEngine, read_graphs
from unsmear.errors import ModelError
from unsmear.evaluate.validation import SequenceScore
from unsmear.restoration.stream import restore_stream


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Two frames, blurry and sharp."""
    folder = tmp_path_factory.mktemp("val")
    random = np.random.default_rng(0)
    scene = cv2.resize(random.integers(0, 256, (12, 16, 3), dtype=np.uint8), (64, 48))
    for side, change in (("blur", 4), ("sharp", 1)):
        (folder / "walk" / side).mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(
                str(folder / "walk" / side / f"{number:03}.png"), cv2.blur(scene, (change, change))
            )
    return find_pairs(folder)


def test_graphs_in_eight_bits_stay_near_the_network(pairs, tmp_path, monkeypatch):
    log = logging.getLogger("nncf")
    monkeypatch.setattr(log, "level", logging.INFO)
    network = mild(TWO_LEVELS)
    clip = one_scene(3, 48, 64)
    path = tmp_path / "small.int8.safetensors"
    notes = []
    made = quantize_model(
        network, 3, {"clip.mp4": list(clip)}, pairs, path, largest_loss=5.0, on_note=notes.append
    )
    assert made.eight_bit
    assert max(psnr_loss(*pair) for pair in made.origin.scores.values()) < 5
    assert made.origin.calibrated_on == {"clip.mp4": 3}
    assert sum("alone" in note for note in notes) == 4  # every graph was tried
    graphs, origin = load_eight_bit(path)
    assert len(graphs) == 4
    engine = OpenVinoEngine(network, read_graphs(graphs), "openvino-int8")
    full = torch.stack(list(restore_stream(network, clip, 3)))
    eight = torch.stack(list(restore_stream(engine, clip, 3)))
    assert 0 < (full - eight).abs().mean() < 0.02
    assert origin.digest == made.origin.digest
    # The user's own settings for logs and telemetry of NNCF are restored.
    assert log.level == logging.INFO
    assert sys.modules.get("openvino_telemetry", sys) is not None


def test_nothing_is_written_where_every_part_costs_too_much(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr("unsmear.deploy.quantize.quantize", lambda model, _: model.clone())
    path = tmp_path / "small.int8.safetensors"
    clips = {"clip.mp4": list(one_scene(2, 48, 64))}
    with pytest.raises(ModelError, match="no part of this network"):
        quantize_model(mild(ONE_LEVEL), 3, clips, pairs, path, largest_loss=-100.0)
    assert not path.exists()


def test_inputs_are_sampled_over_all_that_came(network):
    recorder = Recorder(network)
    frames = torch.arange(40.0)[:, None, None, None].expand(-1, 3, 16, 16) / 40
    for _ in restore_stream(recorder, frames, 1):
        pass
    seen = [round(40 * float(frame.mean())) for (frame,) in recorder.seen["encode_0"]]
    assert seen == list(range(0, 40, 2))
    assert set(recorder.seen) == {
        f"{way}_{level}" for way in ("encode", "decode") for level in range(3)
    }
    assert len(recorder.seen["decode_2"][0]) == 4  # features, two neighbours, context


@pytest.mark.parametrize(
    ("before", "after", "loss"),
    [
        ((30, 40), (29, 40), 1.0),  # two sequences of the same name
        ((math.inf, 30), (math.inf, 30), 0.0),
        ((math.inf, 30), (50, 30), math.inf),
        ((30, 30), (30, math.nan), math.inf),
        ((math.nan, 30), (30, 30), math.inf),
    ],
)
def test_every_sequence_counts_in_the_loss(before, after, loss):
    def scores(values):
        return [SequenceScore("walk", 1, 20, value, None, None, 0) for value in values]

    assert largest_psnr_loss(scores(before), scores(after)) == loss
    held = _paired(scores(before), scores(after))
    assert list(held) == ["walk", "walk (2)"]


def test_folders_of_pictures_are_calibrated_on(pairs, monkeypatch):
    folder = pairs[0].blurry[0].parent
    monkeypatch.chdir(folder)
    assert list(read_frames([Path()], 1)) == ["blur"]
    assert [frame.shape for frame in read_frames([folder], 5)["blur"]] == [(3, 48, 64)] * 2


def test_clips_of_one_name_are_all_calibrated_on(tmp_path):
    paths = [tmp_path / name / "blur.mp4" for name in ("a", "b")]
    for frames, path in enumerate(paths, start=2):
        path.parent.mkdir()
        write_video(path, frames=frames)
    found = read_frames([*paths, paths[0]], 5)
    counts = {name: len(frames) for name, frames in found.items()}
    assert list(counts.values()) == [2, 3, 2]
    assert list(counts)[:2] == ["blur.mp4", "b/blur.mp4"]
