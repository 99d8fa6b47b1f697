"""Losses of video compression: clips are encoded by a real codec and decoded again, as nearly all
video in use was. These losses differ from those of JPEG: block edges are smoothed, and moving parts
are predicted from frames that are themselves blurred and compressed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.clip import ColorTags
from unsmear.data.generators import Generators
from unsmear.errors import ConfigError

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

EncoderName = Literal["libx264", "mpeg4"]
_DECODERS: dict[EncoderName, str] = {"libx264": "h264", "mpeg4": "mpeg4"}
# Most clips are H.264; old phones made MPEG-4 Part 2. x265 is left out: with one thread it wrote
# out of bounds for crops narrower than 64 pixels.
_H264_SHARE = 0.75
# Finest and coarsest: constant rate factor, for MPEG-4 the quantiser. The finest lose hardly
# anything; the coarsest are those of clips sent through a messenger.
_QUALITIES: dict[EncoderName, tuple[int, int]] = {"libx264": (14, 34), "mpeg4": (2, 14)}
# Coarser still: videos of old phones at the low bit rates of their memory cards, and clips that
# were sent on twice. Half of them by MPEG-4, which has no deblocking filter.
_COARSE_H264_SHARE = 0.5
_COARSE: dict[EncoderName, tuple[int, int]] = {"libx264": (35, 42), "mpeg4": (15, 31)}
_TAGS = ColorTags(matrix=1, primaries=1, transfer=1, full_range=False)
# Frames encoded before the clip, in place of a first frame, which codecs encode better.
_LEAD = 2


class Coding(NamedTuple):
    """How a clip is encoded.

    Attributes:
        encoder: FFmpeg's name of it.
        quality: constant rate factor, or quantiser of MPEG-4. Higher is worse.
    """

    encoder: EncoderName
    quality: int


def check_codecs() -> None:
    """Raise ConfigError if PyAV, which brings the codecs, is missing."""
    if importlib.util.find_spec("av") is None:
        raise ConfigError(
            "a share of the clips is to be encoded, which needs PyAV: pip install av, or use "
            "--coder-share 0"
        )


def draw_codings(
    count: int, share: float, random: Generators, *, coarse: float = 0.0
) -> list[Coding | None]:
    """Draw for each of `count` clips how it is encoded; None: not at all.

    Args:
        count: number of clips.
        share: probability that a clip is encoded.
        random: its host generator is advanced.
        coarse: probability that an encoded clip is encoded more coarsely than usual. With 0 no
            random number is drawn for it, so results for a given seed do not change.
    """
    codings: list[Coding | None] = []
    for _ in range(count):
        wanted, which, how = random.uniform(0, 1, 3).tolist()
        rough = coarse > 0 and random.chance(coarse)
        modern = which < (_COARSE_H264_SHARE if rough else _H264_SHARE)
        encoder: EncoderName = "libx264" if modern else "mpeg4"
        finest, coarsest = (_COARSE if rough else _QUALITIES)[encoder]
        quality = finest + int(how * (coarsest - finest + 1))
        codings.append(Coding(encoder, quality) if wanted < share else None)
    return codings


def code_clips(clips: Tensor, codings: Sequence[Coding | None]) -> Tensor:
    """Encode and decode each clip.

    Args:
        clips: sRGB 0..1, (B, T, 3, H, W), any size.
        codings: B; a clip with None is left unchanged.

    Returns:
        (B, T, 3, H, W), 0..1, on the device of `clips`. Deterministic.
    """
    return torch.stack(
        [
            clip if coding is None else code_clip(clip, coding)
            for clip, coding in zip(clips, codings, strict=True)
        ]
    )


def code_clip(clip: Tensor, coding: Coding) -> Tensor:
    """Encode and decode one clip (T, 3, H, W), sRGB 0..1, as if it were cut from the middle of a
    video: some of its frames, mirrored in time, are encoded before it. Returns the same shape.
    """
    from unsmear.video.color import planes_from_rgb, rgb_from_planes
    from unsmear.video.encoding import video_frame
    from unsmear.video.frames import planes_of

    height, width = clip.shape[-2:]
    # 4:2:0 subsampling needs even sides.
    frames = functional.pad(clip.cpu().float(), (0, width % 2, 0, height % 2), mode="replicate")
    lead = frames[1 : 1 + _LEAD].flip(0)
    encoder, decoder = _encoder(coding, frames.shape[-2], frames.shape[-1]), _decoder(coding)
    packets = []
    for number, rgb in enumerate((*lead, *frames)):
        frame = video_frame(planes_from_rgb(rgb, _TAGS))
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoded = [frame for packet in packets for frame in decoder.decode(packet)]
    decoded += decoder.decode(None)
    rgb = torch.stack([rgb_from_planes(planes_of(frame, _TAGS)) for frame in decoded[len(lead) :]])
    return rgb[..., :height, :width].to(clip.device, clip.dtype)


def _encoder(coding: Coding, height: int, width: int) -> VideoCodecContext:
    from fractions import Fraction

    import av

    context = av.CodecContext.create(coding.encoder, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
    # One thread: a clip is too small for more, and several threads are not deterministic.
    context.thread_count = 1
    if coding.encoder == "mpeg4":
        context.qmin = context.qmax = coding.quality
    else:
        # No lookahead: it is for longer clips, and x264's mbtree, which uses it, is not
        # deterministic on every processor (`unsmear.video.encoding`).
        context.options = {
            "crf": str(coding.quality),
            "preset": "veryfast",
            "rc-lookahead": "0",
        }
    return context


def _decoder(coding: Coding) -> VideoCodecContext:
    import av

    context = av.CodecContext.create(_DECODERS[coding.encoder], "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    return context
