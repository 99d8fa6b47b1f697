"""Gains on coded clips: measured against what the codec left."""

from __future__ import annotations

import shutil
from dataclasses import replace
from statistics import fmean

import pytest
import torch
from benchmarks.coded import measured
from torch import nn

from tests.conftest import SMALL, awake, picture
from unsmear.data.codec import Coding, code_clip
from unsmear.data.light import round_to_8_bit
from unsmear.data.pairs import find_pairs
from unsmear.errors import ConfigError, InputError
from unsmear.evaluate.coded import CodedRecord, coded_lines, measure_coded
from unsmear.evaluate.metrics import psnr
from unsmear.evaluate.origin import origin_of
from unsmear.evaluate.records import record_as_json, record_from_json
from unsmear.models.network import DeblurNetwork
from unsmear.restoration.quality import NETWORK_ALONE, QualityOptions
from unsmear.restoration.stream import restore_stream
from unsmear.video.images import unit_from_integer, write_image


@pytest.fixture
def val(tmp_path):
    for name in ("one", "two"):
        for side in ("blur", "sharp"):
            folder = tmp_path / name / side
            folder.mkdir(parents=True)
            for index in range(3):
                pixels = torch.from_numpy(picture(48, 64, index).transpose(2, 0, 1).copy())
                write_image(folder / f"{index}.png", pixels)
    return tmp_path


@pytest.fixture
def unchanging():
    """A network that changes nothing."""
    network = DeblurNetwork(SMALL).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def test_a_network_that_changes_nothing_gains_nothing(val, unchanging):
    codings = [Coding("libx264", 20), Coding("libx264", 34), Coding("mpeg4", 8)]
    scores = measure_coded({"same": (unchanging, 3, NETWORK_ALONE)}, find_pairs(val), codings)
    assert [(s.sequence, s.coding) for s in scores[:3]] == [
        ("one", "libx264, crf 20"), ("one", "libx264, crf 34"), ("one", "mpeg4, quantiser 8"),
    ]  # fmt: skip
    assert len(scores) == 6
    for score in scores:
        assert score.after["same"] == pytest.approx(score.before, abs=1e-6)
    assert scores[0].before > scores[1].before + 3


def test_the_coded_frames_are_restored_as_asked_and_compared_with_the_sharp_ones(val):
    network, coding, quality = awake(), Coding("mpeg4", 8), QualityOptions(burst=1)
    (sequence, *_) = find_pairs(val)
    (score,) = measure_coded({"a": (network, 3, quality)}, [sequence], [coding])
    blurry, sharp = (unit_from_integer(side) for side in sequence.read())
    seen = code_clip(blurry, coding)
    made = restore_stream(network, seen, 3, quality=quality)
    for frames, found in ((seen, score.before), (made, score.after["a"])):
        wanted = (psnr(round_to_8_bit(one), two) for one, two in zip(frames, sharp, strict=True))
        assert found == pytest.approx(fmean(wanted), abs=1e-5)


def test_the_table_has_a_row_a_coding_and_the_record_comes_back(val, unchanging):
    scores = measure_coded(
        {"a": (unchanging, 1, NETWORK_ALONE), "b": (unchanging, 3, NETWORK_ALONE)},
        find_pairs(val),
        [None, Coding("mpeg4", 4)],
    )
    record = CodedRecord("Coded", scores, origin_of(torch.device("cpu"), ["coded.py"]))
    header, _, first, second = coded_lines(record)[2:]
    assert header == "| blurry frames | one: PSNR | a | b | two: PSNR | a | b |"
    assert first.startswith("| not coded | inf | to inf | to inf |")  # equal to the sharp frames
    spoilt = replace(record.scores[0], after={"a": 41.234, "b": 40.0})
    lines = coded_lines(replace(record, scores=(spoilt, *record.scores[1:])))
    assert "| not coded | inf | to 41.23 | to 40.00 |" in "\n".join(lines)
    assert second.startswith("| mpeg4, quantiser 4 |")
    assert second.count("+0.00") == 4
    changed = replace(record.scores[1], before=30.0, after={"a": 31.5, "b": 29.0})
    lines = coded_lines(replace(record, scores=(record.scores[0], changed, *record.scores[2:])))
    assert "| 30.00 | +1.50 | -1.00 |" in lines[-1]
    text = record_as_json(record)
    assert "Infinity" not in text
    assert record_from_json(CodedRecord, text) == record


def test_the_benchmark_measures_by_name_and_wants_sequences(
    val, weights_file, aligned_file, tmp_path, monkeypatch
):
    shutil.rmtree(val / "two")
    small, aligned = str(weights_file), str(aligned_file)
    record = measured([small], val, "Coded", [aligned], [small], [small])
    after = record.scores[0].after
    assert list(after) == ["small", "aligned, refined", "small, polished", "small, reblurred"]
    assert len({after[name] for name in after if "small" in name}) == 3
    assert [score.sequence for score in record.scores] == ["one"] * 7
    with pytest.raises(InputError, match="missing' is not a folder"):
        measured([small], tmp_path / "missing", "Coded")
    monkeypatch.setattr("benchmarks.coded.measure_coded", None)  # nothing is measured
    with pytest.raises(ConfigError, match="needs a model that aligns"):
        measured([aligned], val, "Coded", [small])
