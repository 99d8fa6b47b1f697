"""Blurry and sharp clips synthesised from sharp photographs and videos, on the training device.

A virtual camera shakes in front of a photograph (or a video made continuous by optical flow). Near
parts may blur more than far ones, and cut-out layers may move over the scene. The open shutter
averages sub-frames in linear light, and the camera adds noise, rounding and compression. A video
codec may follow. The sharp frame is the sub-frame at mid-exposure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unsmear.data.canvas import cut_canvas, cut_flow
from unsmear.data.clips import Clips, join_clips, turn_clips, unknown_clips
from unsmear.data.codec import check_codecs, code_clips, draw_codings
from unsmear.data.cutouts import draw_outline, draw_paths
from unsmear.data.degrade import compress, sensor_noise, soften_noise
from unsmear.data.flow import between
from unsmear.data.generators import Generators
from unsmear.data.light import (
    ResponseCurves,
    draw_curves,
    draw_exposures,
    encode_light,
    linear_light,
    round_to_8_bit,
)
from unsmear.data.motion import Motion, draw_motion
from unsmear.data.night import add_lamps, draw_dimming, draw_lamps
from unsmear.data.relief import draw_relief
from unsmear.data.render import composite, expose, frame_points, render
from unsmear.data.shake import OrientationLog, transform_points
from unsmear.data.sources import Shot
from unsmear.data.trails import Trails, fit_trails, trails_under_layer
from unsmear.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """What the virtual camera does. Shares are probabilities, lengths are in pixels.

    Attributes:
        blur_mean: mean of the exponential distribution of blur lengths.
        blur_most: maximum blur length.
        sharp_share: clips with less than one pixel of blur, so that the network learns to leave
            sharp frames alone.
        relief_share: clips from photographs in which near parts blur more (`unsmear.data.relief`).
        night_share: clips from photographs that are dim, with lamps in the scene
            (`unsmear.data.night`).
        curve_share: clips whose camera has a response curve other than that of sRGB
            (`unsmear.data.light`).
        bright_share: clips exposed for the shadows, with highlights clipped to white.
        object_share: clips from photographs with a layer that moves on its own.
        video_share: clips from videos, if there are also photographs.
        recorded_share: clips shaken by a recorded log rather than along a random path, if there is
            a log.
        half_share: clips rendered at half the size of the photograph (denser detail).
        compressed_share: clips with JPEG artefacts.
        coder_share: clips encoded by a real video codec (`unsmear.data.codec`; needs PyAV), on
            the CPU.
        coarse_share: share of the encoded clips that are compressed more strongly than usual.
        noise_most: maximum standard deviation of the read noise, as a fraction of full scale, in
            linear light.

    Raises:
        ConfigError: a value is out of its range, or contradicts another.
    """

    blur_mean: float = 7.0
    blur_most: float = 32.0
    sharp_share: float = 0.15
    relief_share: float = 0.0
    night_share: float = 0.0
    curve_share: float = 0.0
    bright_share: float = 0.0
    object_share: float = 0.3
    video_share: float = 0.3
    recorded_share: float = 0.4
    half_share: float = 0.5
    compressed_share: float = 0.25
    coder_share: float = 0.0
    coarse_share: float = 0.0
    noise_most: float = 0.01

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value}: must be from 0 to 1"
            for name, value in vars(self).items()
            if name.endswith("_share") and not 0 <= value <= 1
        ]
        if self.coarse_share and not self.coder_share:
            problems.append(
                f"coarse_share is {self.coarse_share}, but no clips are encoded: use 0, or a "
                "coder_share above 0"
            )
        if not 0 < self.blur_mean <= self.blur_most < math.inf:
            problems.append(
                f"blur_mean is {self.blur_mean}, blur_most {self.blur_most}: both must be finite "
                "and above 0, and the mean must not exceed the maximum"
            )
        if not 0 <= self.noise_most < 1:
            problems.append(f"noise_most is {self.noise_most}: must be at least 0 and below 1")
        if problems:
            raise ConfigError("SynthesisConfig: " + "; ".join(problems))


def draw_blur_lengths(config: SynthesisConfig, count: int, random: Generators) -> Tensor:
    """Blur lengths of `count` clips in pixels, (count,)."""
    long = -config.blur_mean * torch.log1p(-random.uniform(0, 0.999, count))
    faint = random.uniform(0, 1, count)
    sharp = random.uniform(0, 1, count) < config.sharp_share
    return torch.where(sharp, faint, long.clamp_max(config.blur_most))


def usable_shots(shots: Sequence[Shot], frames: int) -> list[Shot]:
    """The shots that are long enough for clips of so many frames. Exposures of the first and of the
    last frame reach to one frame more.
    """
    return [shot for shot in shots if len(shot.frames) >= frames + 2]


class Synthesizer:
    """Synthesises batches of blurry and sharp clips. Owns the sources, not the random generators.

    Args:
        config: what the virtual camera does.
        photographs: each (3, H, W) uint8.
        shots: sharp videos with their flow; may be empty.
        logs: recorded orientations; may be empty.
        device: where batches are made.

    Raises:
        ConfigError: there is neither a photograph nor a shot, or clips are to be encoded and PyAV
            is missing.
    """

    def __init__(
        self,
        config: SynthesisConfig,
        photographs: Sequence[Tensor],
        shots: Sequence[Shot],
        logs: Sequence[OrientationLog],
        device: torch.device,
    ) -> None:
        if not photographs and not shots:
            raise ConfigError("synthesis needs at least one photograph or video")
        if config.coder_share:
            check_codecs()
        self.config = config
        self.photographs = [picture.to(device) for picture in photographs]
        self.shots = [shot.to(device) for shot in shots]
        self.logs = logs
        self.device = device

    def batch(self, clips: int, frames: int, size: int, random: Generators) -> Clips:
        """Make B clips.

        Args:
            clips: B.
            frames: T.
            size: H and W.
            random: both generators, advanced.

        Returns:
            Blurry and sharp, each (B, T, 3, H, W), sRGB 0..1. Blurry frames are multiples of 1/255
            unless a video codec follows. Trails are known for clips made from photographs, if
            `size` is a multiple of a cell.
        """
        lengths = draw_blur_lengths(self.config, clips, random)
        from_shot = torch.tensor([self._takes_shot(frames, random) for _ in range(clips)])
        curves = draw_curves(clips, self.config.curve_share, random)
        parts: list[Clips] = []
        made = 0
        for make, share in ((self._from_photographs, ~from_shot), (self._from_shots, from_shot)):
            # Short blurs need fewer samples, so they are rendered apart from long ones.
            ordered = lengths[share].sort().values
            groups = ordered.tensor_split(2) if len(ordered) > 1 else (ordered,)
            for group in filter(len, groups):
                own = curves.of(range(made, made + len(group)))
                parts.append(make(group, frames, size, own, random))
                made += len(group)
        light = join_clips(parts)
        taken = turn_clips(Clips(*self._camera(*light.pair, curves, random), light.trails), random)
        if not self.config.coder_share:
            return taken
        # After the turns: codecs code in time order and on a fixed block grid.
        codings = draw_codings(
            clips, self.config.coder_share, random, coarse=self.config.coarse_share
        )
        return taken._replace(blurry=code_clips(taken.blurry, codings))

    def _takes_shot(self, frames: int, random: Generators) -> bool:
        if not usable_shots(self.shots, frames):
            return False
        return not self.photographs or random.chance(self.config.video_share)

    def _motion(
        self, lengths: Tensor, frames: int, size: int, random: Generators, further: float = 0.0
    ) -> Motion:
        share = self.config.recorded_share
        return draw_motion(lengths, frames, size, self.logs, share, random, further)

    def _light(self, canvas: Tensor, curves: ResponseCurves, random: Generators) -> Tensor:
        """Convert to linear light, with random exposure and white balance, and highlights beyond
        the display range, which blur into bright streaks. (B, ..., 3, P, P)
        """
        count = len(canvas)
        inner = (slice(None),) + (None,) * (canvas.dim() - 4)
        linear = linear_light(canvas, curves)
        gain = draw_exposures(count, self.config.bright_share, random)[:, None, None, None]
        balance = torch.exp(random.uniform(-0.1, 0.1, count, 3, 1, 1))
        peak = random.uniform(0, 6, count, 1, 1, 1) * (random.uniform(0, 1, count, 1, 1, 1) < 0.4)
        bright = linear.amin(dim=-3, keepdim=True).sub(0.85).clamp_min(0) / 0.15
        boosted = linear * (1 + peak.to(canvas.device)[inner] * bright**2)
        return boosted * (gain * balance).to(canvas.device)[inner]

    def _photograph_canvas(self, side: int, random: Generators) -> Tensor:
        picture = self.photographs[random.index(len(self.photographs))]
        half = random.chance(self.config.half_share)
        places = random.uniform(0, 1, 2, 2).tolist()
        # Skies teach nothing about blur: of two crops take the one with more detail.
        return max((cut_canvas(picture, side, (y, x), half) for y, x in places), key=_detail)

    def _from_photographs(
        self,
        lengths: Tensor,
        frames: int,
        size: int,
        curves: ResponseCurves,
        random: Generators,
    ) -> Clips:
        """B clips in linear light, for B blur lengths."""
        count, share = len(lengths), self.config.object_share
        moving = [index for index in range(count) if random.chance(share)]
        own_lengths = draw_blur_lengths(self.config, len(moving), random)
        depths = self._depths(count, random)
        further = torch.cat((own_lengths, depths)).max()
        motion = self._motion(lengths, frames, size, random, float(further))
        side = _canvas_side(motion.homographies, size)
        relief = draw_relief(motion.times, depths, side, random) if depths.any() else None
        canvas = torch.stack([self._photograph_canvas(side, random) for _ in range(count)])
        canvas = self._light(canvas, curves, random)
        dimming = draw_dimming(count, self.config.night_share, random)
        for index in (dimming < 1).nonzero()[:, 0].tolist():
            dim = canvas[index] * dimming[index]
            canvas[index] = add_lamps(dim, draw_lamps(side, random))
        placed = motion.homographies.to(self.device)
        near = None if relief is None else relief.to(self.device).shifts(placed, size, size)
        subframes = render(canvas, placed, size, size, shifts=near)
        # Fitted on the CPU, where the motion was drawn: these are few numbers.
        vectors = fit_trails(motion.homographies, size, size, relief).to(self.device)
        known = torch.ones_like(vectors[:, :, :1])
        if moving:
            layer, own = self._layer(motion, moving, own_lengths, size, curves.of(moving), random)
            layer[:, :3] *= dimming[moving].to(self.device)[:, None, None, None, None, None]
            subframes[moving] = composite(layer, subframes[moving])
            apart = fit_trails(own, size, size).to(self.device)
            vectors[moving], known[moving] = trails_under_layer(vectors[moving], apart, layer[:, 3])
        return Clips(*expose(subframes), Trails(vectors, known))

    def _depths(self, count: int, random: Generators) -> Tensor:
        """Additional blur of the nearest parts of each clip, in pixels, (count,)."""
        deep = random.uniform(0, 1, count) < self.config.relief_share
        return deep * draw_blur_lengths(self.config, count, random)

    def _layer(
        self,
        motion: Motion,
        moving: list[int],
        lengths: Tensor,
        size: int,
        curves: ResponseCurves,
        random: Generators,
    ) -> tuple[Tensor, Tensor]:
        """Premultiplied cut-outs (n, 4, T, S, H, W) that blur by lengths (n,) in a motion of their
        own, and their homographies (n, T, S, 3, 3).
        """
        own = draw_paths(motion.times[moving], lengths, size, random)
        homographies = own @ motion.homographies[moving]
        side = 2 * size
        texture = torch.stack([self._photograph_canvas(side, random) for _ in moving])
        alpha = torch.stack([draw_outline(side, size, random, self.device) for _ in moving])
        premultiplied = torch.cat((self._light(texture, curves, random) * alpha, alpha), dim=1)
        placed = homographies.to(self.device)
        return render(premultiplied, placed, size, size, outside="zeros"), homographies

    def _from_shots(
        self,
        lengths: Tensor,
        frames: int,
        size: int,
        curves: ResponseCurves,
        random: Generators,
    ) -> Clips:
        """As `_from_photographs`, for videos made continuous by their flow. The camera shakes less
        here, because the video has motion of its own.
        """
        count = len(lengths)
        motion = self._motion(0.6 * lengths, frames, size, random)
        side = _canvas_side(motion.homographies, size)
        usable = usable_shots(self.shots, frames)
        pictures, forwards, backwards = [], [], []
        for _ in range(count):
            shot = usable[random.index(len(usable))]
            start = random.index(len(shot.frames) - frames - 1)
            y, x = random.uniform(0, 1, 2).tolist()
            run = slice(start, start + frames + 2)
            pictures.append(cut_canvas(shot.frames[run], side, (y, x), False))
            gaps = slice(start, start + frames + 1)
            forwards.append(cut_flow(shot.forward[gaps], side, (y, x)))
            backwards.append(cut_flow(shot.backward[gaps], side, (y, x)))
        linear = self._light(torch.stack(pictures), curves, random)  # (B, T+2, 3, P, P)
        forward, backward = torch.stack(forwards), torch.stack(backwards)  # (B, T+1, 2, P, P)
        homographies, times = motion.homographies.to(self.device), motion.times.to(self.device)
        points = frame_points(homographies, size, size)  # (B, T, S, HW, 2)
        middle = times.shape[2] // 2
        # Time since mid-exposure, in frame intervals: -0.5..0.5.
        since = times - times[:, :, middle : middle + 1]

        def half_exposure(samples: slice, gap: int, offset: float) -> Tensor:
            """Sub-frames between frames t + gap - 1 and t + gap, for each of the T frames t."""
            pick = slice(gap, gap + frames)
            following = slice(gap + 1, gap + 1 + frames)
            values = between(
                (linear[:, pick].flatten(0, 1), linear[:, following].flatten(0, 1)),
                (forward[:, pick].flatten(0, 1), backward[:, pick].flatten(0, 1)),
                points[:, :, samples].flatten(0, 1),
                (since[:, :, samples] + offset).flatten(0, 1),
            )  # (B*T, 3, S', HW)
            return values.unflatten(0, (count, frames)).transpose(1, 2)  # (B, 3, T, S', HW)

        before = half_exposure(slice(0, middle), 0, 1.0)
        after = half_exposure(slice(middle, None), 1, 0.0)
        subframes = torch.cat((before, after), dim=3).unflatten(-1, (size, size))
        return unknown_clips(*expose(subframes))  # the video's own motion is known only roughly

    def _camera(
        self, blurry: Tensor, sharp: Tensor, curves: ResponseCurves, random: Generators
    ) -> tuple[Tensor, Tensor]:
        """Linear light -> what a file holds: noise, response curve, JPEG artefacts, 8 bits. The
        sharp frame gets only the curve.
        """
        count = len(blurry)
        level = random.uniform(0, 1, count) ** 2  # most clips have enough light
        read = self.config.noise_most * level * random.uniform(0.3, 1, count)
        shot = self.config.noise_most * level * random.uniform(0, 0.08, count)
        clipped = blurry.clamp(0, 1)
        noisy = sensor_noise(clipped, shot.to(self.device), read.to(self.device), random.device)
        grain = random.uniform(0, 1, count) * (random.uniform(0, 1, count) < 0.5)
        noisy = soften_noise(noisy, clipped, grain.to(self.device))
        encoded = encode_light(noisy, curves)
        squeezed = [index for index in range(count) if random.chance(self.config.compressed_share)]
        if squeezed:
            quality = random.uniform(35, 95, len(squeezed)).to(self.device)
            encoded[squeezed] = compress(round_to_8_bit(encoded[squeezed]), quality)
        return round_to_8_bit(encoded), encode_light(sharp, curves)


def _detail(canvas: Tensor) -> float:
    """Mean square of horizontal differences."""
    return float(canvas.diff(dim=-1).square().mean())


def _canvas_side(homographies: Tensor, size: int) -> int:
    """Side of a canvas that holds everything the cameras see, at most three frames wide. Its parity
    is that of the frame, so that a camera at rest sees whole pixels, not points between them.
    """
    corner = (size - 1) / 2
    corners = torch.tensor([[x, y] for x in (-corner, corner) for y in (-corner, corner)])
    reach = float(transform_points(homographies, corners).abs().quantile(0.98))
    side = 2 * math.ceil(reach) + 3
    return min(side + (side - size) % 2, 3 * size)
