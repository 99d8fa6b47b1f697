"""Sequences are measured frame by frame: those of a network, and frames of any program."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.conftest import one_scene
from tests.evaluate.conftest import save
from unsmear.cli import main
from unsmear.data.pairs import find_pairs
from unsmear.errors import CombinedError, ConfigError, InputError
from unsmear.evaluate.benchmark import Benchmark
from unsmear.evaluate.frames import find_comparisons
from unsmear.evaluate.metrics import psnr, ssim
from unsmear.evaluate.niqe import load_model as load_pristine
from unsmear.evaluate.protocol import Protocol, find_protocol
from unsmear.evaluate.report import as_markdown
from unsmear.evaluate.scores import BenchmarkResult, SequenceResult, mean_of, mean_of_sequences
from unsmear.video.images import integer_from_unit, read_image, write_image

BASE = find_protocol("basicsr2d")


def read(path):
    return read_image(path) / 255


def never(frames):
    raise AssertionError


def test_a_data_set_is_measured_frame_by_frame(gopro):
    counted = []
    benchmark = Benchmark(BASE, workers=2, on_frame=counted.append)
    (results,) = benchmark.run(find_pairs(gopro), lambda frames: (0.9 * frame for frame in frames))
    assert [(r.name, len(r.frames)) for r in results] == [("GOPR0384", 5), ("GOPR0385", 3)]
    assert counted == ["GOPR0384"] * 5 + ["GOPR0385"] * 3
    for result in results:
        for score in result.frames:
            blurry, sharp = (
                read(gopro / result.name / side / f"{score.index:06d}.png")
                for side in ("blur", "sharp")
            )
            restored = BASE.quantize(0.9 * blurry)
            assert score.psnr_before == pytest.approx(psnr(blurry, sharp), abs=1e-6)
            assert score.psnr == pytest.approx(psnr(restored, sharp), abs=1e-6)
            assert score.ssim == pytest.approx(ssim(restored, sharp), abs=1e-9)
        assert [score.flicker is None for score in result.frames][:2] == [True, False]
    whole = BenchmarkResult("x", BASE, tuple(results))
    assert mean_of(whole.frames, "psnr") == pytest.approx(
        sum(frame.psnr for frame in whole.frames) / 8  # a mean over frames, not over sequences
    )
    each = [mean_of(result.frames, "psnr") for result in results]
    assert mean_of_sequences(results, "psnr") == pytest.approx(sum(each) / 2)
    assert mean_of_sequences(results, "vmaf") is None
    unknown = SequenceResult("x", ())
    assert mean_of_sequences([results[0], unknown], "psnr") == pytest.approx(each[0])
    alone = as_markdown(BenchmarkResult("x", BASE, (replace(results[0], name="a|b"),)))
    assert "| all frames |" in alone
    assert r"| a\|b |" in alone
    assert "| mean of sequences" not in alone


@pytest.mark.parametrize("workers", [1, 7])
def test_workers_change_nothing(gopro, workers):
    one = Benchmark(BASE).run(find_pairs(gopro), iter)
    assert Benchmark(BASE, workers=workers).run(find_pairs(gopro), iter) == one


def test_several_protocols_measure_frames_that_are_restored_once(gopro, monkeypatch):
    floor, exact = (
        replace(find_protocol(name), skip=1, block=1) for name in ("estrnn", "shiftnet")
    )
    restored, kept, rounded = [], [], []
    quantize = Protocol.quantize
    monkeypatch.setattr(
        Protocol, "quantize", lambda self, frame: rounded.append(self) or quantize(self, frame)
    )

    def restore(frames):
        for frame in frames:
            restored.append(0.9 * frame)
            yield restored[-1]

    def keep(sequence, index, frame):
        kept.append(frame)

    measured = Benchmark(BASE, floor, exact, workers=2).run(find_pairs(gopro), restore, keep)
    assert len(restored) == 8
    assert rounded == [BASE, floor, exact] * 8
    assert all(map(torch.equal, kept, map(BASE.quantize, restored)))
    for protocol, results in zip((BASE, floor, exact), measured, strict=True):
        assert [results] == Benchmark(protocol).run(
            find_pairs(gopro), lambda frames: (0.9 * frame for frame in frames)
        )
    with pytest.raises(ConfigError, match=r"'estrnn-gopro-ds' restores .* size than 'basicsr2d'"):
        Benchmark(BASE, find_protocol("estrnn-gopro-ds"))


def test_a_sequence_too_short_for_the_protocol_stops_before_the_work(gopro):
    with pytest.raises(InputError, match=r"'GOPR0385': .* none left"):  # the last of two
        Benchmark(find_protocol("cdvd")).run(find_pairs(gopro), never)


def test_frames_too_small_to_be_measured_stop_before_the_work(gopro):
    for benchmark, message in (
        (Benchmark(BASE, pristine=load_pristine()), "32x24 is too small for NIQE"),
        (Benchmark(replace(BASE, crop=7)), "leaves 18x10 pixels, but SSIM"),
        (Benchmark(find_protocol("estrnn-gopro-ds")), "frames of 32x24 are too small"),
    ):
        with pytest.raises(CombinedError, match=f"'GOPR0384': .*{message}.*'GOPR0385': "):
            benchmark.run(find_pairs(gopro), never)
        blurry, sharp = gopro / "GOPR0384" / "blur", gopro / "GOPR0384" / "sharp"
        with pytest.raises(InputError, match=message):
            benchmark.compare(find_comparisons(blurry, sharp))
    both = Benchmark(BASE, find_protocol("matlab3d"), pristine=load_pristine())
    with pytest.raises(InputError, match=r"^'sharp': a frame of 32x24 is too small for NIQE"):
        both.compare(find_comparisons(sharp, sharp))  # told once


@pytest.mark.parametrize(
    ("restore", "message"),
    [
        (lambda frames: ((255 * x).byte() for x in frames), "yielded frame 0 as torch.uint8"),
        (lambda frames: (x.numpy() for x in frames), "yielded frame 0 as ndarray"),
        (lambda frames: (x[None] for x in frames), r"yielded frame 0 of shape \(1, 3, 24, 32\)"),
        (lambda frames: (x[:1] for x in frames), r"yielded frame 0 of shape \(1, 24, 32\)"),
        (lambda frames: list(frames)[:-1], "yielded 4 frames of 5"),
        (lambda frames: [*frames, torch.rand(3, 24, 32)], "yielded more than the 5 frames"),
        (lambda frames: (x for x in frames for _ in range(2)), "yielded frame 1 before it had"),
    ],
)
def test_a_network_that_gives_no_frames_is_told_what_it_should(gopro, restore, message):
    """For researchers with a network of their own: otherwise the table would hold nonsense."""
    with pytest.raises(ConfigError, match=f"restore {message}.*'GOPR0384': it must yield"):
        Benchmark(BASE).run(find_pairs(gopro)[:1], restore)


def test_gradients_and_other_floating_types_may_come_with_a_frame(gopro):
    plain = Benchmark(BASE).run(find_pairs(gopro), iter)
    learning = torch.ones((), requires_grad=True)
    assert Benchmark(BASE).run(find_pairs(gopro), lambda xs: (learning * x for x in xs)) == plain
    assert Benchmark(BASE).run(find_pairs(gopro), lambda xs: (x.double() for x in xs)) == plain


def test_restoring_in_place_leaves_the_blurry_frames(gopro):
    apart = Benchmark(BASE).run(find_pairs(gopro), lambda xs: (0.5 * x for x in xs))
    assert Benchmark(BASE).run(find_pairs(gopro), lambda xs: (x.mul_(0.5) for x in xs)) == apart


def test_a_sequence_of_frames_of_several_sizes_is_an_error_not_a_crash(gopro, capsys):
    for side in ("blur", "sharp"):
        path = gopro / "GOPR0384" / side / "000002.png"
        write_image(path, integer_from_unit(torch.rand(3, 16, 32)))
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "--data", str(gopro), "-m", "lite", "--device", "cpu"])
    assert stopped.value.code == 2
    assert "all must have the same size" in capsys.readouterr().err


def test_frames_that_are_shrunk_from_files_are_rounded_as_the_truth_is(tmp_path):
    """ESTRNN truncates the network's output, but equal files must score as equal."""
    protocol = replace(find_protocol("estrnn-gopro-ds"), size=(32, 24), skip=0)
    save(tmp_path / "sharp", one_scene(2, 48, 64))
    (pair,) = find_comparisons(tmp_path / "sharp", tmp_path / "sharp")
    ((result,),) = Benchmark(protocol).compare([pair])
    assert [frame.psnr for frame in result.frames] == [math.inf] * 2
