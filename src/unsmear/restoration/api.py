"""What Python users call: `unsmear.restore` for frames, `unsmear.restore_video` for files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

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
from unsmear.restoration.tiles import Tiling
from unsmear.video.images import integer_from_unit, unit_from_integer

Picture = TypeVar("Picture", np.ndarray, Tensor)


def restore(
    frames: Iterable[Picture],
    *,
    model: str | OpenedModel = DEFAULT_MODEL,
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
        InputError: a frame is of another kind, shape or type (when it is reached); the window
            is `all` and frames can be gone through only once.
        ModelError, ConfigError, MissingExtraError: as `open_model`; window even or below 1,
            ensemble, refine or burst out of bounds, or a model that looks at no neighbours.

    Example:
        >>> sharp = list(unsmear.restore(imageio.v3.imiter("shaky.mp4")))  # doctest: +SKIP
    """
    effort = Effort(ensemble=ensemble, refine=refine, burst=burst)
    loaded = open_model(model, device, engine) if isinstance(model, str) else model
    chosen = check_window(loaded.window if window is None else window)
    effort.check(loaded.engine)
    if chosen == "all" and iter(frames) is frames:
        raise InputError(
            "window 'all' goes through the frames twice: give a list or another collection, "
            "not an iterator"
        )
    return _restored(frames, loaded, chosen, tiling, effort)


def _restored(
    frames: Iterable[Picture],
    loaded: OpenedModel,
    window: Window,
    tiling: Tiling,
    effort: Effort,
) -> Iterator[Picture]:
    kinds: deque[Picture] = deque()  # originals on their way: each comes back as it was given

    def remembered() -> Iterator[Picture]:
        for frame in frames:
            kinds.append(frame)
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
        original = kinds.popleft()
        if isinstance(original, Tensor):
            yield out.to(original.device, original.dtype)
        else:
            yield integer_from_unit(out.cpu()).permute(1, 2, 0).numpy()


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
        return frame
    raise InputError(f"a frame is a {type(frame).__name__}: give numpy arrays or torch tensors")


def _check_size(size: Sequence[int]) -> None:
    if 0 in size:
        raise InputError(f"a frame is {size[0]}x{size[1]} (height, width): both must be 1 or more")


def restore_video(
    source: str | Path,
    target: str | Path,
    *,
    model: str | OpenedModel = DEFAULT_MODEL,
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
    loaded = open_model(model, device, engine) if isinstance(model, str) else model
    return restore_file(
        source,
        target,
        loaded.engine,
        loaded.window if window is None else window,
        settings,
        on_progress=on_progress,
        on_note=on_note,
    )
