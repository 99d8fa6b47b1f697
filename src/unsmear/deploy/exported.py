"""An exported model: reads its folder and restores clips with its graphs, without `DeblurNetwork`.

`unsmear.models` estimates motion between frames, and graphs of OpenVINO run in the one runtime of
the process. Read it to use the graphs in a program of your own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from unsmear.errors import ConfigError, InputError, MissingExtraError
from unsmear.restoration.integers import as_integer

Format = Literal["onnx", "openvino"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml"}
SPECIFICATION = "model.json"
_MOST = 3  # refinement passes

Run = Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]
"""A graph: inputs by name -> outputs in order."""


def open_graph(path: Path) -> Run:
    """Load a graph file to run on the CPU.

    Raises:
        InputError: there is no such file.
        MissingExtraError: the runtime is not installed.
    """
    if not path.is_file():
        raise InputError(f"there is no graph '{path}': export the model again")
    if path.suffix == SUFFIXES["onnx"]:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise MissingExtraError("onnxruntime", "onnx", "running an ONNX graph") from None
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, dict(inputs))
    try:
        from unsmear.engines.openvino import shared_core
    except MissingExtraError:
        raise MissingExtraError("openvino", "fast", "running an OpenVINO graph") from None
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = shared_core().compile_model(path, "CPU", settings)
    return lambda inputs: [array.copy() for array in compiled(dict(inputs)).values()]


@dataclass(frozen=True)
class Window:
    """Sum over the frames of a window, for one attention level: a log-sum-exp (eq. 3-4 of
    arXiv 2201.00169).

    Attributes:
        peak: (1, N).
        weight: (1, N).
        total: (1, M, N, C).
    """

    peak: np.ndarray
    weight: np.ndarray
    total: np.ndarray

    def merge(self, other: Window) -> Window:
        """The sum over the frames of both windows."""
        peak = np.maximum(self.peak, other.peak)
        mine, theirs = np.exp(self.peak - peak), np.exp(other.peak - peak)
        return Window(
            peak,
            self.weight * mine + other.weight * theirs,
            self.total * mine[:, None, :, None] + other.total * theirs[:, None, :, None],
        )

    @property
    def context(self) -> np.ndarray:
        """The input of `restore`, (1, M * N, C)."""
        mean = self.total / self.weight[:, None, :, None]
        return mean.reshape(1, -1, mean.shape[-1])


class ExportedModel:
    """Exported graphs with their specification.

    Args:
        folder: written by `unsmear export`.

    Raises:
        InputError: it does not exist, or holds something else.
        MissingExtraError: the runtime of its graphs is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if not (folder / SPECIFICATION).is_file():
            raise InputError(
                f"no {SPECIFICATION} in '{folder}': give a folder written by `unsmear export`"
            )
        try:
            self.about = json.loads((folder / SPECIFICATION).read_text(encoding="utf-8"))
            suffix = SUFFIXES[self.about["format"]]
        except (KeyError, TypeError, ValueError):
            raise InputError(
                f"'{folder / SPECIFICATION}' describes no exported model: give a folder written by "
                "`unsmear export`"
            ) from None
        self._encode = open_graph(folder / f"encode{suffix}")
        self._restore = open_graph(folder / f"restore{suffix}")

    def restore_clip(self, clip: np.ndarray, refine: int = 0) -> np.ndarray:
        """Restore every frame, with the whole clip as its window.

        Args:
            clip: (T, 3, H, W), float32, RGB, 0..1.
            refine: number of refinement passes, 0 to 3, for networks that align neighbours. Each
                restores the frames again from restored neighbours, and averages with the previous
                result.

        Returns:
            The same shape; not clamped if `refine` is 0.

        Raises:
            InputError: the clip has another shape or dtype, or is empty.
            ConfigError: `refine` is out of range, or the graphs cannot refine.
        """
        self._check(clip, refine)
        about, (height, width) = self.about, clip.shape[-2:]
        multiple = about["size_multiple"]
        edges = ((0, 0), (0, 0), (0, 0), (0, -height % multiple), (0, -width % multiple))
        frames = list(np.pad(clip[:, None], edges, mode="edge"))  # (1, 3, H', W') each
        encoded = [self._encode({"frame": frame}) for frame in frames]
        levels = len(about["network"]["widths"])
        features = [outputs[:levels] for outputs in encoded]
        windows = [self._windows(outputs[levels:]) for outputs in encoded]
        total = windows[0]
        for others in windows[1:]:
            total = [one.merge(other) for one, other in zip(total, others, strict=True)]
        seen, result = frames, None
        for _ in range(refine + 1):
            moving = self._moving(frames, seen)
            made = np.concatenate(
                [
                    self._restored(frame, features, number, total, moving)
                    for number, frame in enumerate(frames)
                ]
            )[..., :height, :width]
            result = made if result is None else (result.clip(0, 1) + made.clip(0, 1)) / 2
            seen = list(np.pad(result.clip(0, 1)[:, None], edges, mode="edge"))
        assert result is not None
        return result

    def _check(self, clip: np.ndarray, refine: int) -> None:
        if clip.ndim != 4 or clip.shape[1] != 3 or clip.dtype != np.float32 or not clip.size:
            raise InputError(
                f"the clip is {clip.shape} {clip.dtype}: must be (T, 3, H, W) float32, RGB, 0..1, "
                "of one frame or more"
            )
        times = as_integer(refine)
        if times is None or not 0 <= times <= _MOST:
            raise ConfigError(f"refine is {refine!r}: must be a whole number from 0 to {_MOST}")
        if refine and not self.about["network"]["aligned_levels"]:
            raise ConfigError(
                f"refine is {refine}, but needs graphs that align neighbours, which these do not: "
                "use 0"
            )

    @staticmethod
    def _windows(parts: Sequence[np.ndarray]) -> list[Window]:
        return [Window(*parts[start : start + 3]) for start in range(0, len(parts), 3)]

    def _moving(
        self, frames: Sequence[np.ndarray], seen: Sequence[np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Motion (T, 4, H' / 8, W' / 8) and triplets (T, 9, H', W'), if the network needs them,
        with the neighbours taken from `seen`.
        """
        network = self.about["network"]
        if not network["trail_levels"]:
            return {}
        import torch

        from unsmear.models.align import clip_triplets
        from unsmear.models.flow import clip_motion

        clip, shown = (torch.from_numpy(np.concatenate(side)[None]) for side in (frames, seen))
        motion = clip_motion(shown)
        moving = {"motion": motion.numpy()}
        if network["aligned_levels"]:
            moving["triplet"] = clip_triplets(clip, motion, shown).numpy()
        return moving

    def _restored(
        self,
        frame: np.ndarray,
        features: Sequence[Sequence[np.ndarray]],
        number: int,
        windows: Sequence[Window],
        moving: Mapping[str, np.ndarray],
    ) -> np.ndarray:
        """Restore one frame. Beyond the ends of the clip, the nearest frame is repeated."""
        network, last = self.about["network"], len(features) - 1
        side = network["neighbours"]
        around = [offset for offset in range(-side, side + 1) if offset]
        inputs = {"frame": frame}
        inputs |= {f"features_{level}": x for level, x in enumerate(features[number])}
        for level, window in zip(network["attention_levels"], windows, strict=True):
            inputs[f"context_{level}"] = window.context
        for index, offset in enumerate(around):
            neighbour = min(max(number + offset, 0), last)
            inputs[f"neighbour_{index}"] = features[neighbour][-1]
        inputs |= {name: of_all[number : number + 1] for name, of_all in moving.items()}
        return self._restore(inputs)[0]
