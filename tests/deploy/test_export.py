"""Exported graphs compute what the network computes; graphs that do not are not written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.conftest import TWO_ALIGNED, one_scene, weights_of
from unsmear.deploy import export as exporting
from unsmear.deploy.export import export
from unsmear.deploy.exported import ExportedModel
from unsmear.errors import ConfigError, InputError, ModelError, OutputError
from unsmear.models.flow import clip_motion
from unsmear.models.network import pad_to_multiple
from unsmear.models.zoo import load_model


@pytest.fixture
def loaded(two_level_file):
    return load_model(str(two_level_file))


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_graphs_restore_clips_of_any_size(loaded, tmp_path, kind):
    folder = tmp_path / "graphs"
    assert export(loaded, kind, folder) < 1e-4
    exported = ExportedModel(folder)
    for frames, height, width in ((1, 33, 40), (3, 96, 17)):
        clip = one_scene(frames, height, width)
        wanted = loaded.network(clip[None])[0].numpy()
        found = exported.restore_clip(clip.numpy())
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
    about = json.loads((folder / "model.json").read_text())
    assert about["graphs"]["restore"]["inputs"][-2:] == ["neighbour_0", "neighbour_1"]
    assert about["size_multiple"] == loaded.network.config.size_multiple
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with pytest.raises(OutputError, match="exists"):
        export(loaded, kind, folder)
    for wrong in (clip.double(), (clip * 255).byte(), clip[0], clip.permute(0, 2, 3, 1), clip[:0]):
        with pytest.raises(InputError, match=r"the clip is \(.*: must be \(T, 3, H, W\) float32"):
            exported.restore_clip(wrong.numpy())
    for refine in (-1, 4, 1.0, True):
        with pytest.raises(ConfigError, match=f"refine is {refine}: must be a whole number"):
            exported.restore_clip(clip.numpy(), refine)
    with pytest.raises(ConfigError, match="needs graphs that align neighbours"):
        exported.restore_clip(clip.numpy(), 1)


def test_a_folder_that_holds_no_graphs_is_told(tmp_path):
    for folder in (str(tmp_path), tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"no model\.json in '.*': give a folder"):
            ExportedModel(folder)
    for text in ('{"format": "layers-model"}', "[]", "graphs"):
        (tmp_path / "model.json").write_text(text)
        with pytest.raises(InputError, match=r"model\.json' describes no exported model"):
            ExportedModel(tmp_path)
    (tmp_path / "model.json").write_text('{"format": "onnx"}')
    with pytest.raises(InputError, match=r"no graph '.*encode\.onnx'"):
        ExportedModel(tmp_path)


def test_graphs_of_a_network_that_aligns_neighbours_take_motion_and_triplet(tmp_path):
    """In OpenVINO, which converts in seconds; tests/engines also runs ONNX."""
    loaded = load_model(str(weights_of(TWO_ALIGNED, tmp_path / "aligned.safetensors")))
    assert export(loaded, "openvino", tmp_path / "graphs") < 1e-4
    exported = ExportedModel(tmp_path / "graphs")
    assert exported.about["graphs"]["restore"]["inputs"][-2:] == ["motion", "triplet"]
    clip = one_scene(3, 40, 50)
    once = loaded.network(clip[None])
    again = loaded.network(
        clip[None], motion=clip_motion(pad_to_multiple(once.clamp(0, 1), 8)), seen=once.clamp(0, 1)
    )
    mean = (once.clamp(0, 1) + again.clamp(0, 1)) / 2
    for refine, wanted in enumerate((once, mean)):
        found = exported.restore_clip(clip.numpy(), refine)
        np.testing.assert_allclose(found, wanted[0].numpy(), rtol=0, atol=1e-4)


def test_what_lies_there_already_is_left_alone(tmp_path, weights_file, monkeypatch):
    monkeypatch.setattr("unsmear.deploy.export.frame_graphs", lambda _: [])
    monkeypatch.setattr("unsmear.deploy.export.ExportedModel", lambda _: None)
    monkeypatch.setattr("unsmear.deploy.export.largest_difference", lambda *_: 0.0)
    synced = []
    monkeypatch.setattr(exporting, "sync", lambda file: synced.append(file.name))
    other = tmp_path / ".graphs.part"
    other.mkdir()
    (other / "precious").touch()
    export(load_model(str(weights_file)), "onnx", tmp_path / "graphs")
    assert (other / "precious").exists()
    assert (tmp_path / "graphs").is_dir()
    assert synced == ["model.json"]


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
