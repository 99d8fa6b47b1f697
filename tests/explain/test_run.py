"""`unsmear explain` as users see it: a consistent page, complete or absent."""

from __future__ import annotations

import os
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from tests.conftest import disk_full, image, write_frames, write_video
from unsmear.cli import main
from unsmear.engines.choice import open_model
from unsmear.errors import ConfigError, OutputError
from unsmear.explain import drawing, run
from unsmear.models.zoo import load_model
from unsmear.video.images import read_image, write_image
from unsmear.video.reader import read_rgb8

ONE_OF_EACH = {"before.png", "after.png", "change.png", "influence.png", "index.html"}
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """The links of a page, and whether its tags are closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.alts: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags[tag] += 1
        self.links += [found[name] for name in ("src", "href") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag == "img":
            self.alts.append(found["alt"])
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


def check_page(folder: Path) -> Page:
    """The page and the images beside it belong together."""
    page = Page(folder / "index.html")
    files = {link for link in page.links if not link.startswith("#")}
    assert files == {path.name for path in folder.iterdir()} - {"index.html"}
    assert {link[1:] for link in page.links if link.startswith("#")} == set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert all(len(alt) > 10 for alt in page.alts)
    assert page.tags["script"] == 0
    assert page.text.count("How to read it:") == page.tags["figure"] == len(page.ids) + 1
    return page


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    monkeypatch.setattr(drawing, "DPI", 40)  # quicker


@pytest.fixture
def blank(monkeypatch):
    """Empty images, for tests that do not depend on them."""

    def draw(path: Path, *_: object) -> None:
        write_image(path, torch.zeros(3, 2, 2, dtype=torch.uint8))

    for kind in ("change", "spatial", "temporal", "taken", "field"):
        monkeypatch.setattr(run, f"draw_{kind}", draw)


@pytest.fixture
def clip(tmp_path):
    return write_video(tmp_path / "a <b> & é.mp4", frames=6)


def test_a_video_is_explained(clip, tmp_path, weights_file, capsys):
    out = tmp_path / "out[x264]"
    main(["explain", str(clip), "--frame", "2", "-o", str(out), "-m", str(weights_file)])
    page = check_page(out)
    levels = {f"level{n}-{kind}.png" for n in (1, 2) for kind in ("spatial", "temporal", "taken")}
    assert {path.name for path in out.iterdir()} == ONE_OF_EACH | levels
    assert "frame 2 of a <b> & é.mp4" in page.text
    assert "5 frames requested, 5 available (0 to 4)" in page.text
    assert "(level 2, 1/8 of the size)" in page.text
    assert str(out / "index.html") in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [clip.name, out.name, weights_file.name]
    )
    before, after = (read_image(out / f"{name}.png") for name in ("before", "after"))
    assert torch.equal(before, list(read_rgb8(clip))[2])
    assert not torch.equal(after, before)


def test_a_folder_is_explained_as_asked(tmp_path, weights_file):
    source, out = tmp_path / "blurry", tmp_path / "out.d"
    write_frames(source, (image(30, 44).roll(index, -1) / 255 for index in range(3)))
    base = ["explain", str(source), "--frame", "0", "-o", str(out), "-m", str(weights_file)]
    main([*base, "--level", "2", "--pixel", "43,29", "--window", "3"])
    page = check_page(out)
    assert {path.name for path in out.iterdir()} == ONE_OF_EACH | {
        "level2-spatial.png",
        "level2-temporal.png",
        "level2-taken.png",
    }
    assert "/blurry" in page.text
    assert "(file 00)" in page.text
    assert "pixel 43,29" in page.text
    assert "shorter than requested" in page.text


def test_many_frames_are_spread_over_pictures(tmp_path, weights_file, blank):
    clip, out = write_video(tmp_path / "clip.mp4", frames=9), tmp_path / "out"
    main(
        ["explain", str(clip), "--frame", "4", "-o", str(out), "-m", str(weights_file),
         "--window", "9", "--level", "1"]
    )  # fmt: skip
    page = check_page(out)
    assert {"level1-spatial-1.png", "level1-spatial-2.png"} <= set(page.links)
    assert {"influence-1.png", "influence-2.png"} <= set(page.links)
    assert any("part 2 of 2" in alt for alt in page.alts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frame", "6"], "has 6 frames, numbered 0 to 5"),
        (["--frame", "-1"], "must be 0 or more"),
        (["--frame", "1", "--window", "all"], "window is 'all'"),
        (["--frame", "1", "--window", "4"], "window is '4'"),
        (["--frame", "1", "--window", "9" * 23], "at most 9999"),
        (["--frame", "1", "--level", "0"], "level is 0"),
        (["--frame", "1", "--pixel", "5"], "must be X,Y"),
        (["--frame", "1", "--pixel", "64,0"], "X must be 0 to 63"),
        (["--frame", "1", "--device", "tpu"], "unknown device"),
        (["--frame", "1", "-o", "nowhere/out"], "there is no folder"),
        ([], "--frame"),
    ],
)
def test_bad_requests_are_one_line_and_leave_nothing(
    clip, tmp_path, weights_file, refused, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    output = [] if "-o" in arguments else ["-o", "out"]
    assert message in refused("explain", clip, "-m", weights_file, *output, *arguments)
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_overwritten_unasked(clip, tmp_path, weights_file, refused, blank):
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.html").write_text("precious")
    (out / "notes.txt").write_text("mine")
    base = ["explain", str(clip), "--frame", "1", "-o", str(out), "-m", str(weights_file)]
    assert "--overwrite" in refused(*base)
    assert {path.name for path in out.iterdir()} == {"index.html", "notes.txt"}
    main([*base, "--overwrite"])
    assert "precious" not in (out / "index.html").read_text(encoding="utf-8")
    assert (out / "notes.txt").read_text() == "mine"


def test_names_that_are_no_text_are_shown_as_they_can_be(tmp_path, weights_file, blank):
    clip, out = tmp_path / os.fsdecode(b"n\xff.mp4"), tmp_path / "out"
    write_video(tmp_path / "clip.mp4", frames=2).rename(clip)
    run.explain_clip(clip, out, open_model(str(weights_file), "cpu", "torch"), 0, level=1)
    assert r"n\udcff.mp4" in check_page(out).text


def test_a_window_of_none_is_not_the_models_own(clip, tmp_path, weights_file):
    with pytest.raises(ConfigError, match="window is 0"):
        run.explain_clip(clip, tmp_path / "out", load_model(str(weights_file)), 1, window=0)


@pytest.mark.parametrize(
    ("place", "name", "told"), [(run, "draw_field", "out"), (Path, "write_bytes", "out/before.png")]
)
def test_a_failure_half_way_leaves_nothing(
    clip, tmp_path, weights_file, monkeypatch, blank, place, name, told
):
    monkeypatch.setattr(place, name, disk_full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match=f"^cannot write '{tmp_path / told}': No space left"):
        run.explain_clip(clip, tmp_path / "out", load_model(str(weights_file)), 1)
    assert sorted(tmp_path.iterdir()) == before
