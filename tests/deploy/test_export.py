"""Folders of exported graphs are checked against the network, and whole or not there."""

from __future__ import annotations

import pytest
import torch

from unsmear.deploy import export as exporting
from unsmear.deploy.export import export
from unsmear.errors import ModelError, OutputError
from unsmear.models.zoo import load_model


def test_files_are_on_disk_before_the_folder_has_its_name(tmp_path, weights_file, monkeypatch):
    monkeypatch.setattr("unsmear.deploy.export.frame_graphs", lambda _: [])
    monkeypatch.setattr("unsmear.deploy.export.ExportedModel", lambda _: None)
    monkeypatch.setattr("unsmear.deploy.export.largest_difference", lambda *_: 0.0)
    graphs, synced = tmp_path / "graphs", []
    note = lambda file: synced.append((file.name, graphs.exists()))  # noqa: E731
    monkeypatch.setattr(exporting, "sync", note)
    export(load_model(str(weights_file)), "onnx", graphs)
    assert [file.name for file in graphs.iterdir()] == ["model.json"]
    assert synced == [("model.json", False)]


def test_graphs_that_differ_are_not_written(loaded, tmp_path, monkeypatch):
    """The graphs come from one network and are checked against another."""
    graphs = exporting.frame_graphs

    def spoiled(network):
        yield from graphs(network)
        with torch.no_grad():
            network.head.bias.add_(0.01)

    monkeypatch.setattr(exporting, "frame_graphs", spoiled)
    with pytest.raises(ModelError, match="nothing was written"):
        export(loaded, "openvino", tmp_path / "graphs")
    assert [path for path in tmp_path.iterdir() if "graphs" in path.name] == []


def test_a_full_disk_is_told_and_leaves_nothing(loaded, tmp_path, monkeypatch):
    def save(*_, **__):
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr("openvino.save_model", save)
    monkeypatch.setattr("unsmear.engines.openvino.convert", lambda *_: None)
    with pytest.raises(OutputError, match=r"graphs': OpenVINO failed .*; is the disk full\?"):
        export(loaded, "openvino", tmp_path / "graphs")
    assert [path for path in tmp_path.iterdir() if "graphs" in path.name] == []


def test_a_folder_that_cannot_be_made_is_named(loaded, tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        export(loaded, "openvino", tmp_path / "nowhere" / "graphs")
