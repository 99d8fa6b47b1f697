"""Conversion between YUV and RGB by a stream's own matrix, range and depth, in float (ITU-T H.273,
BT.601/709/2020).

A restored frame returns to YUV as a change: the difference that the network made is converted to
YUV and added to the decoded planes. Where nothing changed, the decoded values stay as they were,
whatever the subsampling.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unsmear.clip import ColorTags, YuvPlanes
from unsmear.video.formats import PixelFormat

UNSPECIFIED = 2
MATRIX_NAMES = {
    0: "RGB", 1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M", 8: "YCgCo",
    9: "BT.2020", 10: "BT.2020 constant luminance", 11: "SMPTE 2085", 14: "ICtCp",
}  # fmt: skip
HDR_CURVES = {16: "PQ", 18: "HLG"}  # transfer characteristics
_YCGCO = 8
# Weights of red and blue in luma, by H.273 matrix code.
_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    _YCGCO: (0.25, 0.25),
    9: (0.2627, 0.0593),  # BT.2020, non-constant luminance
}


def resolve_matrix(tags: ColorTags, width: int, height: int) -> int:
    """The matrix to use: the tagged one if it is supported here, otherwise the usual guess: BT.709
    for high definition (at least 1280 pixels wide or 577 high), BT.601 below.
    """
    if tags.matrix in _LUMA_WEIGHTS:
        return tags.matrix
    return 1 if width >= 1280 or height > 576 else 6


def rgb_from_yuv_matrix(matrix: int) -> Tensor:
    """(3, 3): R'G'B' from Y' (0..1) and colour differences (-0.5..0.5)."""
    if matrix == _YCGCO:  # Cg is G - Y, Co is (R - B) / 2
        rows = [[1.0, -1.0, 1.0], [1.0, 1.0, 0.0], [1.0, -1.0, -1.0]]
        return torch.tensor(rows, dtype=torch.float32)
    red, blue = _LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    return torch.tensor(
        [
            [1.0, 0.0, 2 - 2 * red],
            [1.0, -blue * (2 - 2 * blue) / green, -red * (2 - 2 * red) / green],
            [1.0, 2 - 2 * blue, 0.0],
        ],
        dtype=torch.float64,
    ).float()


def _code_ranges(depth: int, tags: ColorTags) -> tuple[float, float, float, float]:
    """Offset and span of luma, then of chroma, in code values."""
    unit = 1 << (depth - 8)
    if tags.full_range:
        top = (1 << depth) - 1
        return 0.0, top, 128.0 * unit, top
    # YCgCo chroma is computed from red, green and blue that span 219.
    chroma_span = 219.0 if tags.matrix == _YCGCO else 224.0
    return 16.0 * unit, 219.0 * unit, 128.0 * unit, chroma_span * unit


def upsample_chroma(chroma: Tensor, height: int, width: int, down_y: int, down_x: int) -> Tensor:
    """Upsample chroma to full size. Samples are sited as in MPEG-2 and H.264: on the left luma
    sample of each pair, and between rows. (..., h, w) float -> (..., height, width).
    """
    out = chroma
    if down_x:
        wide = out.new_empty((*out.shape[:-1], 2 * out.shape[-1]))
        wide[..., ::2] = out
        wide[..., 1:-1:2] = (out[..., :-1] + out[..., 1:]).mul_(0.5)
        wide[..., -1] = out[..., -1]
        out = wide[..., :width]
    if down_y:
        tall = out.new_empty((*out.shape[:-2], 2 * out.shape[-2], out.shape[-1]))
        torch.lerp(out[..., 1:, :], out[..., :-1, :], 0.25, out=tall[..., 2::2, :])
        torch.lerp(out[..., :-1, :], out[..., 1:, :], 0.25, out=tall[..., 1:-1:2, :])
        tall[..., 0, :], tall[..., -1, :] = out[..., 0, :], out[..., -1, :]
        out = tall[..., :height, :]
    return out


def downsample_chroma(chroma: Tensor, down_y: int, down_x: int) -> Tensor:
    """Downsample full-size chroma, with samples sited as in `upsample_chroma`. (N, H, W) float ->
    (N, ceil(H / 2**down_y), ceil(W / 2**down_x)).
    """
    out = chroma
    if down_y:  # rows first: adding whole rows is fast, and half as many remain
        upper, lower = out[..., ::2, :], out[..., 1::2, :]
        if out.shape[-2] % 2:
            lower = torch.cat((lower, out[..., -1:, :]), dim=-2)
        out = torch.add(upper, lower).mul_(0.5)
    if down_x:
        narrow = out[..., ::2] * 0.5
        narrow[..., :1].add_(out[..., :1], alpha=0.25)
        narrow[..., 1:].add_(out[..., 1:-1:2], alpha=0.25)
        pairs = out.shape[-1] // 2
        narrow[..., :pairs].add_(out[..., 1::2], alpha=0.25)
        narrow[..., pairs:].add_(out[..., -1:], alpha=0.25)
        out = narrow
    return out


def rgb_from_planes(planes: YuvPlanes) -> Tensor:
    """Decoded planes -> RGB, (3, H, W) float32, clipped to 0..1."""
    height, width = planes.y.shape
    luma, chroma = _decoded(planes)
    u, v = upsample_chroma(chroma, height, width, planes.down_y, planes.down_x)
    rows = rgb_from_yuv_matrix(resolve_matrix(planes.tags, width, height)).tolist()
    rgb = torch.empty((3, height, width), dtype=torch.float32)
    # Plane by plane: a product of 3x3 and 3xHW matrices takes three times as long.
    for color, (_, *weights) in zip(rgb, rows, strict=True):
        (one, weight), *more = [(c, w) for c, w in zip((u, v), weights, strict=True) if w]
        torch.add(luma, one, alpha=weight, out=color)
        for other, weight in more:
            color.add_(other, alpha=weight)
    return rgb.clamp_(0, 1)


def add_change(planes: YuvPlanes, change: Tensor) -> YuvPlanes:
    """Add an RGB change to decoded planes.

    Args:
        planes: as decoded.
        change: restored minus decoded RGB, (3, H, W) float; zero leaves the planes as they are.

    Returns:
        Planes of the same format.
    """
    height, width = planes.y.shape
    _, luma_span, _, chroma_span = _code_ranges(planes.depth, planes.tags)
    matrix = resolve_matrix(planes.tags, width, height)
    red, blue = _LUMA_WEIGHTS[matrix]
    top = (1 << planes.depth) - 1

    def moved(plane: Tensor, by: Tensor, span: float) -> Tensor:
        return by.mul(span).add_(plane).round_().clamp_(0, top).to(plane.dtype)

    def difference(color: Tensor, other: Tensor, largest: float) -> Tensor:
        by = downsample_chroma((color - other)[None], planes.down_y, planes.down_x)[0]
        return by.div_(largest)

    luma = change[0] * red  # plane by plane: an 8K plane takes 130 MB
    luma.add_(change[1], alpha=1 - red - blue).add_(change[2], alpha=blue)
    if matrix == _YCGCO:
        u, v = difference(change[1], luma, 1), difference(change[0], change[2], 2)
    else:
        u = difference(change[2], luma, 2 - 2 * blue)
        v = difference(change[0], luma, 2 - 2 * red)
    return replace(
        planes,
        y=moved(planes.y, luma, luma_span),
        u=moved(planes.u, u, chroma_span),
        v=moved(planes.v, v, chroma_span),
    )


def convert_planes(planes: YuvPlanes, wanted: PixelFormat) -> YuvPlanes:
    """Convert to another depth or subsampling; the same planes if they have it already."""
    if PixelFormat.of(planes) == wanted:
        return planes
    height, width = planes.y.shape
    luma, chroma = _decoded(planes)
    if (planes.down_x, planes.down_y) != (wanted.down_x, wanted.down_y):
        full = upsample_chroma(chroma, height, width, planes.down_y, planes.down_x)
        chroma = downsample_chroma(full, wanted.down_y, wanted.down_x)
    return _coded(luma, chroma, wanted, planes.tags)


def _decoded(planes: YuvPlanes) -> tuple[Tensor, Tensor]:
    """Code values -> Y' (H, W) in 0..1 and colour differences (2, h, w) in -0.5..0.5."""
    luma_offset, luma_span, chroma_offset, chroma_span = _code_ranges(planes.depth, planes.tags)
    luma = planes.y.float().sub_(luma_offset).div_(luma_span)
    chroma = torch.stack((planes.u, planes.v)).float().sub_(chroma_offset).div_(chroma_span)
    return luma, chroma


def _coded(luma: Tensor, chroma: Tensor, form: PixelFormat, tags: ColorTags) -> YuvPlanes:
    """The inverse of `_decoded`."""
    luma_offset, luma_span, chroma_offset, chroma_span = _code_ranges(form.depth, tags)
    top, dtype = (1 << form.depth) - 1, torch.uint8 if form.depth == 8 else torch.uint16

    def numbers(values: Tensor, offset: float, span: float) -> Tensor:
        return (values * span + offset).round_().clamp_(0, top).to(dtype)

    return YuvPlanes(
        y=numbers(luma, luma_offset, luma_span),
        u=numbers(chroma[0], chroma_offset, chroma_span),
        v=numbers(chroma[1], chroma_offset, chroma_span),
        depth=form.depth,
        down_x=form.down_x,
        down_y=form.down_y,
        tags=tags,
    )


def beside(first: YuvPlanes, second: YuvPlanes, *, below: bool = False) -> YuvPlanes:
    """Two frames of one format side by side, each cropped to an even width; with `below`, the
    second below the first, each cropped to an even height.
    """
    even = first.y.shape[0 if below else 1] // 2 * 2
    return _concatenated(_cropped(first, 0, even, below), _cropped(second, 0, even, below), below)


def wipe(first: YuvPlanes, second: YuvPlanes, at: int, *, below: bool = False) -> YuvPlanes:
    """One frame: the first left of a column (rounded down to even), the second from there on, with
    a white line two pixels wide at its left edge; with `below`, the first above a row, likewise.
    """
    length = first.y.shape[0 if below else 1]
    split = min(max(at // 2 * 2, 0), length)
    end = length + length % 2  # an odd last column has a chroma sample of its own
    both = _concatenated(
        _cropped(first, 0, split, below), _cropped(second, split, end, below), below
    )
    top = (1 << both.depth) - 1 if both.tags.full_range else 235 << (both.depth - 8)
    _cut(both.y, split, split + 2, below).fill_(top)
    down = both.down_y if below else both.down_x
    for plane in (both.u, both.v):
        _cut(plane, split >> down, (split + 2) >> down, below).fill_(128 << (both.depth - 8))
    return both


def _cut(plane: Tensor, begin: int, end: int, below: bool) -> Tensor:
    """A range of columns of a plane; with `below`, of rows."""
    return plane[begin:end] if below else plane[:, begin:end]


def _cropped(planes: YuvPlanes, begin: int, end: int, below: bool) -> YuvPlanes:
    """A range of columns of a frame, from and to an even number; with `below`, of rows."""
    down = planes.down_y if below else planes.down_x
    return replace(
        planes,
        y=_cut(planes.y, begin, end, below),
        u=_cut(planes.u, begin >> down, end >> down, below),
        v=_cut(planes.v, begin >> down, end >> down, below),
    )


def _concatenated(first: YuvPlanes, second: YuvPlanes, below: bool) -> YuvPlanes:
    dim = 0 if below else 1
    return replace(
        first,
        y=torch.cat((first.y, second.y), dim),
        u=torch.cat((first.u, second.u), dim),
        v=torch.cat((first.v, second.v), dim),
    )


def planes_from_rgb(
    rgb: Tensor, tags: ColorTags, form: PixelFormat = PixelFormat(8, 1, 1)
) -> YuvPlanes:
    """RGB (3, H, W) float 0..1 -> planes, by the tags' matrix and range."""
    _, height, width = rgb.shape
    matrix = torch.linalg.inv(rgb_from_yuv_matrix(resolve_matrix(tags, width, height)))
    yuv = (matrix @ rgb.flatten(1)).unflatten(1, (height, width))
    return _coded(yuv[0], downsample_chroma(yuv[1:], form.down_y, form.down_x), form, tags)
