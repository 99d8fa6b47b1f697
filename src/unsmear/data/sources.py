"""What a training folder holds, recognised by its layout and loaded into memory as uint8.

DIR/**/blur + sharp ... sequences of blurry and sharp frames (layouts: data/pairs.py)
DIR/**/clips/NAME/*.png a sharp clip, as a folder of frames in order
DIR/**/*.mp4 ...        a sharp clip, as a video file (read with PyAV)
DIR/**/*.jpg ...        all other images: sharp photographs, except in folders whose names
                        say that they are blurred or downscaled
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import TypeVar, cast

import cv2
import numpy as np
import torch
from torch import Tensor

from unsmear.data.flow import SMALLEST, is_continuous, optical_flow
from unsmear.data.pairs import (
    DEFAULT_LAYOUTS,
    PAIR_LAYOUTS,
    PairedSequence,
    named,
    pairs_among,
    uniform_frames,
    unrepeated,
)
from unsmear.errors import InputError, Mistakes, reading
from unsmear.video.images import IMAGE_SUFFIXES, eight_bit, list_images, paths_below, read_image

_Source = TypeVar("_Source")
_Loaded = TypeVar("_Loaded")

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"})
# Names about blur (GOPRO's blur_gamma, REDS's train_blur_comp, motion_blurred), but not about its
# removal (a whole set may be named after deblurring), unless they are results of it.
_BLURRED = re.compile("(?<!de)(?<!un)blur|deblurred")
# BSD's RAW (mosaics), downscaled frames of REDS (train_sharp_bicubic), DVD's clips without ground
# truth, crops of any of these. Without their sharp side these must not count as sharp photographs.
_NOT_SHARP = ("*_bicubic", "lq", "input_crops", "sharp/raw", "qualitative_datasets")
# Photographs may lie in a folder `input`, unless a ground truth lies beside it.
_INPUTS = frozenset({"input", "inputs"})
_TRUTHS = frozenset({"gt", "groundtruth", "ground_truth", "sharp", "target", "targets"})
_MOST_FRAMES = 128  # of a clip
_FEWEST_FRAMES = 7  # of a shot


@dataclass(frozen=True)
class TrainingFiles:
    """Files found below one or more folders, by kind. A clip is a video file or a folder."""

    photographs: tuple[Path, ...]
    clips: tuple[Path, ...]
    pairs: tuple[PairedSequence, ...]


@dataclass(frozen=True)
class DataRecord:
    """What was trained or measured on, without paths.

    Attributes:
        summary: counts of files, in words.
        fingerprint: see `fingerprint`.
    """

    summary: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.summary} (names and sizes: {self.fingerprint})"


def find_training_files(roots: Sequence[Path]) -> TrainingFiles:
    """Sort the files below the folders by kind. A file that is found in several folders counts
    once.

    Raises:
        InputError: a folder is missing, the sides of a sequence differ, or nothing usable was found
            (CombinedError: several of these).
    """
    mistakes = Mistakes()
    found = [part for root in roots if (part := mistakes.attempt(partial(_files_below, root)))]
    photographs = [path for part in found for path in part.photographs]
    clips = [path for part in found for path in part.clips]
    pairs = [pair for part in found for pair in part.pairs]
    if not (photographs or clips or pairs or mistakes.errors):
        raise InputError(
            f"no training data found below {', '.join(map(str, roots))}: expected photographs, "
            "videos, clips/NAME/ folders of frames, or blurry and sharp frames in the layouts of "
            "GOPRO, DVD, BSD and REDS; images in folders named after blur are not used as "
            "photographs"
        )
    mistakes.tell()
    return TrainingFiles(
        unrepeated(photographs, photographs),
        unrepeated(clips, clips),
        unrepeated(pairs, [pair.blurry[0] for pair in pairs]),
    )


def _files_below(root: Path) -> TrainingFiles:
    if not root.is_dir():
        raise InputError(f"'{root}' is not a folder: --data takes folders of training data")
    root = named(root)
    below = paths_below(root)
    # Of all layouts: frames of those that are not trained on (blur_gamma) are no photographs.
    pairs = pairs_among(below, root, PAIR_LAYOUTS)
    if any(not pair.sharp[0].is_relative_to(root) for pair in pairs):
        below = []  # the folder is the blurry side of a set (`train_blur`, `Blur`): none is sharp
    paired = {side[0].parent for pair in pairs for side in (pair.blurry, pair.sharp)}
    inputs = _inputs_among(below)
    photographs, clips = [], [root] if _is_clip(root) else []
    for path in below:
        suffix = path.suffix.lower()
        if path.parent in paired or _is_never_sharp(path, root, inputs):
            continue
        if suffix in VIDEO_SUFFIXES or _is_clip(path):
            clips.append(path)
        elif suffix in IMAGE_SUFFIXES and path.parent.parent.name != "clips":
            photographs.append(path)
    trained = {layout.name for layout in DEFAULT_LAYOUTS}
    return TrainingFiles(
        tuple(photographs), tuple(clips), tuple(pair for pair in pairs if pair.layout in trained)
    )


def training_record(
    files: TrainingFiles, roots: Sequence[Path], logs: Sequence[Path] = ()
) -> DataRecord:
    """What lies in training folders, before it is loaded.

    Args:
        files: found below the folders.
        roots: the folders.
        logs: orientation logs.

    Raises:
        InputError: a file no longer exists.
    """
    summary = (
        f"{len(files.photographs)} photographs, {len(files.clips)} clips, {len(logs)} shake logs, "
        f"{len(files.pairs)} paired sequences"
    )
    return DataRecord(summary, fingerprint(files, roots, logs))


def validation_record(pairs: Sequence[PairedSequence], root: Path) -> DataRecord:
    """What lies in a folder of paired sequences.

    Raises:
        InputError: a file no longer exists.
    """
    frames = sum(len(pair.blurry) for pair in pairs)
    summary = f"{len(pairs)} sequences of {frames} frames"
    return DataRecord(summary, fingerprint(TrainingFiles((), (), tuple(pairs)), [root]))


def fingerprint(files: TrainingFiles, roots: Sequence[Path], logs: Sequence[Path] = ()) -> str:
    """Twelve hexadecimal digits that identify the files by their names below the folders, sizes and
    order, wherever the folders lie. Of orientation logs only the last part of the name counts.

    Raises:
        InputError: a file no longer exists.
    """
    told = hashlib.sha256()

    def note(name: str, file: Path) -> None:
        with reading(file):
            size = file.stat().st_size
        told.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))

    # The sharp side of a pair lies beside the folder if that is `train_blur` or `Blur`, and beside
    # the one above if it is `train_blur/000` or `Blur/RGB`.
    tops = [named(root) for root in roots]
    places = (*tops, *(top.parent for top in tops), *(top.parent.parent for top in tops))
    pairs = (path for pair in files.pairs for path in pair.files)
    for path in (*files.photographs, *files.clips, *pairs):
        place = next(place for place in places if path.is_relative_to(place))
        for file in list_images(path) if path.is_dir() else [path]:
            note(file.relative_to(place).as_posix(), file)
    for log in logs:
        note(f"shake\0{log.name}", log)
    return told.hexdigest()[:12]


def _inputs_among(below: Sequence[Path]) -> set[Path]:
    """Folders of network inputs, recognised by the ground truth beside them."""
    beside = {path.parent for path in below if path.name.lower() in _TRUTHS}
    return {path for path in below if path.name.lower() in _INPUTS and path.parent in beside}


def _is_clip(path: Path) -> bool:
    return path.parent.name == "clips" and path.is_dir() and bool(list_images(path))


def _is_never_sharp(path: Path, root: Path, inputs: set[Path]) -> bool:
    folders = [name.lower() for name in path.relative_to(root).parts[:-1]]
    names = (*folders, *map("/".join, pairwise(folders)))
    return (
        any(_BLURRED.search(name) for name in folders)
        or any(fnmatch(name, pattern) for name in names for pattern in _NOT_SHARP)
        or (bool(inputs) and not inputs.isdisjoint(path.parents))
    )


def load_photograph(path: Path, longest_side: int) -> Tensor:
    """A photograph (3, H, W) uint8, downscaled (area average) to a longest side in pixels."""
    image = eight_bit(read_image(path))
    scale = longest_side / max(image.shape[-2:])
    return image if scale >= 1 else _shrink(image, scale)


def _shrink(image: Tensor, scale: float) -> Tensor:
    pixels = image.permute(1, 2, 0).numpy()
    size = (max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1)))


@dataclass(frozen=True)
class Shot:
    """Consecutive sharp frames and the flow between them.

    Attributes:
        frames: (N, 3, H, W) uint8.
        forward: flow from each frame to the next, (N - 1, 2, H, W) float16, pixels.
        backward: flow from each next frame back, same shape and dtype.
    """

    frames: Tensor
    forward: Tensor
    backward: Tensor

    def to(self, device: torch.device) -> Shot:
        """The same on another device."""
        return Shot(self.frames.to(device), self.forward.to(device), self.backward.to(device))


def _read_clip(path: Path) -> Iterator[Tensor]:
    """Frames (3, H, W), uint8, of a folder of images or a video."""
    if path.is_dir():
        return uniform_frames(list_images(path))
    from unsmear.video.reader import read_rgb8

    return read_rgb8(path)


def load_shots(path: Path, *, short_side: int = 384) -> list[Shot]:
    """Read the start of a clip, downscale it (which also hides its compression), split it where
    motion cannot be followed, and compute the flow in both directions. Very short shots are
    dropped.

    Args:
        path: video file, or folder of frames.
        short_side: pixels after downscaling; smaller clips are not resized.

    Raises:
        InputError: the clip cannot be read, or its frames differ in size or are too small.
    """
    frames: list[Tensor] = []
    for frame in islice(_read_clip(path), _MOST_FRAMES):
        scale = short_side / min(frame.shape[-2:])
        frames.append(_shrink(frame, scale) if scale < 1 else frame)
    if len(frames) > 1 and min(frames[0].shape[-2:]) < SMALLEST:
        _, height, width = frames[0].shape
        raise InputError(
            f"'{path}' has frames of {width}x{height}: must be at least {SMALLEST}x{SMALLEST}, to "
            "measure motion; remove it"
        )
    pixels = [np.ascontiguousarray(frame.permute(1, 2, 0).numpy()) for frame in frames]
    shots: list[Shot] = []
    start = 0  # of the current shot
    flows: list[tuple[np.ndarray, np.ndarray]] = []  # between its frames
    for end in range(1, len(frames) + 1):
        if end < len(frames):
            first, second = pixels[end - 1], pixels[end]
            forward = optical_flow(first, second)
            if is_continuous(first, second, forward):
                flows.append((forward, optical_flow(second, first)))
                continue
        if end - start >= _FEWEST_FRAMES:
            both = (
                torch.from_numpy(np.stack(side)).permute(0, 3, 1, 2).half()
                for side in zip(*flows, strict=True)
            )
            shots.append(Shot(torch.stack(frames[start:end]), *both))
        start, flows = end, []
    return shots


def load_all(
    load: Callable[[_Source], _Loaded], sources: Iterable[_Source], workers: int
) -> list[_Loaded]:
    """Load many files in parallel. OpenCV and PyAV release the GIL while they decode.

    Raises:
        UnsmearError: a file cannot be loaded (CombinedError: several files, in order).
    """
    mistakes = Mistakes()
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        jobs = [pool.submit(load, source) for source in sources]
        loaded = [mistakes.attempt(job.result) for job in jobs]
    finally:  # after Ctrl-C, a `with` block would first load all the rest
        pool.shutdown(cancel_futures=True)
    mistakes.tell()
    return cast(list[_Loaded], loaded)  # None only for failures, and those were raised
