"""The commands and the Python code in the documents work."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch

from unsmear.cli import app
from unsmear.train.config import PRESETS
from unsmear.video.images import write_image

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")),
         *sorted((ROOT / "model_cards").glob("*.md"))]  # fmt: skip
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The arguments of `unsmear` on each line of a page's code blocks, whatever launches it."""
    lines = [line for kind, block in FENCED.findall(page.read_text(encoding="utf-8")) if not kind
             for line in block.splitlines()]  # fmt: skip
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] == ["unsmear"]:
            found.append(words[1:])
        elif words[:1] in (["torchrun"], ["srun"], ["timeout"]):
            found.append(words[words.index("unsmear") + 1 :])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_a_page_are_understood(page):
    for words in commands(page):
        _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        if "preset" in bound.arguments:
            assert bound.arguments["preset"] in PRESETS


def test_the_search_for_commands_finds_some():
    assert len(commands(ROOT / "README.md")) > 25
    assert ["models"] in commands(ROOT / "README.md")
    assert any("--clips" in words for words in commands(ROOT / "docs" / "research.md"))


def test_python_for_researchers_runs(tmp_path, monkeypatch):
    """Each block on its own, as a reader would paste it."""
    from unsmear.data.pairs import DEFAULT_LAYOUTS, PAIR_LAYOUTS, find_layout
    from unsmear.models.attention import ATTENTIONS
    from unsmear.models.fusion import FUSIONS
    from unsmear.models.network import DeblurNetwork
    from unsmear.models.zoo import ZOO
    from unsmear.train.losses import LOSSES

    for side in ("blur", "sharp"):
        (tmp_path / "GOPRO" / "test" / "G1" / side).mkdir(parents=True)
        frame = torch.randint(256, (3, 16, 16), dtype=torch.uint8)
        write_image(tmp_path / "GOPRO" / "test" / "G1" / side / "0.png", frame)
    (tmp_path / "PHOTOS").mkdir()
    write_image(tmp_path / "PHOTOS" / "0.png", torch.randint(256, (3, 160, 160), dtype=torch.uint8))
    monkeypatch.chdir(tmp_path)

    page = (ROOT / "docs/research.md").read_text(encoding="utf-8")
    blocks = [block for kind, block in FENCED.findall(page) if kind == "python"]
    assert len(blocks) == 10
    tables = (FUSIONS, ZOO, PRESETS, LOSSES, ATTENTIONS)
    layouts = [(table, list(table)) for table in (PAIR_LAYOUTS, DEFAULT_LAYOUTS)]
    before = [set(table) for table in tables]
    try:
        for block in blocks:
            exec(compile(block, "docs/research.md", "exec"), {"__name__": "page"})
        added = [set(table) - names for table, names in zip(tables, before, strict=True)]
        assert added == [{"max"}, *[{"wide", "mine"}] * 2, {"gradient"}, {"over_maps"}]
        assert find_layout("mine") in DEFAULT_LAYOUTS
        mine = PRESETS["mine"].scaled_to(10)
        assert (mine.loss, mine.learning_rate_at(5)) == ("gradient", mine.learning_rate / 2)
        attention = DeblurNetwork(ZOO[mine.model].config).attention(2)
        shares = attention.spatial_logits(torch.rand(1, 2, 48, 4, 4)).exp().sum(dim=2)
        torch.testing.assert_close(shares, torch.ones(1, 2, 4, 4))
        assert json.loads((tmp_path / "mine.json").read_text())["all"]["frames"] == 1
    finally:
        for table, rows in layouts:
            table[:] = rows
        for table, names in zip(tables, before, strict=True):
            for name in set(table) - names:
                del table[name]
