"""docs/results.md is what scripts/results.py makes of the committed records."""

from __future__ import annotations

import json
import sys

import pytest

from tests.conftest import load_script
from unsmear.deploy.records import BenchRecord, EngineTime
from unsmear.evaluate.camera import MEASURES
from unsmear.evaluate.origin import Origin
from unsmear.evaluate.report import TABLE_1


@pytest.fixture(scope="module")
def results():
    return load_script("scripts/results.py")


def test_the_page_is_what_the_records_say(results):
    assert results.PAGE.read_text(encoding="utf-8") == results.page()


def test_records_name_machine_versions_command_and_date_and_no_folders(results):
    records = sorted(results.RECORDS.glob("*.json"))
    kinds = {path.name.split("-")[0] for path in records}
    speed = {"bench", "windows", "memory"}
    known = {"attention", "coded", "dense", "eval", "synthesis", *speed, *results.COMPARISONS}
    assert {"eval", "fusion", *speed} <= kinds <= known
    for path in records:
        origin = json.loads(path.read_text())["origin"]
        assert all(origin[key] for key in ("machine", "versions", "command", "date"))
        assert "/tmp" not in path.read_text()


def test_without_gopro_table_1_says_so_and_with_it_has_a_row(results, tmp_path):
    (released,) = [p for p in results.RECORDS.glob("eval-*.json") if "gopro" not in p.name][:1]
    record = json.loads(released.read_text())
    (tmp_path / "eval-lite.json").write_text(json.dumps(record))
    page = results.page(tmp_path)
    assert all(name in page for name, _, _ in TABLE_1)
    assert "could not be had" in page
    record["all"] |= {"psnr": 31.234, "ssim": 0.9, "frames": 1111}
    record["title"] = "lite on GOPRO"
    (tmp_path / "eval-gopro-lite.json").write_text(json.dumps(record))
    page = results.page(tmp_path)
    assert "| lite on GOPRO | 31.23 | 0.9000 | measured here, `basicsr2d`, 1111 frames |" in page
    assert "could not be had" not in page


def test_what_training_is_fed_has_a_section_with_words_beside(results, tmp_path):
    spread = {"low": 1.0, "middle": 2.0, "high": 3.0, "known": 0.5}
    measures = dict.fromkeys(MEASURES, spread) | {"duty": None}
    (tmp_path / "synthesis-one.json").write_text(
        json.dumps(
            {
                "title": "Preset `one` against real video",
                "pieces": {"phone": 4},
                "sides": {"phone": measures},
                "origin": {"machine": "m", "versions": "v", "command": "c", "date": "d"},
            }
        )
    )
    (tmp_path / "synthesis-one.md").write_text("It moves too little.\n")
    page = results.page(tmp_path)
    section = page[page.index("## What training is fed, against real cameras") :]
    assert "### Preset `one` against real video" in section
    assert "| blur, px | 2.00 (1.00 to 3.00), of 50 % |" in section
    assert section.index("Measured by `c`") < section.index("It moves too little.")
    assert "What training is fed" not in results.page(tmp_path / "empty")


def bench(model, seconds, *, machine="m", size=(1280, 720), engine="torch"):
    return BenchRecord(
        model, *size, 2, 100.0, (EngineTime(engine, seconds),), None,
        Origin(machine=machine, versions="v", command="c", date="d"),
    )  # fmt: skip


def test_times_are_the_quickest_of_the_machine_that_has_most(results):
    benches = [
        bench("lite", 0.6), bench("lite", 0.5), bench("core", 1.0),
        bench("core", 0.1, engine="onnx"), bench("pro", 2.0, machine="fast"),
        bench("core", 0.2, machine="fast"),
        bench("pro", 0.3, size=(640, 360)), bench("plus", None), bench("plus", 3.0),
    ]  # fmt: skip
    assert results.frame_times(benches) == ("m", {"lite": 0.5, "core": 1.0, "plus": 3.0})
    assert results.frame_times([]) == ("", {})


def evaluation(gains, window=None):
    return {
        "title": "lite on val",
        "origin": {"machine": "m", "versions": "v", "command": f"w{window}", "date": "d"},
        "all": {"ssim": 0.9},
        "sequences": [
            {"name": name, "psnr": 30.0 + gain, "psnr_before": 30.0} for name, gain in gains.items()
        ],
    }


def test_frames_that_came_out_equal_have_a_place_in_tables(results):
    """JSON has no infinity: `unsmear eval` writes the text "inf"."""
    record = evaluation({"a": 1.0})
    record |= {"protocol": {"name": "p", "summary": "s"}, "all": {"frames": 1, "psnr": "inf"}}
    record["sequences"] = [{"name": "a", "frames": 1, "psnr": "inf", "psnr_before": 30.0}]
    lines = results.evaluation_lines(record)
    assert "| a | 1 | inf |" in lines
    assert results.sequence_gains(record) == {"a": float("inf")}
    record["all"] |= {"flicker": 1.0}
    record["sequences"][0] |= {"flicker": None}
    assert "| a | 1 | inf | - |" in results.evaluation_lines(
        record | {"all": {"frames": 1, "psnr": "inf", "flicker": 1.0}}
    )


def test_released_networks_are_set_side_by_side(results):
    gains = {"dog": -0.5, "walk_a": 1.0, "walk_b": 2.0}
    found = {"eval-lite": evaluation(gains), "eval-lite-half": {}, "eval-other": {}}
    lines = results.front_section(found, [bench("lite", 0.5)])
    assert "| `lite` | 1.87 | 0.62 | 2.00 | +1.50 | -0.50 | yes |" in lines
    assert any("on m, by the quickest" in line for line in lines)
    assert sum(line.startswith("| `") for line in lines) == 1
    assert results.front_section({}, [bench("lite", 0.5)]) == []


def test_windows_of_a_network_make_one_table_in_order(results, tmp_path):
    (real,) = [p for p in results.RECORDS.glob("eval-*.json") if "gopro" not in p.name][:1]
    record = json.loads(real.read_text())
    for window in (15, 3):
        record["origin"]["command"] = f"with window {window}"
        (tmp_path / f"eval-core-window-{window}.json").write_text(json.dumps(record))
    page = results.page(tmp_path)
    section = page[page.index("### `core` by window") : page.index("## Table 1")]
    assert section.index("\n| 3 | ") < section.index("\n| 15 | ")
    assert section.index("`with window 3`") < section.index("`with window 15`")
    assert "PSNR restored" not in page  # no separate table for each window


def test_several_models_or_protocols_of_a_run_each_have_their_table(results, tmp_path):
    real = json.loads((results.RECORDS / "eval-lite.json").read_text())
    both = [
        real | {"title": "one"},
        real | {"title": "two", "protocol": {"name": "p", "summary": "s"}},
    ]
    for name in ("lite", "gopro-both"):
        (tmp_path / f"eval-{name}.json").write_text(json.dumps(both))
    page = results.page(tmp_path)
    assert page.count("**one**") == page.count("**two**") == 1
    assert page.count("| one | ") == page.count("| two | ") == 1  # rows of Table 1
    assert "Gain against time" not in page  # the settings of `lite` in it are not known


def test_check_fails_for_a_page_that_was_touched(results, tmp_path, monkeypatch):
    page = tmp_path / "results.md"
    monkeypatch.setattr(results, "PAGE", page)
    monkeypatch.setattr(results, "page", lambda: "what the records say")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["results.py", *arguments])
        results.main()

    run()
    assert page.read_text(encoding="utf-8") == "what the records say"
    run("--check")
    page.write_text("touched by hand", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"run scripts/results\.py"):
        run("--check")
    assert page.read_text(encoding="utf-8") == "touched by hand"
