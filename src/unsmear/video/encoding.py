"""Choice of the encoder and its settings, by default the codec family of the source; encoding."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from numbers import Integral
from typing import Literal, get_args

import av
import numpy as np
import torch
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from torch import Tensor

from unsmear.clip import ClipInfo, HdrMetadata, MasteringDisplay, YuvPlanes
from unsmear.errors import ConfigError, EncodeError, OutputError
from unsmear.video.formats import PixelFormat
from unsmear.video.spool import EncodedPacket

Family = Literal["h264", "hevc", "vp9", "av1", "prores", "ffv1"]
FAMILIES: tuple[Family, ...] = get_args(Family)
_PRORES_BITS = 10  # of the encoder; ProRes 4444 is decoded with 12
_TINY = 64  # pixels: a frame of one coding tree unit
_LARGE = 2560 * 1440  # pixels
# Frames per second; SVT-AV1 refuses more, but screen recorders state 1000 (one per millisecond).
_MOST_AV1_RATE = Fraction(240)


@dataclass(frozen=True)
class Encoder:
    """A row of the table of encoders.

    Attributes:
        family: codec family.
        name: FFmpeg's name of the encoder.
        containers: suffixes of files that can hold it.
        crf: default quality, None if it has no CRF.
        worst_crf: largest CRF allowed.
        options: options of the encoder.
        odd: whether it supports sizes that the chroma subsampling does not divide.
    """

    family: Family
    name: str
    containers: frozenset[str]
    crf: int | None
    worst_crf: int
    options: Mapping[str, str]
    odd: bool

    def formats(self) -> set[str]:
        """Names of the pixel formats that it accepts."""
        return {form.name for form in av.Codec(self.name, "w").video_formats or ()}


_MP4 = frozenset({".mp4", ".m4v"})
_MOV = frozenset({".mov"})  # cannot hold VP9 and AV1
_MKV = frozenset({".mkv"})
_WEBM = frozenset({".webm"})
ENCODERS: dict[Family, Encoder] = {
    row.family: row
    for row in (
        Encoder("h264", "libx264", _MP4 | _MOV | _MKV, 16, 51, {"preset": "fast"}, False),
        Encoder("hevc", "libx265", _MP4 | _MOV | _MKV, 18, 51, {"preset": "fast"}, False),
        Encoder(
            "vp9", "libvpx-vp9", _MP4 | _MKV | _WEBM, 20, 63,
            {"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}, True,
        ),
        Encoder("av1", "libsvtav1", _MP4 | _MKV | _WEBM, 20, 63, {"preset": "8"}, True),
        Encoder("prores", "prores_ks", _MOV | _MKV, None, 0, {}, True),
        Encoder("ffv1", "ffv1", _MKV, None, 0, {"level": "3", "slicecrc": "1"}, True),
    )
}  # fmt: skip
# The family for each source codec. Obsolete codecs are replaced by a similar one.
_FAMILY_OF: dict[str, Family] = {
    "h264": "h264", "hevc": "hevc", "vp9": "vp9", "vp8": "vp9", "av1": "av1", "prores": "prores",
    "ffv1": "ffv1", "huffyuv": "ffv1", "ffvhuff": "ffv1", "utvideo": "ffv1",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EncodeChoice:
    """What the user asks of the encoder.

    Attributes:
        codec: codec family; `auto`: that of the source.
        crf: quality, smaller is better; None: the default of the encoder.
        pixel_format: None: that of the source.
        lossless: FFV1, which keeps the restored frames without loss.

    Raises:
        ConfigError: unknown codec, CRF out of range, or settings that contradict each other.
    """

    codec: Family | Literal["auto"] = "auto"
    crf: int | None = None
    pixel_format: PixelFormat | None = None
    lossless: bool = False

    def __post_init__(self) -> None:
        if self.codec not in ("auto", *FAMILIES):
            raise ConfigError(
                f"codec is '{self.codec}': must be one of auto, {', '.join(FAMILIES)}"
            )
        if self.lossless and self.codec not in ("auto", "ffv1"):
            raise ConfigError(f"lossless means FFV1, but codec is '{self.codec}': give only one")
        if self.crf is not None:
            row = None if self.codec == "auto" else ENCODERS[self.codec]
            if self.lossless or (row is not None and row.crf is None):
                raise ConfigError(f"crf is {self.crf}: leave it out for lossless or ProRes video")
            worst = 63 if row is None else row.worst_crf
            crf: object = self.crf
            if not (isinstance(crf, Integral) and 0 <= int(crf) <= worst):
                raise ConfigError(f"crf is {self.crf!r}: must be from 0 (best) to {worst}")


@dataclass(frozen=True)
class Encoding:
    """How a video is written.

    Attributes:
        encoder: row of the table.
        crf: quality, None if the encoder has no CRF.
        pixel_format: of the written file.
        notes: what differs from the source, for the user.
    """

    encoder: Encoder
    crf: int | None
    pixel_format: PixelFormat
    notes: tuple[str, ...] = field(default=(), compare=False)


def choose_encoding(
    choice: EncodeChoice, source_codec: str, source: PixelFormat, suffix: str, size: tuple[int, int]
) -> Encoding:
    """Choose what the user left open.

    Args:
        choice: what the user asked for.
        source_codec: FFmpeg's name of the source's codec, such as h264.
        source: pixel format of the source.
        suffix: of the file to write, such as .mp4.
        size: width and height, pixels.

    Raises:
        OutputError: no encoder fits everything that was asked for; the message names a choice that
            does.
    """
    wanted, chosen = choice.pixel_format or source, choice.lossless or choice.codec != "auto"
    if chosen:
        families = ["ffv1" if choice.codec == "auto" else choice.codec]
    else:
        own = [_FAMILY_OF[source_codec]] if source_codec in _FAMILY_OF else []
        families = [*own, *_widely_played(wanted), "ffv1"]
    for name in families:
        row, form, crf = ENCODERS[name], wanted, choice.crf
        if name == "prores" and choice.pixel_format is None:
            form = replace(source, depth=min(source.depth, _PRORES_BITS))
        if not _fits(row, form, suffix, size):
            continue
        if crf is not None and (row.crf is None or crf > row.worst_crf):
            allowed = "none" if row.crf is None else f"0 to {row.worst_crf}"
            raise OutputError(f"crf is {crf}, but {name} takes {allowed}: choose another --codec")
        notes = []
        if name != source_codec and not chosen:
            becomes = f"{name} ({form.name}, {size[0]}x{size[1]}, {suffix})"
            notes.append(f"{source_codec} becomes {becomes}")
        if form != wanted:
            bits = f"{wanted.depth} bits become {form.depth}"
            notes.append(f"{bits}: the ProRes encoder supports no more")
        return Encoding(row, row.crf if crf is None else crf, form, tuple(notes))
    raise OutputError(_misfit(ENCODERS[families[0]] if chosen else None, wanted, suffix, size))


def _fits(row: Encoder, form: PixelFormat, suffix: str, size: tuple[int, int]) -> bool:
    odd = size[0] % (1 << form.down_x) or size[1] % (1 << form.down_y)
    return suffix in row.containers and form.name in row.formats() and (row.odd or not odd)


def _widely_played(wanted: PixelFormat) -> tuple[Family, ...]:
    return ("h264", "hevc", "vp9", "av1") if wanted.depth == 8 else ("hevc", "av1", "h264")


def _misfit(row: Encoder | None, wanted: PixelFormat, suffix: str, size: tuple[int, int]) -> str:
    what = f"{wanted.name} frames of {size[0]}x{size[1]}"
    if row is None:
        return f"{what} cannot be written to {suffix} files: choose an output ending in .mkv"
    if suffix not in row.containers:
        return (
            f"{row.family} cannot be written to {suffix} files: choose an output ending in "
            f"{' or '.join(sorted(row.containers))}, or another --codec"
        )
    if wanted.name not in row.formats():
        known = sorted(name for name in row.formats() if PixelFormat.named(name))
        return (
            f"{row.family} does not support {wanted.name}: choose --pixel-format "
            f"{' or '.join(known)}"
        )
    return (
        f"{row.family} cannot encode {what}, since it needs even sizes: choose --codec vp9 or ffv1"
    )


def configure(context: VideoCodecContext, encoding: Encoding, info: ClipInfo) -> None:
    """Configure an encoder's context, in the same way for every part of a video and for its
    container.

    Args:
        context: not yet opened.
        encoding: how to encode.
        info: the clip as it is written; size, colour, rate and ticks come from it.
    """
    os.environ.setdefault("SVT_LOG", "1")  # otherwise SVT-AV1 logs to stderr
    context.width, context.height = info.width, info.height
    context.pix_fmt = encoding.pixel_format.name
    context.time_base = ticks_of(info)
    rate = info.rate or Fraction(25)
    # It steers only the rate control: frames have time stamps.
    context.framerate = min(rate, _MOST_AV1_RATE) if encoding.encoder.family == "av1" else rate
    if info.pixel_aspect:
        context.sample_aspect_ratio = info.pixel_aspect
    tags = info.tags
    # All four colour fields: players guess if one is missing.
    context.colorspace, context.color_primaries = tags.matrix, tags.primaries
    context.color_trc, context.color_range = tags.transfer, 2 if tags.full_range else 1
    context.options = _options(encoding, info)
    context.thread_type = "AUTO"
    context.flags |= Flags.global_header | Flags.bitexact


def ticks_of(info: ClipInfo) -> Fraction:
    """Seconds of one tick in the written file: that of the clip, or 1/90000."""
    return info.time_base or Fraction(1, 90_000)


def _options(encoding: Encoding, info: ClipInfo) -> dict[str, str]:
    row = encoding.encoder
    options = dict(row.options)
    if encoding.crf is not None:
        options["crf"] = str(encoding.crf)
    if row.family == "h264":
        if info.width * info.height > _LARGE:
            options["rc-lookahead"] = "10"  # 30 waiting frames of 4K would take half a GiB
        if torch.backends.cpu.get_cpu_capability() == "AVX512":
            options["x264-params"] = "asm=AVX2"  # its mbtree is not deterministic with AVX-512
    elif row.family == "hevc":
        parameters = ["log-level=none", *_x265_hdr(info.hdr)]
        if max(info.width, info.height) <= _TINY:
            # With a single coding tree unit x265 is not deterministic.
            parameters.append("ctu=16")
        options["x265-params"] = ":".join(parameters)
    elif row.family == "av1" and (hdr := _svt_hdr(info.hdr)):
        options["svtav1-params"] = ":".join(hdr)
    elif row.family == "prores":
        options["profile"] = "4444" if encoding.pixel_format.down_x == 0 else "hq"
    return options


def _x265_hdr(hdr: HdrMetadata) -> list[str]:
    """x265's options for SMPTE ST 2086, in steps of 0.00002 and 0.0001 cd/m2."""
    found = []
    if display := hdr.display:
        points = "".join(
            f"{label}({round(x * 50_000)},{round(y * 50_000)})"
            for label, (x, y) in _chromaticities(display)
        )
        light = f"L({round(display.brightest * 10_000)},{round(display.darkest * 10_000)})"
        found.append(f"master-display={points}{light}")
    if hdr.light:
        found.append(f"max-cll={hdr.light[0]},{hdr.light[1]}")
    return [*found, "hdr10=1"] if found else []


def _svt_hdr(hdr: HdrMetadata) -> list[str]:
    found = []
    if display := hdr.display:
        points = "".join(
            f"{label}({float(x):.5f},{float(y):.5f})" for label, (x, y) in _chromaticities(display)
        )
        light = f"L({float(display.brightest):.4f},{float(display.darkest):.4f})"
        found.append(f"mastering-display={points}{light}")
    if hdr.light:
        found.append(f"content-light={hdr.light[0]},{hdr.light[1]}")
    return found


def _chromaticities(display: MasteringDisplay) -> list[tuple[str, tuple[Fraction, Fraction]]]:
    """Primaries and white point, with the labels and in the order of x265 and SVT-AV1."""
    return [
        ("G", display.green), ("B", display.blue), ("R", display.red), ("WP", display.white)
    ]  # fmt: skip


class FrameEncoder:
    """Encodes frames to packets: a part of a video that can be decoded on its own.

    Args:
        encoding: how to encode.
        info: the clip as it is written.

    Raises:
        EncodeError: the encoder refuses.
    """

    def __init__(self, encoding: Encoding, info: ClipInfo) -> None:
        self.encoding = encoding
        self._ticks = ticks_of(info)
        # Durations by pts of frames not yet returned: most encoders do not pass them on.
        self._lasting: dict[int, int] = {}
        context = av.CodecContext.create(encoding.encoder.name, "w")
        assert isinstance(context, VideoCodecContext)
        self._context = context
        configure(context, encoding, info)
        try:
            context.open()
        except (av.FFmpegError, ValueError) as error:
            raise EncodeError(f"{encoding.encoder.name} cannot encode this: {error}") from None

    def encode(
        self, planes: YuvPlanes, pts: Fraction, duration: Fraction | None = None
    ) -> list[EncodedPacket]:
        """Encode a frame with its presentation time and duration in seconds; return the packets
        that are ready.

        Raises:
            EncodeError: the encoder refuses.
        """
        frame = video_frame(planes)
        frame.pts, frame.time_base = round(pts / self._ticks), self._ticks
        if duration:
            frame.duration = round(duration / self._ticks)
            self._lasting[frame.pts] = frame.duration
        return self._packets(frame)

    def finish(self) -> list[EncodedPacket]:
        """Return the packets that the encoder still holds.

        Raises:
            EncodeError: the encoder refuses.
        """
        return self._packets(None)

    def _packets(self, frame: VideoFrame | None) -> list[EncodedPacket]:
        try:
            packets = self._context.encode(frame)
        except (av.FFmpegError, ValueError) as error:
            raise EncodeError(f"encoding failed: {error}") from None
        return [
            EncodedPacket(
                pts=packet.pts or 0,
                duration=self._lasting.pop(packet.pts or 0, packet.duration or 0),
                key=packet.is_keyframe,
                data=bytes(packet),
            )
            for packet in packets
        ]


def video_frame(planes: YuvPlanes) -> VideoFrame:
    """Planes -> a frame for an encoder, with their colour tags."""
    height, width = planes.y.shape
    frame = VideoFrame(width, height, PixelFormat.of(planes).name)
    for plane, values in zip(frame.planes, (planes.y, planes.u, planes.v), strict=True):
        _fill(plane, values)
    tags = planes.tags
    frame.colorspace, frame.color_range = tags.matrix, 2 if tags.full_range else 1
    frame.color_primaries, frame.color_trc = tags.primaries, tags.transfer
    return frame


def _fill(plane: av.video.plane.VideoPlane, values: Tensor) -> None:
    pixels = values.cpu().numpy()
    stride = plane.line_size // pixels.itemsize
    rows = np.frombuffer(memoryview(plane), dtype=pixels.dtype).reshape(-1, stride)
    height, width = pixels.shape
    rows[:height, :width] = pixels
    # Encoders read beyond the edge, so it must hold the same values every time.
    rows[:height, width:] = pixels[:, -1:]
