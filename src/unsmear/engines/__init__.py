"""Inference engines: torch, OpenVINO and ONNX Runtime, behind one interface."""

from typing import Literal

EngineName = Literal[
    "auto", "torch", "torch-half", "torch-compile", "openvino", "openvino-int8", "onnxruntime"
]
