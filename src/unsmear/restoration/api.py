"""What Python users call: `unsmear.restore` for frames, `unsmear.restore_video` for files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from unsmear.engines import EngineName
from unsmear.engines.choice import OpenedModel, open_model
from unsmear.errors import InputError
from unsmear.models import DEFAULT_MODEL
from unsmear.restoration import DEFAULT_BURST
from unsmear.restoration.effort import Effort
from unsmear.restoration.files import Outcome, Progress, restore_file
from unsmear.restoration.paths import check_paths
from unsmear.restoration.settings import Settings
from unsmear.restoration.stream import Scene, Window, check_window, describe_scenes, restore_stream
from unsmear.restoration.tiles import Tiling, check_tiling
from unsmear.video.images import integer_from_unit, unit_from_integer

Picture = TypeVar("Picture", np.ndarray, Tensor)
_Kind = tuple[torch.device, torch.dtype]
_LARGEST = 2.0  # more than what filters overshoot to: not 0..1 but 0..255


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
) -> Iterator[Picture]:
    """Restore frames one after the other; the last ones come when the input ends.

    Args:
        frames: of one size, all numpy arrays or all tensors:
            arrays (H, W, 3) uint8 RGB, as imageio and PIL give them, or
            tensors (3, H, W) float RGB, 0..1.
        model: name from `unsmear models`, path of a .safetensors file, or `open_model`'s result.
        device: auto, cpu, cuda, cuda:N or mps; not used with `open_model`'s result.
        engine: what runs the network, see `open_model`; not used with its result.
        window: frames that contribute to each one, odd; default: the model's own. `all`: every
            frame of the scene; the frames are then gone through twice.
        tiling: see `unsmear.restoration.tiles.Tiler`.
        ensemble: views of each frame (as it is, upside down, ...) whose mean is taken: 1, 2, 4 or
            8. A little better, and each takes as long again.
        refine: times that the network goes over its own results, 0 to 3: each frame is restored
            again, its neighbours as they were restored before, and the mean of both is taken.
            Blurry clips gain by the first, sharp ones lose a little; each takes more than half as
            long again. Not for `paper`, which looks at no neighbours.
        burst: restored frames on each side that lend each frame what they show sharper, 0 to 4;
            0 leaves frames as the network makes them.

    Returns:
        An iterator of restored frames of the same kind, as many as came in.

    Raises:
        InputError: a frame is of another kind, shape, type or range (when it is reached); the
            window is `all` and frames can be gone through only once.
        ModelError, ConfigError, MissingExtraError: as `open_model`; window even or below 1, tiling
            that is none, ensemble, refine or burst out of bounds, or a model that looks at no
            neighbours.

    Example:
        >>> sharp = list(unsmear.restore(imageio.v3.imiter("shaky.mp4")))  # doctest: +SKIP
    """
    effort = Effort(ensemble=ensemble, refine=refine, burst=burst)
    tiling = check_tiling(tiling)
    loaded = _opened(model, device, engine)
    chosen = check_window(loaded.window if window is None else window)
    effort.check(loaded.engine)
    if chosen == "all" and iter(frames) is frames:
        raise InputError(
            "window 'all' goes through the frames twice: give a list or another collection, "
            "not an iterator"
        )
    return _restored(frames, loaded, chosen, tiling, effort)


def _opened(model: str | Path | OpenedModel, device: str, engine: EngineName) -> OpenedModel:
    return model if isinstance(model, OpenedModel) else open_model(str(model), device, engine)


def _restored(
    frames: Iterable[Picture],
    loaded: OpenedModel,
    window: Window,
    tiling: Tiling,
    effort: Effort,
) -> Iterator[Picture]:
    kinds: deque[_Kind | None] = deque()  # of frames on their way: each comes back as it was given

    def remembered() -> Iterator[Picture]:
        for frame in frames:
            kinds.append(_kind_of(frame))
            yield frame

    scenes: Sequence[Scene] = ()
    if window == "all":
        scenes = describe_scenes(
            loaded.engine, _tensors(frames), tiling=tiling, ensemble=effort.ensemble
        )
    tensors = _tensors(remembered())
    stream = restore_stream(
        loaded.engine,
        tensors,
        window,
        scenes=scenes,
        tiling=tiling,
        effort=effort,
    )
    for out in stream:
        yield _given_back(out, kinds.popleft())


def _kind_of(frame: np.ndarray | Tensor) -> _Kind | None:
    """Of a tensor; None of an array."""
    return (frame.device, frame.dtype) if isinstance(frame, Tensor) else None


def _given_back(frame: Tensor, kind: _Kind | None) -> Any:
    if kind is not None:
        return frame.to(*kind)
    # In one piece, as arrays come in, whatever the layout that the network worked in.
    return integer_from_unit(frame.cpu()).permute(1, 2, 0).contiguous().numpy()


def _tensors(frames: Iterable[Picture]) -> Iterator[Tensor]:
    size: tuple[int, ...] | None = None
    for frame in frames:
        tensor = _as_tensor(frame)
        if size is not None and tensor.shape != size:
            raise InputError(
                f"a frame of {tuple(tensor.shape)[1:]} follows frames of {size[1:]} "
                "(height, width): all must be of one size"
            )
        size = tuple(tensor.shape)
        yield tensor


def _as_tensor(frame: np.ndarray | Tensor) -> Tensor:
    if isinstance(frame, np.ndarray):
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise InputError(
                f"a frame is {frame.shape} {frame.dtype}: arrays must be (H, W, 3) uint8 RGB"
            )
        _check_size(frame.shape[:2])
        return unit_from_integer(torch.from_numpy(frame.transpose(2, 0, 1).copy()))
    if isinstance(frame, Tensor):
        if frame.dim() != 3 or frame.shape[0] != 3 or not frame.is_floating_point():
            raise InputError(
                f"a frame is {tuple(frame.shape)} {frame.dtype}: tensors must be (3, H, W), "
                "float, RGB, 0..1"
            )
        _check_size(frame.shape[1:])
        if (largest := float(frame.max())) > _LARGEST:
            raise InputError(
                f"a frame's largest number is {largest:g}: tensors must be 0..1; divide by 255?"
            )
        return frame.detach().clone()  # the caller may write the next one to where it lies
    raise InputError(f"a frame is a {type(frame).__name__}: give numpy arrays or torch tensors")


def _check_size(size: Sequence[int]) -> None:
    if 0 in size:
        raise InputError(f"a frame is {size[0]}x{size[1]} (height, width): both must be 1 or more")


def restore_video(
    source: str | Path,
    target: str | Path,
    *,
    model: str | Path | OpenedModel = DEFAULT_MODEL,
    device: str = "auto",
    engine: EngineName = "auto",
    window: Window | None = None,
    settings: Settings = Settings(),
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Restore a video file or a folder of pictures, as the command line does.

    See `unsmear.restoration.files.restore_file` for what it raises and for all arguments, and
    `restore` for model, device, engine and window.
    """
    source, target = Path(source), Path(target)
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
