"""`unsmear eval` as users run it, on small folders in the published layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import one_scene
from tests.evaluate.conftest import save
from unsmear.cli import main
from unsmear.engines import choice
from unsmear.errors import ConfigError
from unsmear.evaluate import run
from unsmear.evaluate.protocol import find_protocol
from unsmear.evaluate.run import check_several, find_work
from unsmear.models.checkpoint import digest_of
from unsmear.models.zoo import load_model, load_polish
from unsmear.restoration import DEFAULT_BURST
from unsmear.video.images import read_image

BASE = find_protocol("basicsr2d")


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
        "polish": None,
        "reblur": False,
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
        (["--data", "."], "no paired sequences"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["eval", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


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


def test_a_set_given_as_the_truth_is_told_the_remedy(reds, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "--restored", str(reds / "val_blur"), "--sharp", str(reds)])
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert f"in the layout reds, not only a ground truth: give --data '{reds}'" in shown


def test_names_in_brackets_are_shown_as_they_are(tmp_path, capsys):
    for side in ("made", "truth"):
        save(tmp_path / side / "a[/b]", one_scene(2, 16, 16))
    main(["eval", "--restored", str(tmp_path / "made"), "--sharp", str(tmp_path / "truth")])
    assert "a[/b]" in capsys.readouterr().out.replace("\n", "")


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


def test_the_engine_that_was_taken_is_named(gopro, weights_file, monkeypatch):
    """Not `auto`, which may be another engine on another machine."""
    monkeypatch.setattr(choice, "fastest", lambda model, device: "torch-half")
    (work,) = find_work(gopro, None, None, None, [str(weights_file)], None, "cpu", "auto")
    assert "(torch-half) on test" in work.title


def test_a_measurement_of_corrected_frames_says_so(gopro, tmp_path, weights_file, capsys):
    file = tmp_path / "r.json"
    options = ["--burst", "1", "--polish", "--reblur", "--table1", "--json", str(file)]
    main(["eval", "--data", str(gopro), "-m", str(weights_file), *options])
    assert "with what ran around it (burst 1, polished, reblurred)" in capsys.readouterr().out
    found = json.loads(file.read_text())
    assert found["title"] == "small, burst 1, polished, reblurred on test"
    assert found["model"]["polish"] == digest_of(load_polish(told=True))
    assert found["model"]["reblur"] is True
