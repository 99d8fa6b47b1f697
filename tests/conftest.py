"""Shared by all tests: small generated clips, a small network, two threads."""

from __future__ import annotations

import atexit
import dataclasses
import errno
import gc
import importlib.util
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, register_random, settings

from tests.windows import refuse_files_in_use
from unsmear.cli import main
from unsmear.models.checkpoint import Provenance, save_weights
from unsmear.models.config import NetworkConfig
from unsmear.models.network import DeblurNetwork
from unsmear.train.config import PRESETS, Stage
from unsmear.video.images import integer_from_unit, write_image

os.environ.setdefault("SVT_LOG", "1")  # otherwise SVT-AV1 logs to stderr
if sys.platform == "linux":  # whatever the host name resolves to
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
if "MPLCONFIGDIR" not in os.environ:  # keep Matplotlib's font cache out of the home
    os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ["MPLCONFIGDIR"], ignore_errors=True)


def pytest_collection() -> None:
    """Nothing that is imported becomes garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Garbage is looked for from here on, but not among the million objects of all modules."""
    gc.freeze()
    gc.enable()


class TorchRandom:
    """Torch's global generator, for Hypothesis to seed before each example. So failures reproduce,
    and shrunk examples are compared with the same random numbers.
    """

    def seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def getstate(self) -> torch.Tensor:
        return torch.get_rng_state()

    def setstate(self, state: torch.Tensor) -> None:
        torch.set_rng_state(state)


TORCH_RANDOM = TorchRandom()  # Hypothesis keeps only a weak reference
register_random(TORCH_RANDOM)

# Not `derandomize`: with few examples per run, each run should try others. `print_blob` reports a
# failure with `@reproduce_failure`, so it can be reproduced on other machines too.
settings.register_profile(
    "unsmear",
    deadline=None,
    max_examples=14,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("unsmear")

SMALL = NetworkConfig(
    widths=(8, 12, 16),
    encoder_blocks=(1, 1, 1),
    decoder_blocks=(1, 1, 1),
    attention_levels=(1, 2),
    spatial_maps=3,
    temporal_maps=2,
    neighbours=1,
)

TRAILS = dataclasses.replace(SMALL, trail_levels=(0, 1), trail_channels=4)
ALIGNED = dataclasses.replace(TRAILS, aligned_levels=(0, 1), aligned_channels=6)
TWO_LEVELS = dataclasses.replace(  # for tests that convert each level, or train
    SMALL, stem=4,
    widths=(8, 12), encoder_blocks=(1, 1), decoder_blocks=(1, 1), attention_levels=(1,),
)  # fmt: skip
TWO_TRAILS = dataclasses.replace(TWO_LEVELS, trail_levels=(0,), trail_channels=4)
TWO_ALIGNED = dataclasses.replace(TWO_TRAILS, aligned_levels=(0,), aligned_channels=6)
ONE_LEVEL = dataclasses.replace(
    SMALL, widths=(8,), encoder_blocks=(1,), decoder_blocks=(1,), attention_levels=(0,)
)


@pytest.fixture
def files_stay_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, open and mapped files can be neither removed nor renamed nor replaced."""
    refuse_files_in_use(monkeypatch)


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """Files are synced thousands of times. `fstat`, too, fails where a file is not open. Processes
    that tests start do wait.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(autouse=True)
def _reproducible() -> Iterator[None]:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, 2))
    yield
    torch.set_num_threads(threads)


def load_script(path: str) -> ModuleType:
    """Import a file of scripts/ or benchmarks/, given its path in the repository."""
    file = Path(__file__).parent.parent / path
    spec = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


def disk_full(*_: object, **__: object) -> NoReturn:
    """In place of a function that writes: what it raises on a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


def failing_after(
    calls: int, error: BaseException, function: Callable[..., Any]
) -> Callable[..., Any]:
    """The function, with an error in place of each call after the given number."""
    count = itertools.count(1)

    def called(*arguments: object, **named: object) -> Any:
        if next(count) > calls:
            raise error
        return function(*arguments, **named)

    return called


def one_scene(frames: int, height: int, width: int) -> torch.Tensor:
    """A random clip (T, 3, H, W) whose frames are similar, as those of one scene are."""
    return 0.8 * torch.rand(3, height, width) + 0.2 * torch.rand(frames, 3, height, width)


def assert_same_frames(found: Iterable[torch.Tensor], wanted: Iterable[torch.Tensor]) -> None:
    """As many frames, equal bit for bit."""
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert torch.equal(one, other), f"frame {number} differs"


def awake(config: NetworkConfig = SMALL) -> DeblurNetwork:
    """A network whose head is not zero, so that its output depends on everything inside."""
    network = DeblurNetwork(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1)
        if network.trail_head is not None:  # trails of some pixels, not of hundreds
            network.trail_head.leave.weight.mul_(0.02)
    return network.eval().requires_grad_(False)


def mild(config: NetworkConfig = SMALL) -> DeblurNetwork:
    """A network like `awake`, but with changes as small as those of a restoration."""
    network = awake(config)
    network.head.weight.mul_(0.02)
    assert network.head.bias is not None
    network.head.bias.zero_()
    return network


@pytest.fixture
def network() -> DeblurNetwork:
    return awake()


@pytest.fixture(params=[SMALL, TRAILS, ALIGNED], ids=["plain", "trails", "aligned"])
def either(request: pytest.FixtureRequest) -> DeblurNetwork:
    """Each kind of network: plain, with trails, and with trails and aligned neighbours."""
    return awake(request.param)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[NetworkConfig, Path], Path]:
    """Writes a file of small random weights. Each network is built once, then copied."""
    folder = tmp_path_factory.mktemp("weights")

    def copied(config: NetworkConfig, path: Path) -> Path:
        made = folder / path.name
        return shutil.copy(made if made.exists() else weights_of(config, made), path)

    return copied


@pytest.fixture
def weights_file(tmp_path: Path, made_once: Callable[[NetworkConfig, Path], Path]) -> Path:
    """A file of small random weights."""
    return made_once(SMALL, tmp_path / "small.safetensors")


@pytest.fixture
def one_level_file(tmp_path: Path, made_once: Callable[[NetworkConfig, Path], Path]) -> Path:
    """The same for a network of one level."""
    return made_once(ONE_LEVEL, tmp_path / "one.safetensors")


@pytest.fixture
def aligned_file(tmp_path: Path, made_once: Callable[[NetworkConfig, Path], Path]) -> Path:
    """The same for a network with aligned neighbours."""
    return made_once(ALIGNED, tmp_path / "aligned.safetensors")


def weights_of(config: NetworkConfig, path: Path) -> Path:
    """Write a file of small random weights."""
    origin = Provenance(model=path.stem, steps=0, seed=0, hours=0, device="cpu", version="test")
    save_weights(path, config, mild(config).state_dict(), origin)
    return path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `unsmear` with arguments that it must refuse, with exit code 2 and one line on standard
    error, which is returned.
    """

    def run(*arguments: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert (stop.value.code, shown.out) == (2, "")
        (line,) = shown.err.splitlines()
        return line

    return run


@pytest.fixture
def run(one_level_file: Path) -> Callable[..., None]:
    """Restores with the random weights of a tiny network."""

    def restore(*arguments: object) -> None:
        main([str(argument) for argument in (*arguments, "-m", one_level_file, "--device", "cpu")])

    return restore


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two photographs, and three short steps in place of the preset `lite`."""
    small = dataclasses.replace(
        PRESETS["lite"], stages=(Stage(steps=3, clips=2, frames=3, crop=32),), shards=2
    )
    monkeypatch.setitem(PRESETS, "lite", small)
    return write_frames(tmp_path / "photos", (image(90, 120, index) / 255 for index in range(2)))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random image, (H, W, 3) uint8; noise would not suit codecs and optical flow."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, max(height // 8, 2), max(width // 8, 2), generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (fine[0].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy().copy()


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """The same as a tensor, (3, H, W) uint8."""
    return torch.from_numpy(picture(height, width, seed).transpose(2, 0, 1).copy())


def write_frames(
    folder: Path, frames: Iterable[torch.Tensor], dtype: torch.dtype = torch.uint8
) -> Path:
    """A new folder with the images 00.png, 01.png, ... of frames (3, H, W), 0..1."""
    folder.mkdir()
    for number, frame in enumerate(frames):
        write_image(folder / f"{number:02}.png", integer_from_unit(frame, dtype))
    return folder


def write_video(
    path: Path,
    *,
    pts: list[int] | None = None,
    frames: int = 8,
    size: tuple[int, int] = (64, 48),
    time_base: Fraction = Fraction(1, 30000),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    audio: bool = False,
    sound: tuple[str, str] | None = None,
    rotation: float = 0.0,
    tags: tuple[int, int, int, int] = (1, 1, 1, 1),
    options: dict[str, str] | None = None,
) -> Path:
    """Write a small moving clip. `tags` are range, matrix, transfer and primaries; `sound` is an
    audio codec and a channel layout; `audio` adds a mono tone in AAC.
    """
    width, height = size
    stamps = pts if pts is not None else [index * 1001 for index in range(frames)]
    scene = picture(height, width + 4 * len(stamps))
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream(codec, rate=Fraction(30000, 1001), options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.time_base = stream.codec_context.time_base = time_base
        context = stream.codec_context
        context.color_range, context.colorspace, context.color_trc, context.color_primaries = tags
        if rotation:
            stream.set_display_rotation(rotation)
        kind = ("aac", "mono") if audio else sound
        rate = 48000 if kind and "opus" in kind[0] else 44100
        track = container.add_stream(kind[0], rate=rate, layout=kind[1]) if kind else None
        for index, stamp in enumerate(stamps):
            array = np.ascontiguousarray(scene[:, 4 * index : 4 * index + width])
            frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            _write_tone(container, track, float(stamps[-1] * time_base))
    return path


def _write_tone(container: av.container.OutputContainer, track: object, seconds: float) -> None:
    context = track.codec_context
    size = context.frame_size or 1024
    resampler = av.AudioResampler(context.format, context.layout, context.rate, size)
    samples = np.sin(np.arange(int(seconds * context.rate) + 1024) / 20).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = context.rate, 0, Fraction(1, context.rate)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(track.encode(part))
    container.mux(track.encode(None))


def stamps_of(path: Path) -> list[Fraction]:
    """Presentation times of all frames of a video file."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def audio_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """Presentation time (seconds) and data of all audio packets of a file."""
    with av.open(str(path)) as container:
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(audio=0)
            if packet.dts is not None
        ]


class Counted:
    """An iterable of frames that counts how many were taken."""

    def __init__(self, frames: Iterable[torch.Tensor]) -> None:
        self.frames, self.taken = frames, 0

    def __iter__(self) -> Iterator[torch.Tensor]:
        for frame in self.frames:
            self.taken += 1
            yield frame
