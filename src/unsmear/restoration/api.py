"""What Python users call: `unsmear.restore` for frames, `unsmear.restore_video` for files."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
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
from unsmear.restoration.guard import is_plausible
from unsmear.restoration.paths import check_paths
from unsmear.restoration.settings import Settings
from unsmear.restoration.stream import (
    GIVE_AGAIN,
    Scene,
    Window,
    check_room,
    check_window,
    describe_scenes,
    restore_stream,
)
from unsmear.restoration.tiles import Tiling, check_tiling
from unsmear.video.images import integer_from_unit, unit_from_integer

Picture = TypeVar("Picture", np.ndarray, Tensor)
_Kind = tuple[torch.device, torch.dtype]
# Further from 0..1 than what filters overshoot to.
_SMALLEST = -0.5  # not 0..1 but -1..1
_LARGEST = 2.0  # not 0..1 but 0..255


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
        window: frames that contribute to each one, odd; default: the model's own. Half of them wait
            in memory, 12 bytes a pixel. `all`: every frame of the scene; the frames are then gone
            through twice.
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
        An iterator of restored frames of the same kind, contiguous, as many as came in. One that
        the network grossly spoils comes back as it came in; the first of them is told by a
        `UserWarning`.

    Raises:
        InputError: a frame is of another kind, shape, type or range, or holds what is not finite
            (when it is reached); the window is `all` and frames can be gone through only once.
        ModelError, ConfigError, MissingExtraError: as `open_model`; window even or below 1, or
            larger than memory (at the first frame), tiling that is none, ensemble, refine or burst
            out of bounds, a model that looks at no neighbours, or a GPU's memory does not suffice.

    Example:
        >>> sharp = list(unsmear.restore(imageio.v3.imiter("shaky.mp4")))  # doctest: +SKIP
    """
    effort = Effort(ensemble=ensemble, refine=refine, burst=burst)
    tiling = check_tiling(tiling)
    loaded = _opened(model, device, engine)
    chosen = check_window(loaded.window if window is None else window)
    effort.check(loaded.engine)
    if chosen == "all" and iter(frames) is frames:
        raise InputError(GIVE_AGAIN)
    return _restored(frames, loaded, chosen, tiling, effort)


def _opened(model: str | Path | OpenedModel, device: str, engine: EngineName) -> OpenedModel:
    return model if isinstance(model, OpenedModel) else open_model(model, device, engine)


def _restored(
    frames: Iterable[Picture],
    loaded: OpenedModel,
    window: Window,
    tiling: Tiling,
    effort: Effort,
) -> Iterator[Picture]:
    # Frames on their way: each comes back as the kind that it was given as.
    waiting: deque[tuple[Tensor, _Kind | None]] = deque()

    def remembered() -> Iterator[Tensor]:
        known = len(frames) if isinstance(frames, Sized) else None
        for number, (tensor, kind) in enumerate(_tensors(frames)):
            if number == 0:
                height, width = tensor.shape[1:]
                check_room(window, width, height, known, effort.ensemble)
            waiting.append((tensor, kind))
            yield tensor

    scenes: Sequence[Scene] = ()
    if window == "all":
        scenes = describe_scenes(
            loaded.engine,
            (tensor for tensor, _ in _tensors(frames)),
            tiling=tiling,
            ensemble=effort.ensemble,
        )
    stream = restore_stream(
        loaded.engine,
        remembered(),
        window,
        scenes=scenes,
        tiling=tiling,
        effort=effort,
    )
    told = False
    for number, out in enumerate(stream):
        before, kind = waiting.popleft()
        if not (verdict := is_plausible(before.to(out).clamp(0, 1), out)):
            if not told:
                warnings.warn(
                    f"frame {number} is returned unchanged, as is every further frame whose result "
                    f"is implausible: {verdict.reason}",
                    stacklevel=2,
                )
            told, out = True, before
        yield _given_back(out, kind)
        del before, out  # or they would stay while the next ones are made


def _kind_of(frame: np.ndarray | Tensor) -> _Kind | None:
    """Of a tensor; None of an array."""
    return (frame.device, frame.dtype) if isinstance(frame, Tensor) else None


def _given_back(frame: Tensor, kind: _Kind | None) -> Any:
    # In one piece, as frames come in, whatever the layout that the network worked in.
    if kind is not None:
        return frame.to(*kind).contiguous()
    return integer_from_unit(frame.cpu()).permute(1, 2, 0).contiguous().numpy()


def _tensors(frames: Iterable[Picture]) -> Iterator[tuple[Tensor, _Kind | None]]:
    """Each frame as a tensor that nobody else writes to, and as what it was given."""
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
        return frame.detach().clone()  # the caller may write the next one to where it lies
    raise InputError(
        f"frame {number} is a {type(frame).__name__}: give numpy arrays or torch tensors"
    )


def _check_size(size: Sequence[int], number: int) -> None:
    if 0 in size:
        raise InputError(
            f"frame {number} is {size[0]}x{size[1]} (height, width): both must be 1 or more"
        )


def _check_range(frame: Tensor, number: int) -> None:
    least, most = torch.stack(frame.aminmax()).tolist()  # one that is no number makes both none
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
