"""Exports a network as graphs for other programs, and checks that they compute the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unsmear import __version__
from unsmear.deploy.exported import SPECIFICATION, SUFFIXES, ExportedModel, Format
from unsmear.engines.graphs import Graph, frame_graphs
from unsmear.errors import ModelError, OutputError, writing
from unsmear.models.network import DeblurNetwork
from unsmear.models.zoo import LoadedModel
from unsmear.outputs import check_folder_of, check_named, sync
from unsmear.video.folder import growing_folder

LARGEST_DIFFERENCE = 1e-4  # of values from 0 to 1
_SIZES = ((3, 72, 104), (4, 61, 47))  # frames, height and width of the test clips


def check_target(folder: Path) -> None:
    """Raise OutputError if graphs cannot be written to a folder."""
    with writing(folder):
        check_named(folder)
        check_folder_of(folder)
        if folder.exists():
            raise OutputError(f"'{folder}' already exists: choose another output")


def export(model: LoadedModel, kind: Format, folder: Path) -> float:
    """Write `encode`, `restore` and their specification into a folder.

    Args:
        model: its network in evaluation mode, on the CPU.
        kind: `onnx` (torch chooses the opset) or `openvino` (IR).
        folder: must not exist. Files are written to a hidden folder, which gets this name when the
            graphs have been checked.

    Returns:
        The largest difference to the network, of values from 0 to 1, on noise clips of two sizes.

    Raises:
        OutputError: the folder exists or cannot be written.
        ModelError: the graphs differ too much from the network. Nothing is written.
        MissingExtraError: the exporter or runtime of such graphs is not installed.
    """
    check_target(folder)
    with growing_folder(folder, last=SPECIFICATION) as partial, writing(folder):
        for graph in frame_graphs(model.network):
            write_graph(graph, kind, partial)
        text = json.dumps(specification(model, kind), indent=2)
        (partial / SPECIFICATION).write_text(text + "\n", encoding="utf-8")
        difference = largest_difference(model.network, ExportedModel(partial))
        if not difference < LARGEST_DIFFERENCE:
            raise ModelError(
                f"the {kind} graphs differ from the model by {difference:.2g} (allowed: "
                f"{LARGEST_DIFFERENCE:g}): nothing was written; try another version of torch or of "
                f"{kind}"
            )
        for file in partial.iterdir():
            sync(file)  # or a power failure could leave the name without the contents
    return difference


def write_graph(graph: Graph, kind: Format, folder: Path) -> None:
    """Write one graph as a file (openvino: two files)."""
    path = folder / f"{graph.name}{SUFFIXES[kind]}"
    inputs, outputs = graph.inputs, graph.outputs
    if kind == "onnx":
        from unsmear.engines import onnx

        path.write_bytes(onnx.convert(graph.module, graph.example, inputs, outputs))
    else:
        from unsmear.engines import openvino

        openvino.save(openvino.convert(graph.module, graph.example, inputs, outputs), path)


def specification(model: LoadedModel, kind: Format) -> dict[str, Any]:
    """What a program needs to know to use the graphs."""
    config = model.network.config
    return {
        "format": kind,
        "written_by": f"Unsmear {__version__}",
        "model": model.name,
        "frames": "RGB, float32, 0 to 1, (1, 3, H, W), H and W multiples of size_multiple",
        "size_multiple": config.size_multiple,
        "window": model.window,
        "network": dataclasses.asdict(config),
        "graphs": {
            graph.name: {"inputs": graph.inputs, "outputs": graph.outputs}
            for graph in frame_graphs(model.network)
        },
    }


@torch.no_grad()
def largest_difference(network: DeblurNetwork, exported: ExportedModel) -> float:
    """Largest difference between the network and its graphs on noise clips of several sizes; NaN if
    either returns one.
    """
    generator = torch.Generator().manual_seed(0)
    found = 0.0
    for frames, height, width in _SIZES:
        shape = frames, 3, height, width
        clip = torch.rand(shape, generator=generator, dtype=torch.float32)
        wanted = network(clip[None])[0].numpy()
        found = max(found, float(np.abs(exported.restore_clip(clip.numpy()) - wanted).max()))
    return found
