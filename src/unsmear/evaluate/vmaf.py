"""VMAF (Netflix), computed by an ffmpeg with libvmaf."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from unsmear.errors import ConfigError, MissingExtraError, UnsmearError
from unsmear.video.images import integer_from_unit

_LOG = "vmaf.json"
_YUV = "scale=out_color_matrix=bt709:out_range=tv,format=yuv444p"
# Restored and sharp frame come stacked through one pipe, so no frame is written to disk.
_GRAPH = (
    "[0:v]split[a][b];"
    f"[a]crop=iw:ih/2:0:0,{_YUV}[restored];"
    f"[b]crop=iw:ih/2:0:ih/2,{_YUV}[sharp];"
    f"[restored][sharp]libvmaf=log_fmt=json:log_path={_LOG}"
)


def find_vmaf() -> str:
    """Path of an ffmpeg with libvmaf: that of imageio-ffmpeg, or the one in its environment
    variable IMAGEIO_FFMPEG_EXE.

    Raises:
        MissingExtraError: imageio-ffmpeg is not installed.
        ConfigError: there is no ffmpeg, it does not run, or it was built without libvmaf.
    """
    try:
        import imageio_ffmpeg
    except ImportError:
        raise MissingExtraError("imageio-ffmpeg", "vmaf", "VMAF") from None
    remedy = "set the variable IMAGEIO_FFMPEG_EXE to an ffmpeg that lists it under -filters"
    try:
        program = str(imageio_ffmpeg.get_ffmpeg_exe())
        asked = subprocess.run(
            [program, "-hide_banner", "-filters"], capture_output=True, encoding="utf-8",
            errors="replace", check=True,
        )  # fmt: skip
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(f"VMAF needs an ffmpeg with libvmaf ({error}): {remedy}") from None
    if not any(line.split()[1:2] == ["libvmaf"] for line in asked.stdout.splitlines()):
        raise ConfigError(f"'{program}' was built without libvmaf, which VMAF needs: {remedy}")
    return program


class VmafMeter:
    """VMAF of a clip, by the default model of libvmaf (vmaf_v0.6.1: a television seen from three
    times its height).

    It is of whole frames in 8-bit BT.709 YUV 4:4:4, whatever a protocol crops. Use as a context
    manager: `add` every frame in order, then `finish`.

    Args:
        ffmpeg: path of the program, see `find_vmaf`.
        height: of the frames.
        width: of the frames.
    """

    def __init__(self, ffmpeg: str, height: int, width: int) -> None:
        self._folder = TemporaryDirectory(prefix="unsmear-vmaf-")
        errors = Path(self._folder.name) / "errors"
        self._errors = errors.open("w+", encoding="utf-8", errors="replace")  # as ffmpeg writes
        command = [ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error"]
        command += ["-f", "rawvideo", "-pixel_format", "rgb24", "-framerate", "25"]
        command += ["-video_size", f"{width}x{2 * height}", "-i", "pipe:0"]
        command += ["-filter_complex", _GRAPH, "-f", "null", "-"]
        self._process = subprocess.Popen(
            command,
            cwd=self._folder.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )

    def add(self, restored: Tensor, sharp: Tensor) -> None:
        """Add the next restored frame and its ground truth, (3, H, W) each, float, 0..1.

        Raises:
            UnsmearError: ffmpeg failed.
        """
        pair = integer_from_unit(torch.cat((restored, sharp), dim=-2))  # (3, 2H, W)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(pair.permute(1, 2, 0).contiguous().numpy().tobytes())
        except OSError:
            raise self._failure() from None

    def finish(self) -> list[float]:
        """Finish and return the VMAF of each frame.

        Raises:
            UnsmearError: ffmpeg failed.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            raise self._failure() from None
        if self._process.wait():
            raise self._failure()
        text = (Path(self._folder.name) / _LOG).read_text(encoding="utf-8")
        log: dict[str, Any] = json.loads(text)
        return [float(frame["metrics"]["vmaf"]) for frame in log["frames"]]

    def _failure(self) -> UnsmearError:
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        return UnsmearError(
            f"ffmpeg could not compute VMAF: {said[-1] if said else 'unknown error'}"
        )

    def __enter__(self) -> VmafMeter:
        return self

    def __exit__(self, *exit_info: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None and not self._process.stdin.closed:
            with suppress(OSError):  # data left in the buffer has no reader
                self._process.stdin.close()
        self._errors.close()
        self._folder.cleanup()
