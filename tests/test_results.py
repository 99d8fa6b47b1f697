"""docs/results.md is what scripts/results.py makes of the committed records."""

from __future__ import annotations

import json
import sys

import pytest

from tests.conftest import load_script
from unsmear.evaluate.camera import MEASURES
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
    known = {"attention", "coded", "eval", "synthesis", *speed, *results.COMPARISONS}
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


def test_check_fails_for_a_page_that_was_touched(results, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["results.py", "--check"])
    results.main()
    touched = tmp_path / "results.md"
    touched.write_text(results.page() + "by hand")
    monkeypatch.setattr(results, "PAGE", touched)
    with pytest.raises(SystemExit, match=r"run scripts/results\.py"):
        results.main()
    monkeypatch.setattr(sys, "argv", ["results.py"])
    results.main()
    assert touched.read_text() == results.page()
