"""The public Python API: `unsmear.restore` for frames, `unsmear.restore_video` for files."""

from __future__ import annotations

import math
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from operator import length_hint
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from unsmear.engines import EngineName
from unsmear.engines.choice import OpenedModel, open_model
from unsmear.errors import ConfigError, InputError
from unsmear.models import DEFAULT_MODEL
from unsmear.restoration import DEFAULT_BURST
from unsmear.restoration.files import Outcome, Progress, restore_file
from unsmear.restoration.guard import implausibility
from unsmear.restoration.paths import check_paths
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.settings import Settings
from unsmear.restoration.stream import (
    NOT_REITERABLE,
    Scene,
    Window,
    check_memory,
    check_window,
    describe_scenes,
    restore_stream,
)
from unsmear.restoration.tiles import Tiling, check_tiling
from unsmear.video.images import integer_from_unit, unit_from_integer

Picture = TypeVar("Picture", np.ndarray, Tensor)
_Kind = tuple[torch.device, torch.dtype] | None  # of a tensor; None for an array
# Limits of input values. Overshoot of filters stays within them.
_SMALLEST = -0.5  # below: the range is probably -1..1
_LARGEST = 2.0  # above: the range is probably 0..255


def _ignore(_: object) -> None:
    pass


def restore(
    frames: Iterable[Picture],
    *,
    model: str | Path | OpenedModel = DEFAULT_MODEL,
    device: str = "auto",
    engine: EngineName = "auto",
    window: Window | None = None,
    tiling: Tiling = "auto",
    ensemble: int = 1,
    refine: int = 0,
    burst: int = DEFAULT_BURST,
    polish: bool = False,
    reblur: bool = False,
) -> Iterator[Picture]:
    """Restore frames in order, lazily; the last results follow when the input ends.

    Args:
        frames: all of one size, numpy arrays or tensors:
            arrays (H, W, 3) uint8 RGB, as imageio returns them, or
            tensors (3, H, W) float RGB, 0..1.
        model: name from `unsmear models`, path of a .safetensors file, or `open_model`'s result,
            which saves loading the weights at each call.
        device: auto, cpu, cuda, cuda:N or mps; ignored with `open_model`'s result.
        engine: inference engine, see `open_model`; ignored with its result.
        window: number of frames that contribute to each frame, odd; default: the model's own. Half
            of them are buffered, at 12 bytes a pixel. `all`: every frame of the scene; this
            iterates over the frames twice.
        tiling: see `unsmear.restoration.tiles.Tiler`.
        ensemble: number of rotated or mirrored views to average: 1, 2, 4 or 8. Slightly better;
            the time grows in proportion.
        refine: number of additional passes, 0 to 3. Each restores every frame again with its
            restored neighbours, and averages the result with that of the pass before. The first
            helps blurry clips and costs sharp ones a little; each adds over 50 % to the time. Not
            for `paper`, which aligns no neighbours.
        burst: number of restored neighbours on each side, 0 to 4, from which each frame takes
            sharper detail; 0: output of the network as it is.
        polish: correct each frame after that with a small second network.
        reblur: correct each frame at the end so that, blurred again along the camera's path, it
            looks like the input.

    Returns:
        An iterator of restored frames, contiguous, one for each input frame, with its type, dtype
        and device. If the network damages a frame badly, the input frame is returned instead; the
        first time, a `UserWarning` reports it.

    Raises:
        InputError: a frame has the wrong type, shape or dtype, or values that are not finite, below
            -0.5 or above 2 (raised when that frame is reached); the window is `all` and `frames` is
            an iterator; `frames` is a path.
        ModelError, ConfigError, MissingExtraError: see `open_model`. ConfigError also if the
            window is even, below 1 or needs more memory than there is (raised at the first frame),
            the tiling is invalid, ensemble, refine, burst, polish or reblur is out of range, the
            model does not support refine, or a GPU runs out of memory.

    Example:
        >>> sharp = list(unsmear.restore(imageio.v3.imiter("shaky.mp4")))  # doctest: +SKIP
    """
    given: object = frames
    if isinstance(given, str | Path):
        raise InputError(f"'{given}' is a path: give its frames, or use unsmear.restore_video")
    quality = QualityOptions(
        ensemble=ensemble, refine=refine, burst=burst, polish=polish, reblur=reblur
    )
    tiling = check_tiling(tiling)
    loaded = _opened(model, device, engine)
    chosen = check_window(loaded.window if window is None else window)
    quality.check(loaded.engine)
    if chosen == "all" and iter(frames) is frames:
        raise InputError(NOT_REITERABLE)
    return _restored(frames, loaded, chosen, tiling, quality)


def restore_video(
    source: str | Path,
    target: str | Path,
    *,
    model: str | Path | OpenedModel = DEFAULT_MODEL,
    device: str = "auto",
    engine: EngineName = "auto",
    window: Window | None = None,
    settings: Settings = Settings(),
    on_progress: Callable[[Progress], None] = _ignore,
    on_note: Callable[[str], None] = _ignore,
) -> Outcome:
    """Restore a video file or a folder of images, as the command line does.

    It resumes an interrupted call with the same arguments. Memory usage does not grow with the
    length of the video.

    Args:
        source: video file, or folder of images in the order of their names.
        target: video file (.mp4, .mov, .m4v, .mkv, .webm) in an existing folder, or a folder (no
            suffix) for PNG files.
        model, device, engine, window: see `restore`; the window `all` reads the source twice.
        settings: everything else, `unsmear.Settings`.
        on_progress: called before the first frame and after each, with the number of frames done.
            What it raises ends the work.
        on_note: called with notes for the user: guesses, conversions, damage.

    Returns:
        Numbers of frames: in the result, resumed, and left unchanged as implausible.

    Raises:
        InputError: the source cannot be used.
        OutputError: the target cannot be written, or exists and `settings.overwrite` is False.
            Nothing is left under its name.
        ModelError, ConfigError, MissingExtraError: see `open_model`. ConfigError also if the window
            is even, below 1 or needs more memory than there is; the model does not support refine;
            a setting does not apply to a folder of images; or a GPU runs out of memory.
    """
    source, target = Path(source), Path(target)
    chosen: object = settings
    if not isinstance(chosen, Settings):
        raise ConfigError(f"settings is a {type(chosen).__name__}: must be an unsmear.Settings")
    check_paths(source, target, settings)
    loaded = _opened(model, device, engine)
    return restore_file(
        source,
        target,
        loaded.engine,
        loaded.window if window is None else window,
        settings,
        on_progress=on_progress,
        on_note=on_note,
    )


def _opened(model: str | Path | OpenedModel, device: str, engine: EngineName) -> OpenedModel:
    return model if isinstance(model, OpenedModel) else open_model(model, device, engine)


def _restored(
    frames: Iterable[Picture],
    loaded: OpenedModel,
    window: Window,
    tiling: Tiling,
    quality: QualityOptions,
) -> Iterator[Picture]:
    # Frames in flight, each with its kind, so that its result has the same kind.
    waiting: deque[tuple[Tensor, _Kind]] = deque()

    def remembered() -> Iterator[Tensor]:
        # Not `len`: torch's DataLoader has one that fails if its data set has none.
        known = length_hint(frames, sys.maxsize) if isinstance(frames, Sized) else None
        for number, (tensor, kind) in enumerate(_tensors(frames)):
            if number == 0:
                height, width = tensor.shape[1:]
                check_memory(window, width, height, known, quality.ensemble)
            waiting.append((tensor, kind))
            yield tensor

    scenes: Sequence[Scene] = ()
    if window == "all":
        scenes = describe_scenes(
            loaded.engine,
            (tensor for tensor, _ in _tensors(frames)),
            tiling=tiling,
            ensemble=quality.ensemble,
        )
    stream = restore_stream(
        loaded.engine,
        remembered(),
        window,
        scenes=scenes,
        tiling=tiling,
        quality=quality,
    )
    warned = False
    for number, out in enumerate(stream):
        before, kind = waiting.popleft()
        if reason := implausibility(before.to(out).clamp(0, 1), out):
            if not warned:
                warnings.warn(
                    f"frame {number} is returned unchanged, as is every further frame whose result "
                    f"is implausible: {reason}",
                    stacklevel=2,
                )
            warned, out = True, before
        yield _given_back(out, kind)
        del before, out  # or they would stay alive while the next ones are computed


def _kind_of(frame: np.ndarray | Tensor) -> _Kind:
    return (frame.device, frame.dtype) if isinstance(frame, Tensor) else None


def _given_back(frame: Tensor, kind: _Kind) -> Any:
    # Contiguous, whatever memory layout the network worked in.
    if kind is not None:
        return frame.to(*kind).contiguous()
    return integer_from_unit(frame.cpu()).permute(1, 2, 0).contiguous().numpy()


def _tensors(frames: Iterable[Picture]) -> Iterator[tuple[Tensor, _Kind]]:
    """Each frame as a tensor of our own (a copy), and its kind."""
    size: tuple[int, ...] | None = None
    for number, frame in enumerate(frames):
        tensor = _as_tensor(frame, number)
        if size is not None and tensor.shape != size:
            raise InputError(
                f"frame {number} of {tuple(tensor.shape)[1:]} follows frames of {size[1:]} "
                "(height, width): all must have the same size"
            )
        size = tuple(tensor.shape)
        yield tensor, _kind_of(frame)


def _as_tensor(frame: np.ndarray | Tensor, number: int) -> Tensor:
    if isinstance(frame, np.ndarray):
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise InputError(
                f"frame {number} is {frame.shape} {frame.dtype}: arrays must be (H, W, 3) uint8 RGB"
            )
        _check_size(frame.shape[:2], number)
        return unit_from_integer(torch.from_numpy(frame.transpose(2, 0, 1).copy()))
    if isinstance(frame, Tensor):
        if frame.dim() != 3 or frame.shape[0] != 3 or not frame.is_floating_point():
            raise InputError(
                f"frame {number} is {tuple(frame.shape)} {frame.dtype}: tensors must be (3, H, W), "
                "float, RGB, 0..1"
            )
        _check_size(frame.shape[1:], number)
        _check_range(frame.detach(), number)
        return frame.detach().clone()  # the caller may reuse the buffer for the next frame
    raise InputError(
        f"frame {number} is a {type(frame).__name__}: give numpy arrays or torch tensors"
    )


def _check_size(size: Sequence[int], number: int) -> None:
    if 0 in size:
        raise InputError(
            f"frame {number} is {size[0]}x{size[1]} (height, width): both must be 1 or more"
        )


def _check_range(frame: Tensor, number: int) -> None:
    least, most = torch.stack(frame.aminmax()).tolist()  # a NaN makes both NaN
    if not (math.isfinite(least) and math.isfinite(most)):
        value = most if math.isfinite(least) else least
        raise InputError(f"frame {number} contains {value:g}: tensors must be 0..1, all finite")
    if most > _LARGEST:
        raise InputError(
            f"frame {number}'s largest value is {most:g}: tensors must be 0..1; divide by 255?"
        )
    if least < _SMALLEST:
        raise InputError(
            f"frame {number}'s smallest value is {least:g}: tensors must be 0..1; for -1..1, "
            "x / 2 + 0.5?"
        )
