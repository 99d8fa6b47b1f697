"""The page that shows all pictures of a frame, each with how to read it. Plain HTML: no script,
no network, links to files beside it.
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
        device: where it ran.
    """

    clip: str
    model: str
    device: str


@dataclass(frozen=True)
class Section:
    """A heading and pictures of one kind.

    Attributes:
        key: of the section in the page, to be linked to.
        heading: short.
        what: what is shown, a sentence or two.
        how: how to read it.
        pictures: names of files beside the page.
        alt: what they show, for those who do not see them.
    """

    key: str
    heading: str
    what: str
    how: str
    pictures: Sequence[str]
    alt: str


def render_page(maps: FrameMaps, about: About, sections: Sequence[Section]) -> str:
    """The whole page. Expects `before.png` and `after.png` beside it.

    Args:
        maps: what was measured.
        about: where it comes from.
        sections: in the order of the page.
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
<img src="after.png" alt="The frame after restoring">
<img class="over" src="before.png" alt="The frame before restoring">
</div>
<figcaption>The frame after restoring. <b>How to read it:</b> point at the picture (or tap it) and
it shows the frame before. Single files: <a href="before.png">before</a>,
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
        f"{about.device}. Window of the attention: {window.window} frames asked for, "
        f"{len(attended)} there ({first} to {last})."
    )


def _notes(maps: FrameMaps) -> list[str]:
    notes = []
    if len(maps.window.attended) < maps.window.window:
        notes.append(
            "The window is shorter than asked for: the clip ends or cuts to another scene here, "
            "and scenes are never mixed."
        )
    if not maps.levels:
        notes.append("This network has no attention: only its convolutions are shown.")
    if maps.window.rotation % 360:
        notes.append(
            f"Players turn this clip by {maps.window.rotation:g} degrees. The network sees it, and "
            "the pictures show it, as it is stored."
        )
    return notes


def findings(maps: FrameMaps) -> list[str]:
    """What was measured, in sentences."""
    x, y = maps.field.pixel
    change = 255 * (maps.after - maps.before).abs()
    lines = [
        f"The result differs from the frame by {float(change.mean()):.2f} of 255 on average, and "
        f"by {float(change.amax()):.0f} at most."
    ]
    for level in maps.levels:
        lines += _level_findings(level, f"Level {level.level}: " if len(maps.levels) > 1 else "")
    shares = 100 * maps.field.shares
    own, through = float(shares[maps.window.current].sum()), float(shares[:, 1].sum())
    if shares.any():
        lines.append(
            f"What pixel {x},{y} (x,y; marked in the pictures) became depends to {own:.0f} % on "
            f"this frame and to {100 - own:.0f} % on the others; {through:.0f} % of all influence "
            "comes through the attention."
        )
    else:
        lines.append(f"What pixel {x},{y} became depends on nothing: the network is untrained.")
    return lines


def _level_findings(level: LevelMaps, prefix: str) -> list[str]:
    halves = [half_weight_share(weights) for weights in level.spatial.flatten(0, 1)]
    frames = level.temporal.shape[1]
    low, high = (100 * float(f) for f in (level.temporal.min(), level.temporal.max()))
    count = level.pixelwise.shape[0] * level.pixelwise.shape[1]
    return [
        f"{prefix}Of the {len(halves)} spatial maps ({level.spatial.shape[1]} a frame), "
        f"{sum(half < 0.01 for half in halves)} look at spots (half their weight on less than "
        f"1 % of the frame), {sum(half >= 0.1 for half in halves)} over wide areas (on 10 % or "
        "more).",
        f"{prefix}Frames weigh from {low:.1f} to {high:.1f} %; all alike would be "
        f"{100 / frames:.1f} %.",
        f"{prefix}A place of the frame mixes {float(level.effective.median()):.1f} of the "
        f"{count} elements (median).",
    ]


def change_section(pictures: Sequence[str], limit: float) -> Section:
    """Before, after, difference; the limit is the change drawn in full colour, of 255."""
    return Section(
        "change",
        "What changed",
        "The frame before and after, and the difference of brightness, magnified; below, the "
        "part in the orange square, enlarged.",
        "In the right column white places stayed as they were, purple ones became brighter, "
        f"orange ones darker; the fullest colour stands for {limit:.0f} of 255 or more. Where "
        "blur is removed, thin pairs of purple and orange lines follow the edges.",
        pictures,
        "The frame before and after restoring and their magnified difference, whole and around "
        "the pixel that is explained",
    )


def spatial_section(pictures: Sequence[str], level: LevelMaps, *, named: bool) -> Section:
    """Eq. 1 of a level; `named` where the page shows several levels."""
    count = level.spatial.shape[1]
    return Section(
        f"spatial-{level.level}",
        "Where each frame was looked at" + _of_level(level, named),
        f"Every frame is summed up in {count} short descriptions, S1 to S{count}. Each is a "
        "weighted mean over the whole frame; these are its weights (eq. 1), a row for each "
        "description, a column for each frame.",
        "Coloured places count more than they would if all counted alike, yellow ones a thousand "
        "times as much; grey places count less. Below each picture stands on how little of the "
        "frame half the weight lies: 50 % would be everywhere alike. An orange ring marks the "
        "heaviest place of maps that look at a spot (half on less than 1 %). The same row in "
        "neighbouring frames should follow the same things.",
        pictures,
        f"{count} attention maps for each frame of the window, laid over the frames",
    )


def temporal_section(pictures: Sequence[str], level: LevelMaps, *, named: bool) -> Section:
    """Eq. 3 of a level."""
    rows, frames = level.temporal.shape
    return Section(
        f"temporal-{level.level}",
        "How much each frame counted" + _of_level(level, named),
        f"The descriptions of the {frames} frames are mixed in {rows} ways, T1 to T{rows}; these "
        "are the weights of the frames (eq. 3).",
        f"Each row sums to 100 %; {100 / frames:.1f} % everywhere would mean that all frames "
        "count alike. Brighter frames count more. The row below is what arrived: the rows "
        "above, weighed by how much the places of this frame took of each.",
        pictures,
        "Chart of the weight of each frame of the window, a row for each temporal map",
    )


def taken_section(pictures: Sequence[str], level: LevelMaps, *, named: bool) -> Section:
    """Eq. 5 of a level."""
    count = level.pixelwise.shape[0] * level.pixelwise.shape[1]
    return Section(
        f"taken-{level.level}",
        "What each place took" + _of_level(level, named),
        f"The {count} mixtures (S description, T way of mixing) are offered to every place of "
        "this frame, and each takes its own blend of them (eq. 5).",
        "Left, places of one colour took most from the same mixture; the legend names it and "
        "says on how much of the frame it came first. Right, yellow places relied on few "
        f"mixtures, dark blue ones took nearly all {count} alike: there, the colour on the left "
        "says little.",
        pictures,
        "Left, the frame coloured by the context element each place took most of; right, how "
        "many elements each place mixed",
    )


def field_section(pictures: Sequence[str], maps: FrameMaps, least: float) -> Section:
    """Receptive field; `least` is the end of the scale."""
    x, y = maps.field.pixel
    return Section(
        "influence",
        "What one pixel depends on",
        f"If a number in one of the frames were a little different, how much would pixel {x},{y} "
        "of the result differ? (The gradient of its mean over red, green and blue, taken by "
        "every pixel of every frame; computed on whole frames.)",
        "Each step on the scale is ten times less, from the most influential pixel of all "
        f"(yellow) to a {1 / least:,.0f}th of it or less (darkest). The bright block around the "
        "pixel is what convolutions see; the faint picture everywhere else came through the "
        "attention, single pixels weakly but very many of them. The bars add all up: blue "
        "through convolutions, orange through the attention.",
        pictures,
        "Maps of the influence of every pixel of every frame on one pixel of the result, and "
        "bars of what each frame contributes",
    )


def _of_level(level: LevelMaps, named: bool) -> str:
    return f" (level {level.level}, 1/{level.stride} of the size)" if named else ""
