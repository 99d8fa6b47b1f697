"""Exported graphs restore clips as the network does, with numpy alone around them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.conftest import ONE_LEVEL, TWO_ALIGNED, TWO_LEVELS, one_scene, weights_of
from unsmear.deploy.export import export
from unsmear.deploy.exported import ExportedModel
from unsmear.errors import ConfigError, InputError, OutputError
from unsmear.models.flow import clip_motion
from unsmear.models.network import pad_to_multiple
from unsmear.models.zoo import load_model


@pytest.mark.parametrize(("kind", "config"), [("onnx", ONE_LEVEL), ("openvino", TWO_LEVELS)])
def test_graphs_restore_clips_of_any_size(tmp_path, kind, config):
    """Conversion to ONNX is slow; tests/engines also converts what joins two levels."""
    loaded = load_model(str(weights_of(config, tmp_path / "w.safetensors")))
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
