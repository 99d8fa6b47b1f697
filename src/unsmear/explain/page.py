"""The HTML page that shows all images of a frame, each with how to read it. Plain HTML: no scripts,
no network access, links to files beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from unsmear.explain.maps import FrameMaps, LevelMaps, half_weight_share

_STYLE = """
:root { color-scheme: light; }
body { font: 17px/1.55 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 74rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { margin-top: 2.6rem; font-size: 1.25rem; }
p, ul { max-width: 46rem; } figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; display: block; }
figcaption { max-width: 46rem; margin-top: .5rem; }
figcaption b { color: #0b5394; }
nav a { margin-right: 1.2rem; } a { color: #0b5394; }
.flip { position: relative; } .flip .over { position: absolute; inset: 0; opacity: 0; }
.flip:hover .over, .flip:focus .over { opacity: 1; }
.note { background: #f3f3f3; padding: .6rem .9rem; border-left: 4px solid #e69f00; }
"""


@dataclass(frozen=True)
class About:
    """Where a frame and its explanation come from.

    Attributes:
        clip: name of the file or folder.
        model: name of the network.
        device: that it ran on.
    """

    clip: str
    model: str
    device: str


@dataclass(frozen=True)
class Section:
    """A heading with images of one kind.

    Attributes:
        key: HTML id of the section, for links.
        heading: short.
        what: what is shown, in one or two sentences.
        how: how to read it.
        pictures: names of image files beside the page.
        alt: alternative text of the images.
    """

    key: str
    heading: str
    what: str
    how: str
    pictures: Sequence[str]
    alt: str


def render_page(maps: FrameMaps, about: About, sections: Sequence[Section]) -> str:
    """Render the page. It expects `before.png` and `after.png` beside it.

    Args:
        maps: the measurements.
        about: where they come from.
        sections: in page order.
    """
    title = f"What Unsmear did with frame {maps.window.number} of {about.clip}"
    links = "".join(f'<a href="#{s.key}">{escape(s.heading)}</a>' for s in sections)
    notes = "".join(f'<p class="note">{escape(note)}</p>\n' for note in _notes(maps))
    glance = "".join(f"<li>{escape(line)}</li>\n" for line in findings(maps))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p>{escape(_origin(maps, about))}</p>
{notes}<nav>{links}</nav>
<h2>At a glance</h2>
<ul>
{glance}</ul>
<figure>
<div class="flip" tabindex="0">
<img src="after.png" alt="The restored frame">
<img class="over" src="before.png" alt="The original frame">
</div>
<figcaption>The restored frame. <b>How to read it:</b> hover over the image (or tap it) to see the
original frame. Separate files: <a href="before.png">before</a>,
<a href="after.png">after</a>.</figcaption>
</figure>
{"".join(map(_section, sections))}</body>
</html>
"""


def _section(section: Section) -> str:
    count = len(section.pictures)
    images = ""
    for number, file in enumerate(section.pictures, start=1):
        alt = section.alt + (f" (part {number} of {count})" if count > 1 else "")
        name = escape(file, quote=True)
        images += f'<a href="{name}"><img src="{name}" alt="{escape(alt, quote=True)}"></a>\n'
    return f"""<h2 id="{section.key}">{escape(section.heading)}</h2>
<p>{escape(section.what)}</p>
<figure>
{images}<figcaption><b>How to read it:</b> {escape(section.how)}</figcaption>
</figure>
"""


def _origin(maps: FrameMaps, about: About) -> str:
    height, width = maps.before.shape[-2:]
    window, attended = maps.window, maps.window.attended
    where = f"frame {window.number}, counted from 0"
    if window.name is not None:
        where += f" (file {window.name})"
    if window.pts is not None:
        where += f" (at {float(window.pts):.2f} s)"
    first, last = (window.first + attended[i] for i in (0, -1))
    return (
        f"{where[0].upper()}{where[1:]}, {width}x{height} pixels. Network {about.model} on "
        f"{about.device}. Window of the attention: {window.window} frames requested, "
        f"{len(attended)} available ({first} to {last})."
    )


def _notes(maps: FrameMaps) -> list[str]:
    notes = []
    if len(maps.window.attended) < maps.window.window:
        notes.append(
            "The window is shorter than requested: the clip ends or cuts to another scene here, "
            "and windows do not cross cuts."
        )
    if not maps.levels:
        notes.append("This network has no attention: only its convolutions are shown.")
    if maps.window.rotation % 360:
        notes.append(
            f"Players rotate this clip by {maps.window.rotation:g} degrees. The network sees it, "
            "and the images show it, as it is stored."
        )
    return notes


def findings(maps: FrameMaps) -> list[str]:
    """The measurements in sentences."""
    x, y = maps.field.pixel
    change = 255 * (maps.after - maps.before).abs()
    lines = [
        f"The restored frame differs from the original by {float(change.mean()):.2f} of 255 on "
        f"average, and by at most {float(change.amax()):.0f}."
    ]
    for level in maps.levels:
        lines += _level_findings(level, f"Level {level.level}: " if len(maps.levels) > 1 else "")
    shares = 100 * maps.field.shares
    own, through = float(shares[maps.window.current].sum()), float(shares[:, 1].sum())
    if shares.any():
        lines.append(
            f"The restored pixel {x},{y} (x,y; marked in the images) depends {own:.0f} % on this "
            f"frame and {100 - own:.0f} % on the others; {through:.0f} % of all influence comes "
            "through the attention."
        )
    else:
        lines.append(f"The restored pixel {x},{y} depends on nothing: the network is untrained.")
    return lines


def _level_findings(level: LevelMaps, prefix: str) -> list[str]:
    halves = [half_weight_share(weights) for weights in level.spatial.flatten(0, 1)]
    frames = level.temporal.shape[1]
    low, high = (100 * float(f) for f in (level.temporal.min(), level.temporal.max()))
    count = level.pixelwise.shape[0] * level.pixelwise.shape[1]
    return [
        f"{prefix}Of the {len(halves)} spatial maps ({level.spatial.shape[1]} per frame), "
        f"{sum(half < 0.01 for half in halves)} focus on spots (half of their weight on less than "
        f"1 % of the frame) and {sum(half >= 0.1 for half in halves)} on wide areas (on 10 % or "
        "more).",
        f"{prefix}The weights of the frames range from {low:.1f} to {high:.1f} %; equal weights "
        f"would be {100 / frames:.1f} %.",
        f"{prefix}A position of the frame mixes {float(level.effective.median()):.1f} of the "
        f"{count} elements (median).",
    ]


def change_section(pictures: Sequence[str], limit: float) -> Section:
    """Before, after, difference. `limit`: change drawn in full colour, of 255."""
    return Section(
        "change",
        "What changed",
        "The frame before and after, and the magnified difference in brightness; below, the area "
        "in the orange square, enlarged.",
        "In the right column, white areas did not change, purple ones became brighter, orange ones "
        f"darker; the most saturated colour stands for {limit:.0f} of 255 or more. Where blur is "
        "removed, thin pairs of purple and orange lines follow the edges.",
        pictures,
        "The frame before and after restoring and their magnified difference, whole and around "
        "the explained pixel",
    )


def spatial_section(pictures: Sequence[str], level: LevelMaps, *, named: bool) -> Section:
    """Weights of eq. 1 at one level. `named`: the page shows several levels."""
    count = level.spatial.shape[1]
    return Section(
        f"spatial-{level.level}",
        "Where each frame was looked at" + _of_level(level, named),
        f"Every frame is summarised by {count} descriptors, S1 to S{count}. Each is a weighted "
        "mean over the whole frame; these are its weights (eq. 1), a row for each descriptor, a "
        "column for each frame.",
        "Coloured positions weigh more than they would if all weighed the same, yellow ones a "
        "thousand times as much; grey positions weigh less. Below each map is the smallest share "
        "of the frame that has half of the weight: 50 % means uniform weights. An orange ring "
        "marks the heaviest position of maps that focus on a spot (half on less than 1 %). The "
        "same row in neighbouring frames should follow the same things.",
        pictures,
        f"{count} attention maps for each frame of the window, laid over the frames",
    )


def temporal_section(pictures: Sequence[str], level: LevelMaps, *, named: bool) -> Section:
    """Weights of eq. 3 at one level."""
    rows, frames = level.temporal.shape
    return Section(
        f"temporal-{level.level}",
        "How much each frame counted" + _of_level(level, named),
        f"The descriptors of the {frames} frames are mixed in {rows} ways, T1 to T{rows}; these "
        "are the weights of the frames (eq. 3).",
        f"Each row sums to 100 %; {100 / frames:.1f} % everywhere would mean that all frames have "
        "the same weight. Brighter frames weigh more. The bottom row is the overall result: the "
        "rows above, weighted by how much the positions of this frame took of each.",
        pictures,
        "Chart of the weight of each frame of the window, a row for each temporal map",
    )


def taken_section(pictures: Sequence[str], level: LevelMaps, *, named: bool) -> Section:
    """Weights of eq. 5 at one level."""
    count = level.pixelwise.shape[0] * level.pixelwise.shape[1]
    return Section(
        f"taken-{level.level}",
        "What each place took" + _of_level(level, named),
        f"The {count} elements (descriptor S, temporal map T) are available to every position of "
        "this frame, and each position takes its own mixture of them (eq. 5).",
        "Left, positions of one colour took most from the same element; the legend names it and "
        "the share of the frame where it came first. Right, yellow positions relied on few "
        f"elements, dark blue ones took nearly the same from all {count}: there, the colour on the "
        "left says little.",
        pictures,
        "Left, the frame coloured by the element each position took most of; right, how many "
        "elements each position mixed",
    )


def field_section(pictures: Sequence[str], maps: FrameMaps, least: float) -> Section:
    """Receptive field of one pixel. `least`: lower end of the colour scale."""
    x, y = maps.field.pixel
    return Section(
        "influence",
        "What one pixel depends on",
        f"If a pixel of one of the frames changed slightly, how much would pixel {x},{y} of the "
        "result change? (The gradient of its mean over red, green and blue with respect to every "
        "pixel of every frame, computed on whole frames.)",
        "Each step of the scale is a factor of ten, from the most influential pixel (yellow) down "
        f"to 1/{1 / least:,.0f} of it or less (darkest). The bright block around the pixel is what "
        "the convolutions see; the faint structure elsewhere comes through the attention, weakly "
        "from each pixel but from very many. The bars show the sums: blue through convolutions, "
        "orange through the attention.",
        pictures,
        "Maps of the influence of every pixel of every frame on one pixel of the result, and bars "
        "of the contribution of each frame",
    )


def _of_level(level: LevelMaps, named: bool) -> str:
    return f" (level {level.level}, 1/{level.stride} of the size)" if named else ""
