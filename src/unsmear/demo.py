"""A demo that needs no data: render a shaky clip from scikit-image's bundled photographs, restore
it, measure it against the ground truth, and show before and after.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import torch
from torch import Tensor

from unsmear.clip import ClipInfo, ColorTags
from unsmear.data.degrade import sensor_noise
from unsmear.data.generators import Generators
from unsmear.data.light import linear_from_srgb, round_to_8_bit, srgb_from_linear
from unsmear.data.render import expose, render
from unsmear.data.shake import (
    blur_length,
    exposure_times,
    plane_homographies,
    rotation_matrices,
    smooth_path,
)
from unsmear.engines.choice import OpenedModel
from unsmear.errors import InputError, MissingExtraError, OutputError, writing
from unsmear.evaluate.metrics import psnr, ssim
from unsmear.outputs import atomic_file, results_folder, write_text
from unsmear.restoration.comparison import before_after_picture
from unsmear.restoration.files import Progress, restore_file
from unsmear.restoration.paths import check_source, compare_path
from unsmear.restoration.settings import Settings
from unsmear.video.color import planes_from_rgb
from unsmear.video.images import write_image
from unsmear.video.orientation import orientation_of, upright
from unsmear.video.reader import VideoReader
from unsmear.video.writer import VideoWriter

WIDTH, HEIGHT, FRAMES, RATE = 640, 384, 30, 15
_TAGS = ColorTags(matrix=1, primaries=1, transfer=1, full_range=False)
_ROW_HEIGHT = 440
_SHAKY = "shaky.mp4"
_MADE = ".unsmear-demo.json"  # beside the results: name -> size of each file that the demo wrote


def photograph_wall() -> Tensor:
    """Four public-domain photographs in two rows, (3, H, W) uint8.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError:
        raise MissingExtraError("scikit-image", "demo", "the demo clip") from None

    def framed(image: np.ndarray, width: int) -> np.ndarray:
        rgb = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        return cv2.resize(rgb, (width, _ROW_HEIGHT), interpolation=cv2.INTER_AREA)

    rows = (
        [framed(data.astronaut(), 440), framed(data.coffee(), 660)],
        [framed(data.rocket(), 660), framed(data.camera(), 440)],
    )
    wall = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    return torch.from_numpy(np.ascontiguousarray(wall.transpose(2, 0, 1)))


def shaky_clip(
    frames: int = FRAMES,
    height: int = HEIGHT,
    width: int = WIDTH,
    *,
    blur: float = 7.0,
    canvas: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Render a plane as seen by a hand-held camera; deterministic.

    Args:
        frames: T.
        height: H in pixels.
        width: W in pixels.
        blur: mean path length of a pixel during the exposure, in pixels.
        canvas: the plane in linear light, where 1 is white and lamps are brighter, (3, h, w);
            None: the wall.

    Returns:
        Blurry and sharp frames, each (T, 3, H, W), sRGB 0..1; the blurry ones are quantised to 8
        bits.

    Raises:
        MissingExtraError: scikit-image is not installed, and there is no canvas.
    """
    random = Generators.seeded(11, torch.device("cpu"))
    times = exposure_times(frames, 15, torch.tensor([0.7]))
    path = smooth_path(times, 6, random.host, slowest=0.03, fastest=0.35)
    path[..., 2:5] *= 0.3  # hand shake has more pan and tilt than roll and translation

    def homographies(scale: float) -> Tensor:
        return plane_homographies(
            rotation_matrices(path[..., :3] * scale),
            path[..., 3:] * scale,
            torch.tensor([[0.0, 0.0, 1.0]]),
            torch.tensor([640.0]),
            torch.zeros(1, 2),
        )

    scale = 1e-3
    for _ in range(2):
        scale *= blur / float(blur_length(homographies(scale), width, height).mean())
    moves = homographies(scale)
    if canvas is None:
        canvas = linear_from_srgb(photograph_wall().float() / 255)
    blurry, sharp = [], []
    for frame in range(frames):  # one at a time: sub-frames need a lot of memory
        subframes = render(canvas[None], moves[:, frame : frame + 1], height, width)
        light, truth = expose(subframes)
        noisy = sensor_noise(light, torch.tensor([2e-4]), torch.tensor([1e-3]), random.device)
        blurry.append(round_to_8_bit(srgb_from_linear(noisy))[0, 0])
        sharp.append(srgb_from_linear(truth.clamp(max=1))[0, 0])
    return torch.stack(blurry), torch.stack(sharp)


def write_clip(path: Path, frames: Tensor) -> None:
    """Write (T, 3, H, W), sRGB 0..1, as a video file."""
    height, width = frames.shape[-2:]
    tick = Fraction(1, RATE)
    info = ClipInfo(
        width=width, height=height, frames=len(frames), rate=Fraction(RATE), time_base=tick,
        tags=_TAGS,
    )  # fmt: skip
    with VideoWriter(path, info) as writer:
        for index, frame in enumerate(frames):
            writer.write(planes_from_rgb(frame, _TAGS), index * tick, tick)
        writer.commit()


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo.

    Attributes:
        restored: video file.
        comparison: video file, before and after side by side.
        picture: PNG, before and after.
        frames: number of frames.
        psnr: mean before and after, dB; None without ground truth.
        ssim: mean before and after, likewise.
    """

    restored: Path
    comparison: Path
    picture: Path
    frames: int
    psnr: tuple[float, float] | None
    ssim: tuple[float, float] | None


@dataclass(frozen=True)
class _Files:
    """Paths of the input and the results."""

    source: Path
    restored: Path
    picture: Path

    @classmethod
    def of(cls, out: Path, clip: Path | None) -> _Files:
        source = clip or out / _SHAKY
        return cls(source, out / f"{source.stem}.sharp.mp4", out / f"{source.stem}.compare.png")

    @property
    def results(self) -> tuple[Path, ...]:
        return self.restored, compare_path(self.restored), self.picture


def check_demo(out: Path, clip: Path | None) -> None:
    """Check clip and folder before any work starts; raises InputError and OutputError."""
    if clip is not None:
        check_source(clip)
        if clip.is_dir():
            raise InputError(f"'{clip}' is a folder: the demo takes a video file")
    with writing(out):
        if out.exists() and not out.is_dir():
            raise OutputError(f"'{out}' is a file: choose another folder with -o")
        files, known = _Files.of(out, clip), _made_in(out)
        written = files.results if clip else (files.source, *files.results)
        for path in written:
            if (path.exists() or path.is_symlink()) and known.get(path.name) != _bytes(path):
                raise OutputError(
                    f"'{path}' exists, but was not made by the demo: move it, or choose another "
                    "folder with -o"
                )


def _made_in(out: Path) -> dict[str, int]:
    """Names and sizes of the files that the demo wrote into a folder, from its record."""
    with contextlib.suppress(OSError, ValueError):
        held = json.loads((out / _MADE).read_text(encoding="utf-8"))
        if isinstance(held, dict):
            return held
    return {}


def _note_made(out: Path, paths: Iterable[Path]) -> None:
    """Record files as written by the demo."""
    made = _made_in(out) | {path.name: _bytes(path) for path in paths}
    write_text(out / _MADE, json.dumps(made, indent=2) + "\n")


def _bytes(path: Path) -> int:
    """Size of a file; -1 for a link, a folder or nothing."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else -1


def run_demo(
    out: Path,
    model: OpenedModel,
    clip: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> DemoResult:
    """Restore the demo clip, or a clip of the user.

    Args:
        out: folder for all results, created if missing; results of an earlier demo are replaced.
        model: engine and window.
        clip: video file of the user; None renders the demo clip.
        on_progress: see `restore_file`.

    Raises:
        InputError: the clip is not a readable video.
        OutputError: the folder cannot be created or written, or a file that the demo did not write
            has the name of a result.
        MissingExtraError: scikit-image is not installed, and the demo clip is rendered.
    """
    check_demo(out, clip)
    files, truth = _Files.of(out, clip), None
    source, restored, picture = files.source, files.restored, files.picture
    with results_folder(out):
        if clip is None:
            blurry, truth = shaky_clip()
            write_clip(source, blurry)
            _note_made(out, [source])
        settings = Settings(compare="side", overwrite=True)
        frames = restore_file(
            source, restored, model.engine, model.window, settings, on_progress=on_progress
        ).frames
        _note_made(out, files.results[:2])
        best, psnrs, ssims = _compare(source, restored, truth)
        with atomic_file(picture) as partial:
            write_image(partial, before_after_picture(*best))
        _note_made(out, [picture])
        comparison = compare_path(restored)
        return DemoResult(restored, comparison, picture, frames, _means(psnrs), _means(ssims))


_Both = tuple[float, float]  # before and after


def _compare(
    source: Path, restored: Path, truth: Tensor | None
) -> tuple[tuple[Tensor, Tensor], list[_Both], list[_Both]]:
    """The frame that changed most, before and after, upright; and PSNR and SSIM of each frame, if
    there is ground truth.
    """
    most, best = -1.0, None
    psnrs: list[_Both] = []
    ssims: list[_Both] = []
    with VideoReader(source) as before, VideoReader(restored) as after:
        turn = orientation_of(before.info.display_matrix)
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            if (change := float((old.rgb - new.rgb).square().mean())) > most:
                most, best = change, (old.rgb, new.rgb)
            if truth is not None:
                shown, made = round_to_8_bit(old.rgb), round_to_8_bit(new.rgb)
                psnrs.append((psnr(shown, truth[index]), psnr(made, truth[index])))
                ssims.append((ssim(shown, truth[index]), ssim(made, truth[index])))
    assert best is not None  # a clip has at least one frame
    return (upright(best[0], turn), upright(best[1], turn)), psnrs, ssims


def _means(values: list[_Both]) -> _Both | None:
    return (fmean(b for b, _ in values), fmean(a for _, a in values)) if values else None
