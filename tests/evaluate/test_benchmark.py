"""`unsmear eval` as users run it, on small folders in the published layouts."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch

from tests.conftest import one_scene
from unsmear.cli import main
from unsmear.data.pairs import find_pairs
from unsmear.engines import choice
from unsmear.errors import CombinedError, ConfigError, InputError
from unsmear.evaluate import report, run
from unsmear.evaluate.benchmark import Benchmark
from unsmear.evaluate.frames import find_comparisons
from unsmear.evaluate.metrics import psnr, ssim
from unsmear.evaluate.niqe import load_model as load_pristine
from unsmear.evaluate.protocol import find_protocol
from unsmear.evaluate.report import TABLE_1, as_json, as_markdown, table_1_lines
from unsmear.evaluate.run import check_several, find_work
from unsmear.evaluate.scores import (
    BenchmarkResult,
    MeasuredModel,
    SequenceResult,
    mean_of,
    mean_of_sequences,
)
from unsmear.models.checkpoint import digest_of
from unsmear.models.zoo import load_model
from unsmear.restoration import DEFAULT_BURST
from unsmear.video.images import integer_from_unit, read_image, write_image

BASE = find_protocol("basicsr2d")


def save(folder, frames):
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        write_image(folder / f"{index:06d}.png", integer_from_unit(frame))


@pytest.fixture
def gopro(tmp_path):
    root = tmp_path / "GOPRO" / "test"
    for name, count in (("GOPR0384", 5), ("GOPR0385", 3)):
        sharp = one_scene(count, 24, 32)
        for side, noise in (("sharp", 0.0), ("blur", 0.05), ("blur_gamma", 0.2)):
            save(root / name / side, (sharp + noise * torch.randn_like(sharp)).clamp(0, 1))
    return root


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


def test_what_changes_nothing_flickers_as_its_input(gopro):
    (results,) = Benchmark(BASE).run(find_pairs(gopro), iter)
    for result in results:
        assert result.frames[0].flicker_before is None
        for score in result.frames[1:]:
            assert score.flicker_before == score.flicker > 0
    (halved,) = Benchmark(BASE).run(find_pairs(gopro), lambda frames: (0.5 * x for x in frames))
    assert all(s.flicker_before != s.flicker for result in halved for s in result.frames[1:])


@pytest.mark.parametrize("workers", [1, 7])
def test_workers_change_nothing(gopro, workers):
    one = Benchmark(BASE).run(find_pairs(gopro), iter)
    assert Benchmark(BASE, workers=workers).run(find_pairs(gopro), iter) == one


def test_several_protocols_measure_frames_that_are_restored_once(gopro):
    floor, exact = (
        replace(find_protocol(name), skip=1, block=1) for name in ("estrnn", "shiftnet")
    )
    restored, kept = [], []

    def restore(frames):
        for frame in frames:
            restored.append(0.9 * frame)
            yield restored[-1]

    def keep(sequence, index, frame):
        kept.append(frame)

    measured = Benchmark(BASE, floor, exact, workers=2).run(find_pairs(gopro), restore, keep)
    assert len(restored) == 8
    assert all(map(torch.equal, kept, map(BASE.quantize, restored)))
    for protocol, results in zip((BASE, floor, exact), measured, strict=True):
        assert [results] == Benchmark(protocol).run(
            find_pairs(gopro), lambda frames: (0.9 * frame for frame in frames)
        )
    with pytest.raises(ConfigError, match=r"'estrnn-gopro-ds' restores .* size than 'basicsr2d'"):
        Benchmark(BASE, find_protocol("estrnn-gopro-ds"))


def test_skipping_protocols_compare_with_the_frame_before_all_the_same(gopro):
    sequences = [pair for pair in find_pairs(gopro) if pair.name == "GOPR0384"]
    ((result,),) = Benchmark(find_protocol("cdvd")).run(sequences, iter)
    (score,) = result.frames
    assert score.index == 2
    assert score.flicker is not None


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


def test_folders_are_compared_by_name(gopro, tmp_path):
    sharp = gopro / "GOPR0384" / "sharp"
    (flat,) = find_comparisons(gopro / "GOPR0384" / "blur", sharp)
    ((result,),) = Benchmark(BASE).compare([flat])
    ((direct, _),) = Benchmark(BASE).run(find_pairs(gopro), iter)
    assert [frame.psnr for frame in result.frames] == [frame.psnr for frame in direct.frames]
    assert result.frames[0].psnr_before is result.frames[1].flicker_before is None
    for name in ("a", "b"):
        save(tmp_path / "made" / name, one_scene(2, 16, 16))
        save(tmp_path / "truth" / name, one_scene(2, 16, 16))
    assert [c.name for c in find_comparisons(tmp_path / "made", tmp_path / "truth")] == ["a", "b"]
    (tmp_path / "made" / "b" / "000001.png").unlink()
    with pytest.raises(InputError, match=r"1 and 2; without .*: '[^']*truth.b.000001.png'; add"):
        find_comparisons(tmp_path / "made", tmp_path / "truth")
    with pytest.raises(InputError, match="not a folder"):
        find_comparisons(tmp_path / "nowhere", sharp)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        find_comparisons(sharp, tmp_path / "empty")


def test_sizes_that_differ_are_named(tmp_path):
    save(tmp_path / "made", one_scene(1, 16, 16))
    save(tmp_path / "truth", one_scene(1, 16, 20))
    with pytest.raises(InputError, match="differ in height or width"):
        Benchmark(BASE).compare(find_comparisons(tmp_path / "made", tmp_path / "truth"))


def test_equal_frames_are_infinite_and_json_says_so(gopro):
    sharp = gopro / "GOPR0384" / "sharp"
    (results,) = Benchmark(BASE).compare(find_comparisons(sharp, sharp))
    result = BenchmarkResult("itself", BASE, tuple(results))
    assert mean_of(result.frames, "psnr") == math.inf
    assert json.loads(as_json(result))["all"]["psnr"] == "inf"
    assert json.loads(as_json(result))["all"]["psnr_before"] is None
    assert json.loads(as_json(result))["model"] is None


def test_table_1_is_the_papers_and_ours_says_what_it_counts(gopro):
    assert len(TABLE_1) == 8
    assert TABLE_1[-1] == ("the paper", 31.61, 0.91)
    results = tuple(Benchmark(BASE).run(find_pairs(gopro), iter)[0])
    lines = table_1_lines(BenchmarkResult("lite on test", BASE, results))
    assert len(lines) == 2 + 8 + 1
    assert "arXiv 2201.00169" in lines[2]
    assert "8 frames, not GOPRO's 1111" in lines[-1]
    alone = MeasuredModel(
        name="lite", digest="", window=5, engine="torch", device="cpu",
        ensemble=1, refine=0, burst=0,
    )  # fmt: skip
    for change, remark in (
        ({}, None),
        ({"burst": 1}, "(burst 1)"),
        ({"ensemble": 2}, "(ensemble of 2, burst 0)"),
        ({"refine": 1}, "(refined 1x, burst 0)"),
    ):
        measured = BenchmarkResult("x", BASE, results, replace(alone, **change))
        rest = table_1_lines(measured)[11:]
        assert rest == [] if remark is None else remark in rest[-1]


def test_the_command_measures_a_model_and_writes_every_report(
    gopro, tmp_path, weights_file, capsys
):
    files = [tmp_path / name for name in ("r.md", "r.json", "r.png")]
    reports = ["--markdown", str(files[0]), "--json", str(files[1]), "--plot", str(files[2])]
    main(["eval", "--data", str(gopro), "-m", str(weights_file), "--table1", *reports])
    shown = capsys.readouterr().out
    assert "8 frames" in shown
    assert "31.61" in shown
    title = "small, burst 2 on test"
    assert shown.startswith(title)
    assert f"| {title} |" in shown
    assert "with what ran around it (burst 2)" in shown
    text = files[0].read_text(encoding="utf-8")
    assert text.startswith(title)
    assert "`--burst 0`, without --ensemble and --refine, measures the network alone" in text
    assert "| GOPR0384 | 5 |" in text
    assert "| all frames | 8 |" in text
    assert "| mean of sequences | 8 |" in text
    assert "`basicsr2d`" in text
    found = json.loads(files[1].read_text())
    assert found["title"] == title
    assert [sequence["frames"] for sequence in found["sequences"]] == [5, 3]
    assert len(found["sequences"][0]["scores"]) == 5
    assert [sequence["layout"] for sequence in found["sequences"]] == ["gopro", "gopro"]
    each = [sequence["psnr"] for sequence in found["sequences"]]
    assert found["mean_of_sequences"]["psnr"] == pytest.approx(sum(each) / 2)
    assert found["mean_of_sequences"]["sequences"] == 2
    assert found["model"] == {
        "name": "small",
        "digest": digest_of(load_model(str(weights_file)).network),
        "window": load_model(str(weights_file)).window,
        "engine": "torch",
        "device": found["model"]["device"],
        "ensemble": 1,
        "refine": 0,
        "burst": DEFAULT_BURST,
    }
    assert read_image(files[2]).shape[0] == 3


def test_several_models_and_protocols_share_a_table(
    gopro, weights_file, aligned_file, tmp_path, monkeypatch, capsys
):
    restore_stream, restored = run.restore_stream, []
    monkeypatch.setattr(
        run, "restore_stream", lambda *a, **b: restored.append(a) or restore_stream(*a, **b)
    )
    files = [tmp_path / name for name in ("r.md", "r.json", "one.json")]
    base = ["eval", "--data", str(gopro), "--device", "cpu"]
    models = ["-m", str(weights_file), str(aligned_file), "--protocol", "basicsr2d", "matlab3d"]
    main([*base, *models, "--table1", "--markdown", str(files[0]), "--json", str(files[1])])
    assert len(restored) == 2 * 2  # models, sequences
    main([*base, "-m", str(aligned_file), "--protocol", "matlab3d", "--json", str(files[2])])
    records, alone = (json.loads(path.read_text()) for path in files[1:])
    assert {**records[-1], "origin": None} == {**alone, "origin": None}
    names = [(record["model"]["name"], record["protocol"]["name"]) for record in records]
    assert names == [
        (model, protocol)
        for model in ("small", "aligned")
        for protocol in ("basicsr2d", "matlab3d")
    ]
    lines = files[0].read_text().splitlines()
    means = [line.split(" | ") for line in lines if " | frames | 8 | " in line]
    assert [(row[0], row[1]) for row in means] == [
        (f"| {model}, burst 2 on test", protocol) for model, protocol in names
    ]
    assert [row[5] for row in means] == [f"{record['all']['psnr']:.2f}" for record in records]
    assert sum(" | sequences | 8 | " in line for line in lines) == 4
    assert sum("measured here" in line for line in lines) == 4
    assert lines.count(f"- protocol matlab3d: {find_protocol('matlab3d').summary}") == 1
    shown = capsys.readouterr().out
    assert shown.startswith("small, burst 2 on test\naligned, burst 2 on test\nprotocol basic")


def test_refining_reaches_the_work(gopro, aligned_file, tmp_path, capsys):
    path, shown, scores = tmp_path / "r.json", [], set()
    for extra in (["--refine", "0"], ["--refine", "1"], ["--refine", "1", "--ensemble", "2"]):
        base = ["eval", "--data", str(gopro), "-m", str(aligned_file), "--device", "cpu"]
        main([*base, "--burst", "0", "--json", str(path), *extra])
        shown.append(capsys.readouterr().out.splitlines()[0])
        scores.add(json.dumps(json.loads(path.read_text())["sequences"]))
    assert ", network alone on test" in shown[0]
    assert ", refined 1x, burst 0 on test" in shown[1]
    assert ", ensemble of 2, refined 1x, burst 0 on test" in shown[2]
    assert len(scores) == 3


def test_window_and_layout_reach_the_work(gopro, weights_file, capsys):
    base = ["eval", "--data", str(gopro), "-m", str(weights_file), "--device", "cpu"]
    shown = []
    for extra in (
        ["--window", "5", "--burst", "0"],
        ["--window", "all", "--burst", "0"],
        ["--layout", "gopro-gamma"],
        [],
        ["--window", "all", "--ensemble", "2"],
    ):
        main([*base, *extra])
        shown.append(capsys.readouterr().out.splitlines())
    assert shown[0][-3:] == shown[1][-3:]  # sequences have at most five frames
    assert "(gopro-gamma)" in shown[2][0]
    assert shown[2][-1] != shown[3][-1] != shown[0][-1]
    assert ", network alone (window 5) on" in shown[0][0]
    assert "window" not in shown[3][0]
    assert ", ensemble of 2, burst 2 (window all) on" in shown[4][0]
    assert shown[4][-1] != shown[3][-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --data"),
        (["--sharp", "x", "--niqe"], "either --data"),
        (["--restored", "x", "--niqe"], "'x' is not a folder of images or a video"),
        (["--restored", "x", "--niqe", "--vmaf"], "need a ground truth"),
        (["--restored", "x", "--niqe", "--table1"], "need a ground truth"),
        (["--restored", "x", "--niqe", "--plot", "p.png"], "need a ground truth"),
        (["--restored", "x", "--niqe", "-m", "lite"], "leave them out with --restored"),
        (["--restored", "x"], "either --data"),
        (["--data", "x", "--sharp", "y"], "either --data"),
        (["--data", "x", "--sharp", "y", "--restored", "z"], "either --data"),
        (["--sharp", "y", "--restored", "z", "--layout", "dvd"], "leave it out with --sharp"),
        (["--data", "x", "--restored", "z", "--window", "3"], "leave them out with --restored"),
        (["--data", "x", "--restored", "z", "--save", "o"], "leave out --restored"),
        (["--data", "nowhere", "--restored", "z"], "'nowhere' is not a folder"),
        (["--data", "nowhere"], "'nowhere' is not a folder"),
        (["--data", ".", "--layout", "kitti"], "unknown layout 'kitti'"),
        (["--data", ".", "--protocol", "mine"], "unknown protocol 'mine'"),
        (["--data", "x", "--protocol"], "--model and --protocol need a name"),
        (["--data", "x", "-m"], "--model and --protocol need a name"),
        (["--data", "x", "--protocol", "cdvd", "cdvd"], "protocol 'cdvd' is given twice"),
        (["--data", "x", "--protocol", "all", "cdvd"], "'all' includes the others: give it alone"),
        (["--data", "x", "--protocol", "cdvd", "estrnn-gopro-ds"], "of another size than 'cdvd'"),
        (["--data", "x", "--protocol", "all", "--save", "o"], "estrnn floor, shiftnet none): give"),
        (["--data", "x", "--protocol", "all", "--plot", "p.png"], "--plot shows one result"),
        (["--data", "x", "-m", "lite", "core", "--plot", "p.png"], "--plot shows one result"),
        (["--data", "x", "-m", "lite", "core", "--save", "o"], "the frames of one model"),
        (["--data", "x", "-m", "lite", "lite"], "model 'lite' is given twice"),
        (["--data", ".", "--pair", "order"], "--pair order pairs --restored with --data or"),
        (["--restored", ".", "--niqe", "--pair", "order"], "give both sides"),
        (["--data", ".", "--window", "2"], "window is 2"),
        (["--data", ".", "--window", "3" * 5000], "must be an odd number"),
        (["--data", ".", "--burst", "9"], "burst is 9"),
        (["--data", ".", "--ensemble", "5"], "ensemble is 5"),
        (["--data", ".", "--refine", "4"], "refine is 4"),
        (["--data", "."], "no blurry and sharp frames"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["eval", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_extra_names_its_command(gopro, tmp_path, monkeypatch):
    import builtins

    original = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *rest)

    results = tuple(Benchmark(BASE).run(find_pairs(gopro), iter)[0])
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"unsmear\[eval\]"):
        report.write_plot(tmp_path / "x.png", BenchmarkResult("x", BASE, results))


def test_markdown_leaves_out_what_was_not_measured(gopro):
    sharp = gopro / "GOPR0384"
    (results,) = Benchmark(BASE).compare(find_comparisons(sharp / "blur", sharp / "sharp"))
    text = as_markdown(BenchmarkResult("x", BASE, tuple(results)))
    assert "blurry" not in text
    assert "| sharp | 5 |" in text


def test_a_sequence_of_frames_of_several_sizes_is_an_error_not_a_crash(gopro, capsys):
    for side in ("blur", "sharp"):
        path = gopro / "GOPR0384" / side / "000002.png"
        write_image(path, integer_from_unit(torch.rand(3, 16, 32)))
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "--data", str(gopro), "-m", "lite", "--device", "cpu"])
    assert stopped.value.code == 2
    assert "all must have the same size" in capsys.readouterr().err


def test_what_is_said_of_a_model_is_refused_where_there_is_none(gopro, capsys):
    folders = ["--restored", str(gopro / "GOPR0384" / "blur")]
    folders += ["--sharp", str(gopro / "GOPR0384" / "sharp")]
    for option in (
        ["--window", "3"],
        ["--refine", "1"],
        ["--burst", "0"],
        ["-m", "nonsense"],
        ["--engine", "torch"],
        ["--device", "cpu"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["eval", *folders, *option])
        assert stopped.value.code == 2
        assert "leave them out with --restored" in capsys.readouterr().err


def test_names_in_brackets_are_shown_as_they_are(tmp_path, capsys):
    for side in ("made", "truth"):
        save(tmp_path / side / "a[/b]", one_scene(2, 16, 16))
    main(["eval", "--restored", str(tmp_path / "made"), "--sharp", str(tmp_path / "truth")])
    assert "a[/b]" in capsys.readouterr().out.replace("\n", "")


def test_reports_hold_names_that_are_no_valid_text_nor_mathtext(tmp_path):
    for side in ("made", "truth"):
        save(tmp_path / side / os.fsdecode(b"caf\xe9"), one_scene(2, 16, 16))
        save(tmp_path / side / "clip_$1_$2", one_scene(2, 16, 16))
    reports = [tmp_path / name for name in ("r.md", "r.json", "r.png")]
    base = ["eval", "--restored", str(tmp_path / "made"), "--sharp", str(tmp_path / "truth")]
    options = zip(("--markdown", "--json", "--plot"), map(str, reports), strict=True)
    main([*base, *chain.from_iterable(options)])
    assert r"| caf\udce9 | 2 |" in reports[0].read_text(encoding="utf-8")
    assert [row["name"] for row in json.loads(reports[1].read_text())["sequences"]] == [
        "caf\udce9",
        "clip_$1_$2",
    ]
    assert reports[2].stat().st_size > 0


def test_niqe_needs_no_truth(tmp_path, capsys):
    for name in ("a", "b"):
        save(tmp_path / "made" / name, one_scene(2, 192, 192))
    out = tmp_path / "r.json"
    main(["eval", "--restored", str(tmp_path / "made"), "--niqe", "--json", str(out)])
    shown = capsys.readouterr().out
    assert "NIQE" in shown
    assert "PSNR" not in shown
    record = json.loads(out.read_text())
    assert [row["name"] for row in record["sequences"]] == ["a", "b"]
    assert record["all"]["frames"] == 4
    assert record["all"]["niqe"] > 0
    assert record["all"]["psnr"] is record["all"]["niqe_sharp"] is None
    alone = record["sequences"][0]["scores"]
    beside = tmp_path / "beside.json"
    folders = ["--restored", str(tmp_path / "made" / "a"), "--sharp", str(tmp_path / "made" / "a")]
    main(["eval", *folders, "--niqe", "--json", str(beside)])
    both = json.loads(beside.read_text())["sequences"][0]["scores"]
    assert [row["niqe"] for row in alone] == [row["niqe"] for row in both]


def test_restored_frames_without_a_truth_are_named(tmp_path):
    for side, names in (("made", "ab"), ("truth", "a")):
        for name in names:
            save(tmp_path / side / name, one_scene(2, 16, 16))
    with pytest.raises(InputError, match=r"made/b' contains images, but '.*truth/b' has none"):
        find_comparisons(tmp_path / "made", tmp_path / "truth")


def test_titles_tell_models_and_sets_of_one_name_apart(gopro, weights_file, monkeypatch):
    """`unsmear train` gives all weights the same name, and data sets share folder names."""
    place = gopro / "runs" / "one"
    place.mkdir(parents=True)
    weights_file.rename(place / "weights.safetensors")
    monkeypatch.chdir(gopro)
    data = Path("GOPR0384")
    named = str(Path("runs", "one", "weights.safetensors"))
    assert find_work(data, None, None, None, [named], None, "cpu")[0].title == (
        "one/weights, burst 2 on GOPR0384"
    )
    (upward,) = find_work(
        Path("runs", "one", "..", "..", data), None, None, None, [named], None, "cpu"
    )
    assert upward.title == "one/weights, burst 2 on GOPR0384"
    whole_paths = [str(Path(named).resolve())]
    (whole,) = find_work(data.resolve(), None, None, None, whole_paths, None, "cpu")
    assert whole.title == "weights, burst 2 on GOPR0384"  # no paths of the user in titles
    other = place.with_name("two") / "weights.safetensors"
    other.parent.mkdir()
    shutil.copy(named, other)
    several = find_work(data, None, None, None, [*whole_paths, str(other)], None, "cpu")
    assert [work.title.split(",")[0] for work in several] == [
        "one/weights.safetensors",
        "two/weights.safetensors",
    ]
    with pytest.raises(ConfigError, match="is given twice"):
        check_several([named, *whole_paths], [BASE], save=None, plot=None)
    monkeypatch.chdir(gopro / "GOPR0384")
    above = [str(Path("..", named))]
    (inside,) = find_work(Path(), None, None, None, above, None, "cpu")
    assert inside.title == "one/weights, burst 2 on GOPR0384"
    assert [sequence.name for sequence in inside.sequences] == ["GOPR0384"]
    (outside,) = find_work(Path(".."), None, None, None, above, None, "cpu")
    assert outside.title == f"one/weights, burst 2 on {gopro.name}"


def test_frames_that_are_shrunk_from_files_are_rounded_as_the_truth_is(tmp_path):
    """ESTRNN truncates the network's output, but equal files must score as equal."""
    protocol = replace(find_protocol("estrnn-gopro-ds"), size=(32, 24), skip=0)
    save(tmp_path / "sharp", one_scene(2, 48, 64))
    (pair,) = find_comparisons(tmp_path / "sharp", tmp_path / "sharp")
    ((result,),) = Benchmark(protocol).compare([pair])
    assert [frame.psnr for frame in result.frames] == [math.inf] * 2


def test_numbers_that_are_none_can_be_written(gopro):
    ((result, *_),) = Benchmark(BASE).run(
        find_pairs(gopro), lambda frames: (f * math.nan for f in frames)
    )
    text = as_json(BenchmarkResult("t", BASE, (result,)))
    assert json.loads(text)["sequences"][0]["scores"][0]["psnr"] == "nan"


def test_the_engine_that_was_taken_is_named(gopro, weights_file, monkeypatch):
    """Not `auto`, which may be another engine on another machine."""
    monkeypatch.setattr(choice, "fastest", lambda model, device: "torch-half")
    (work,) = find_work(gopro, None, None, None, [str(weights_file)], None, "cpu", "auto")
    assert "(torch-half) on test" in work.title
