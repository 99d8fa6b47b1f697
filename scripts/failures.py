"""Draw where a model fails, for its model card: long blur, lights, coarse compression.

    python scripts/failures.py lite --out docs/images/failures-lite.jpg

The clips are harder versions of that of `unsmear demo`, made from scikit-image's public-domain
photographs. Each row shows the patch of the middle frame with the largest error: blurry, restored,
and the ground truth.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from unsmear.data.codec import Coding, code_clip
from unsmear.data.light import linear_from_srgb, round_to_8_bit, srgb_from_linear
from unsmear.demo import photograph_wall, shaky_clip
from unsmear.evaluate.metrics import psnr
from unsmear.evaluate.programs import parser_for, run_program
from unsmear.models.zoo import ZOO, load_model
from unsmear.outputs import atomic_file, check_file
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.stream import restore_stream
from unsmear.video.images import integer_from_unit, write_image

FRAMES = 5
PATCH = 128, 208  # rows and columns, shown at twice the size
SUFFIXES = (".jpg", ".jpeg", ".png")
_LIGHTS = 12.0  # linear light, where 1 is white: more than a display can show
_DARK = 0.08  # share of the light by day


def cases() -> dict[str, tuple[Tensor, Tensor]]:
    """Blurry and sharp clips, each (T, 3, H, W), by name of the difficulty."""
    usual = shaky_clip(FRAMES)
    return {
        "blur of 24 pixels": shaky_clip(FRAMES, blur=24.0),
        "lights at night": shaky_clip(FRAMES, blur=15.0, canvas=lit_wall()),
        "moving lights": with_moving_lights(*usual),
        "H.264, crf 36": (code_clip(usual[0], Coding("libx264", 36)), usual[1]),
    }


def lit_wall() -> Tensor:
    """The wall at night with a grid of lights, linear light, (3, h, w). What shakes the camera
    smears both alike.
    """
    dark = _DARK * linear_from_srgb(photograph_wall().float() / 255)
    return dark + grid_of_lights(*dark.shape[-2:])[0]


def with_moving_lights(blurry: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
    """The same clips at night, with a grid of lights that move on their own, as those of cars do:
    they leave streaks of 15 pixels, along another direction than the rest.
    """
    lights = grid_of_lights(*sharp.shape[-2:])
    kernel = torch.zeros(1, 1, 31, 31)
    for step in torch.linspace(-7, 7, 57).tolist():
        kernel[0, 0, 15 + round(0.6 * step), 15 + round(step)] += 1 / 57
    streaks = torch.nn.functional.conv2d(lights, kernel, padding=15)

    def at_night(clip: Tensor, lights: Tensor) -> Tensor:
        dark = _DARK * linear_from_srgb(clip) + lights
        return srgb_from_linear(dark.clamp(0, 1))

    return round_to_8_bit(at_night(blurry, streaks)), at_night(sharp, lights)


def grid_of_lights(height: int, width: int) -> Tensor:
    """Lights of 3x3 pixels, 48 pixels apart, linear light, (1, 1, H, W)."""
    lights = torch.zeros(1, 1, height, width)
    lights[..., 24::48, 24::48] = _LIGHTS
    return torch.nn.functional.avg_pool2d(lights, 3, stride=1, padding=1) * 9


def worst_place(restored: Tensor, sharp: Tensor) -> tuple[int, int]:
    """(top, left) of the patch with the largest squared error; frames (3, H, W)."""
    error = (restored - sharp).square().mean(dim=0)[None, None]
    pooled = torch.nn.functional.avg_pool2d(error, PATCH, stride=8)[0, 0]
    top, left = np.unravel_index(int(pooled.argmax()), pooled.shape)
    return 8 * int(top), 8 * int(left)


def row(case: str, blurry: Tensor, restored: Tensor, sharp: Tensor) -> np.ndarray:
    """Enlarged patches of three frames (3, H, W), with their PSNR: (h, w, 3) uint8."""
    top, left = worst_place(restored, sharp)
    crop = (..., slice(top, top + PATCH[0]), slice(left, left + PATCH[1]))
    panels = []
    for name, frame in ((case, blurry), ("restored", restored), ("truth", sharp)):
        pixels = integer_from_unit(frame[crop]).permute(1, 2, 0).numpy()
        large = cv2.resize(pixels, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        quality = psnr(round_to_8_bit(frame[crop]), sharp[crop])
        label = name if frame is sharp else f"{name}: {quality:.1f} dB"
        cv2.rectangle(large, (0, 0), (large.shape[1], 26), (0, 0, 0), cv2.FILLED)
        white = (255, 255, 255)
        cv2.putText(large, label, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, white, 1, cv2.LINE_AA)
        panels.append(large)
    return np.concatenate(panels, axis=1)


def draw(model: str) -> Tensor:
    """All rows, (3, H, W) uint8."""
    loaded = load_model(model)
    rows = []
    for case, (blurry, sharp) in cases().items():
        restored = list(
            restore_stream(loaded.network, blurry, loaded.window, quality=QualityOptions())
        )
        middle = FRAMES // 2
        rows.append(row(case, blurry[middle], restored[middle], sharp[middle]))
    sheet = np.concatenate(rows)
    return torch.from_numpy(np.ascontiguousarray(sheet.transpose(2, 0, 1)))


def main() -> None:
    """Draw the images and write the file."""
    parser = parser_for(__doc__)
    parser.add_argument(
        "model", choices=[name for name, row in ZOO.items() if row.weights.is_file()]
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="picture (.jpg, .png), replaced if it exists"
    )
    arguments = parser.parse_args()
    check_file(arguments.out, suffixes=SUFFIXES)
    picture = draw(arguments.model)
    with atomic_file(arguments.out) as partial:
        write_image(partial, picture)


if __name__ == "__main__":
    sys.exit(run_program(main))
