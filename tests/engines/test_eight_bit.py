"""The file of graphs in eight bits."""

from __future__ import annotations

import pytest

from unsmear.engines.eight_bit import (
    EightBitOrigin,
    SavedGraph,
    digest_of_graphs,
    load_eight_bit,
    save_eight_bit,
)
from unsmear.errors import ModelError, OutputError

ORIGIN = EightBitOrigin(
    digest="abc",
    calibrated_on={"clip.mp4": 3},
    scores={"walk": (30.0, 29.95), "dog": (36.0, 36.01)},
    versions={"nncf": "3"},
)


def test_what_is_saved_comes_back(tmp_path):
    graphs = {"encode_0": SavedGraph(b"<xml/>", b"\x00\x01"), "decode_0": SavedGraph(b"<a/>", b"z")}
    save_eight_bit(tmp_path / "m.int8.safetensors", graphs, ORIGIN)
    found, origin = load_eight_bit(tmp_path / "m.int8.safetensors")
    assert found == graphs
    assert origin.digest == "abc"
    assert [tuple(pair) for pair in origin.scores.values()] == [(30.0, 29.95), (36.0, 36.01)]
    assert [path.name for path in tmp_path.iterdir()] == ["m.int8.safetensors"]


def test_graphs_are_told_apart_by_all_that_they_hold():
    graphs = {"encode_0": SavedGraph(b"<xml/>", b"\x00"), "decode_0": SavedGraph(b"<a/>", b"z")}
    other = graphs["encode_0"]._replace
    changed = [
        graphs | {"encode_0": other(numbers=b"\x01")},  # other ranges
        graphs | {"encode_0": other(structure=b"<xm/>")},
        {"encode_1": graphs["encode_0"], "decode_0": graphs["decode_0"]},
    ]
    assert len({*map(digest_of_graphs, [graphs, *changed])}) == 4
    assert digest_of_graphs(dict(reversed(graphs.items()))) == digest_of_graphs(graphs)


def test_where_it_cannot_be_written_it_says_so_and_leaves_nothing(tmp_path):
    graphs = {"encode_0": SavedGraph(b"<xml/>", b"\x00\x01")}
    with pytest.raises(OutputError, match=r"cannot write '.*nowhere"):
        save_eight_bit(tmp_path / "nowhere" / "m.int8.safetensors", graphs, ORIGIN)
    longest = tmp_path / f"{'q' * 238}.int8.safetensors"  # 255 bytes
    save_eight_bit(longest, graphs, ORIGIN)
    folder = tmp_path / "m.int8.safetensors"
    folder.mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        save_eight_bit(folder, graphs, ORIGIN)
    assert set(tmp_path.iterdir()) == {longest, folder}


def test_a_cut_file_is_named(tmp_path):
    path = tmp_path / "m.int8.safetensors"
    save_eight_bit(path, {"encode_0": SavedGraph(b"<xml/>", b"\x00\x01" * 99)}, ORIGIN)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ModelError, match="damaged"):
        load_eight_bit(path)
