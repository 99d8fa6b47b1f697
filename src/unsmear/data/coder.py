"""What video coders take away: clips through a real one and back, as nearly all video that people
have went. Its losses differ from those of pictures: blocks are smoothed, and what moves is
predicted from frames that are blurred and coded themselves.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from unsmear.clip import ColorTags
from unsmear.data.motion import Generators
from unsmear.errors import ConfigError

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

CoderName = Literal["libx264", "mpeg4"]
_DECODERS: dict[CoderName, str] = {"libx264": "h264", "mpeg4": "mpeg4"}
# H.264 is what most clips are; MPEG-4 Part 2 is what old phones made. x265 is not among them: in
# one thread it wrote beyond its memory where crops were narrower than 64 pixels.
_H264_SHARE = 0.75
# Finest and coarsest: the constant rate factor, for MPEG-4 the quantiser. The finest lose hardly
# anything, the coarsest are those of clips that were sent through a messenger.
_QUALITIES: dict[CoderName, tuple[int, int]] = {"libx264": (14, 34), "mpeg4": (2, 14)}
# Coarser still: videos of old phones at the rate that their cards took, and what was sent on twice.
# Half of them by MPEG-4, whose blocks nobody smooths.
_COARSE_H264_SHARE = 0.5
_COARSE: dict[CoderName, tuple[int, int]] = {"libx264": (35, 42), "mpeg4": (15, 31)}
_TAGS = ColorTags(matrix=1, primaries=1, transfer=1, full_range=False)
# Frames before a clip, which take the place of its whole, better coded first frame.
_LEAD = 2


class Coding(NamedTuple):
    """How a clip is coded.

    Attributes:
        coder: of FFmpeg.
        quality: constant rate factor, or quantiser of MPEG-4; the larger the worse.
    """

    coder: CoderName
    quality: int


def check_coders() -> None:
    """Raise ConfigError where PyAV is missing, which holds the coders."""
    if importlib.util.find_spec("av") is None:
        raise ConfigError(
            "a share of the clips is to be encoded, which needs PyAV: pip install av, or use "
            "--coder-share 0"
        )


def draw_codings(
    count: int, share: float, random: Generators, *, coarse: float = 0.0
) -> list[Coding | None]:
    """For each of `count` clips how it is coded, or that it is not.

    Args:
        count: of clips.
        share: probability of a clip to be coded.
        random: the one of the host is advanced.
        coarse: probability of a coded clip to be coded more coarsely than most are. With 0 nothing
            is drawn for it, and seeds give what they gave.
    """
    codings: list[Coding | None] = []
    for _ in range(count):
        wanted, which, how = random.uniform(0, 1, 3).tolist()
        rough = coarse > 0 and random.chance(coarse)
        modern = which < (_COARSE_H264_SHARE if rough else _H264_SHARE)
        coder: CoderName = "libx264" if modern else "mpeg4"
        finest, coarsest = (_COARSE if rough else _QUALITIES)[coder]
        quality = finest + int(how * (coarsest - finest + 1))
        codings.append(Coding(coder, quality) if wanted < share else None)
    return codings


def code_clips(clips: Tensor, codings: Sequence[Coding | None]) -> Tensor:
    """Each clip as its coder leaves it.

    Args:
        clips: sRGB 0..1, (B, T, 3, H, W), any size.
        codings: B; a clip with None stays as it is.

    Returns:
        (B, T, 3, H, W), 0..1, on the device of `clips`. Same input, same output.
    """
    return torch.stack(
        [
            clip if coding is None else code_clip(clip, coding)
            for clip, coding in zip(clips, codings, strict=True)
        ]
    )


def code_clip(clip: Tensor, coding: Coding) -> Tensor:
    """One clip (T, 3, H, W) through a coder and back, as a stretch from the middle of a video:
    some of its frames, mirrored in time, go before.
    """
    from unsmear.video.color import planes_from_rgb, rgb_from_planes
    from unsmear.video.encoding import video_frame
    from unsmear.video.frames import planes_of

    height, width = clip.shape[-2:]
    # Coders of colour differences at half size want even sides.
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

    context = av.CodecContext.create(coding.coder, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
    # One thread: a clip is too small for more, and threads would not give the same twice.
    context.thread_count = 1
    if coding.coder == "mpeg4":
        context.qmin = context.qmax = coding.quality
    else:
        # No lookahead: it is for longer clips than these, and what it serves, x264's mbtree, does
        # not give the same twice on every processor (`unsmear.video.encoding`).
        context.options = {
            "crf": str(coding.quality),
            "preset": "veryfast",
            "rc-lookahead": "0",
        }
    return context


def _decoder(coding: Coding) -> VideoCodecContext:
    import av

    context = av.CodecContext.create(_DECODERS[coding.coder], "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    return context
