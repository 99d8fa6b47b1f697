"""Pairs of blurry and sharp frames, for validation and for training on published sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from unsmear.errors import ConfigError, InputError, Mistakes
from unsmear.video.images import eight_bit, list_images, paths_below, read_image


@dataclass(frozen=True)
class PairLayout:
    """How a published set lays out blurry and sharp frames.

    Attributes:
        name: as users type it.
        blurry: folder of a sequence's blurry frames, relative to the sequence. If `split` is set,
            suffix of the folder that holds all blurry sequences.
        sharp: same for sharp frames.
        split: blurry and sharp sequences lie in two trees (`val_blur/000`, `val_sharp/000`)
            rather than in one (`000/blur`, `000/sharp`).
        flat: the frames of all sequences lie in one folder, as SEQUENCE-NUMBER. The numbering
            within a sequence may have any start and any gaps.
    """

    name: str
    blurry: str
    sharp: str
    split: bool = False
    flat: bool = False


PAIR_LAYOUTS = [
    PairLayout("gopro", "blur", "sharp"),
    PairLayout("gopro-gamma", "blur_gamma", "sharp"),
    PairLayout("gopro-flat", "input", "target", flat=True),  # as MPRNet and NAFNet have it
    PairLayout("dvd", "input", "GT"),
    PairLayout("bsd", "Blur/RGB", "Sharp/RGB"),
    PairLayout("reds", "_blur", "_sharp", split=True),
    PairLayout("vrt", "_GT_blurred", "_GT", split=True),  # GOPRO and DVD as VRT and KAIR have them
    PairLayout("cdvd", "blur", "gt", split=True),  # the same as CDVD-TSP, DSTNet and Shift-Net do
]
# By default GOPRO means its `blur`: `blur_gamma` shows the same scenes.
DEFAULT_LAYOUTS = [layout for layout in PAIR_LAYOUTS if layout.name != "gopro-gamma"]


def add_layout(layout: PairLayout) -> None:
    """Add a layout of a program's own, to be found in training, validation and evaluation. Adding
    the same one again changes nothing.

    Raises:
        ConfigError: another layout has its name.
    """
    for known in PAIR_LAYOUTS:
        if known == layout:
            return
        if known.name == layout.name:
            raise ConfigError(
                f"layout '{layout.name}' is already there, as {known}: choose another name"
            )
    PAIR_LAYOUTS.append(layout)
    DEFAULT_LAYOUTS.append(layout)


_Source = TypeVar("_Source")
_NamedSides = tuple[str, tuple[tuple[Path, ...], tuple[Path, ...]]]
_DIGITS = "0123456789"


@dataclass(frozen=True)
class PairedSequence:
    """A blurry clip and its sharp counterpart, as files.

    Attributes:
        name: of the sequence, relative to the data set.
        blurry: files in order.
        sharp: files of the same names, apart from their suffixes.
        layout: name of the layout by which it was found, if any.
    """

    name: str
    blurry: tuple[Path, ...]
    sharp: tuple[Path, ...]
    layout: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, the blurry ones first."""
        return *self.blurry, *self.sharp

    def read(
        self, start: int = 0, count: int | None = None, *, workers: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Blurry and sharp frames from `start`, each (T, 3, H, W) uint8; 16-bit files are rounded.

        Args:
            start: first frame.
            count: T; default: all that follow.
            workers: number of decoding threads.

        Raises:
            InputError: a file cannot be read, or sizes differ.
        """
        stop = len(self.blurry) if count is None else start + count
        paths = self.blurry[start:stop] + self.sharp[start:stop]
        with ThreadPoolExecutor(workers) as pool:  # OpenCV releases the GIL while it decodes
            images = list(pool.map(read_image, paths))
        half = len(paths) // 2
        blurry, sharp = (
            torch.stack([*uniform_frames(paths[side], images[side])])
            for side in (slice(half), slice(half, None))
        )
        return blurry, sharp


def uniform_frames(
    paths: Sequence[Path], images: Iterable[Tensor] | None = None
) -> Iterator[Tensor]:
    """Frames of one sequence, which have one size: (3, H, W) uint8; 16-bit files are rounded.

    Args:
        paths: image files.
        images: what they hold; None: they are read one by one.

    Raises:
        InputError: a file cannot be read, or sizes differ.
    """
    first: Tensor | None = None
    images = map(read_image, paths) if images is None else images
    for path, image in zip(paths, images, strict=True):
        first = image if first is None else first
        if image.shape != first.shape:
            sizes = [f"{size[-1]}x{size[-2]}" for size in (image.shape, first.shape)]
            raise InputError(
                f"'{path}' is {sizes[0]}, but the first frame of its sequence, '{paths[0].name}', "
                f"is {sizes[1]}: all must have the same size; resize or remove it"
            )
        yield eight_bit(image)


def find_layout(name: str) -> PairLayout:
    """A layout by name.

    Raises:
        InputError: no layout has that name.
    """
    for layout in PAIR_LAYOUTS:
        if layout.name == name:
            return layout
    raise InputError(
        f"unknown layout '{name}': must be one of "
        f"{', '.join(layout.name for layout in PAIR_LAYOUTS)}"
    )


def find_pairs(root: Path, layouts: Sequence[PairLayout] = DEFAULT_LAYOUTS) -> list[PairedSequence]:
    """All sequences of blurry and sharp frames below a folder. Each counts once, however many links
    lead to it.

    Raises:
        InputError: the two folders of a sequence hold different file names, apart from suffixes
            (CombinedError: several sequences).
    """
    root = named(root)
    pairs = pairs_among(paths_below(root), root, layouts)
    return list(unrepeated(pairs, [pair.blurry[0] for pair in pairs]))


def some_pairs(root: Path, layouts: Sequence[PairLayout] = DEFAULT_LAYOUTS) -> list[PairedSequence]:
    """`find_pairs`, at least one.

    Raises:
        InputError: there are none, or see `find_pairs`.
    """
    if not root.is_dir():
        raise InputError(f"'{root}' is not a folder: give one that holds paired sequences")
    if found := find_pairs(root, layouts):
        return found
    first, names = layouts[0], ", ".join(layout.name for layout in layouts)
    sides = (f"NAME{'' if first.split else '/'}{side}" for side in (first.blurry, first.sharp))
    raise InputError(
        f"no paired sequences found below '{root}': expected folders such as {' and '.join(sides)} "
        f"(layouts: {names})"
    )


def named(folder: Path) -> Path:
    """A folder by its own name and that of the folder above, by which layouts are recognised: `.`
    and `..` say nothing.
    """
    if folder.name in ("", ".."):
        return folder.resolve()
    above = folder.parent
    return above.resolve() / folder.name if above.name in ("", "..") else folder


def real_places(paths: Iterable[Path]) -> list[Path]:
    """Paths with the links in their folders resolved. Only folders are looked up: they are few."""
    folders: dict[Path, Path] = {}
    places = []
    for path in paths:
        if path.parent not in folders:
            folders[path.parent] = path.parent.resolve()
        places.append(folders[path.parent] / path.name)
    return places


def unrepeated(sources: Sequence[_Source], paths: Sequence[Path]) -> tuple[_Source, ...]:
    """Sources without duplicates: of those with the same real path, the first.

    Args:
        sources: anything.
        paths: the path of each source.
    """
    kept: dict[Path, _Source] = {}
    for place, source in zip(real_places(paths), sources, strict=True):
        kept.setdefault(place, source)
    return tuple(kept.values())


def pairs_among(
    below: Sequence[Path], root: Path, layouts: Sequence[PairLayout] = DEFAULT_LAYOUTS
) -> list[PairedSequence]:
    """`find_pairs` for paths below the folder (`named`) that are already known, since walking
    through a large set takes a while. Sequences that several links lead to are not deduplicated.
    """
    found: list[PairedSequence] = []
    mistakes = Mistakes()
    for layout in layouts:
        for blurry_folder, sharp_folder, sequence in _folders([root, *below], layout):
            blurry, sharp = list_images(blurry_folder), list_images(sharp_folder)
            if stems(blurry) != stems(sharp):
                mistakes.add(names_differ((blurry_folder, blurry), (sharp_folder, sharp)))
            elif blurry:
                parts = list(_sequences(blurry, sharp, layout))
                if layout.flat:
                    mistakes.attempt(partial(_check_numbered, parts))
                found += (
                    PairedSequence(_name_of(root, sequence / name), *files, layout.name)
                    for name, files in parts
                )
    mistakes.tell()
    return found


def stems(paths: Iterable[Path]) -> list[str]:
    """Names without suffixes, by which files of two folders are paired."""
    return [path.stem for path in paths]


def names_differ(
    first: tuple[Path, Sequence[Path]], second: tuple[Path, Sequence[Path]]
) -> InputError:
    """The error for two folders whose files should have the same names, apart from their suffixes.
    It names the first file on each side without a counterpart.

    Args:
        first: a folder and its files.
        second: same.
    """
    (folder, files), (other, others) = first, second
    alone = [_first_alone(*sides) for sides in ((files, others), (others, files))]
    told = " and ".join(f"'{path}'" for path in alone if path is not None)
    remedy = f"; without a counterpart: {told}; add files, or remove these" if told else ""
    return InputError(
        f"'{folder}' and '{other}' must contain frames with the same names; they contain "
        f"{len(files)} and {len(others)}{remedy}"
    )


def _first_alone(files: Sequence[Path], others: Sequence[Path]) -> Path | None:
    left = Counter(stems(others))
    for path in files:
        if not left[path.stem]:
            return path
        left[path.stem] -= 1
    return None


def _name_of(root: Path, sequence: Path) -> str:
    """Name of a sequence: its path below the root; its own name if it is the root, or holds it, as
    where the root is `Blur`.
    """
    if sequence != root and sequence.is_relative_to(root):
        return sequence.relative_to(root).as_posix()
    return sequence.resolve().name


def _check_numbered(sequences: Sequence[_NamedSides]) -> None:
    """Raise InputError if names in a flat folder differ in more than a number at their end, as
    those of unrelated images do (HIDE): such frames do not follow each other.
    """
    for _, (blurry, _) in sequences:
        first = blurry[0]
        for path in blurry:
            if path.stem.rstrip(_DIGITS) != first.stem.rstrip(_DIGITS):
                raise InputError(
                    f"cannot tell whether '{first.name}' and '{path.name}' in '{first.parent}' "
                    "follow each other: name frames SEQUENCE-NUMBER, such as "
                    "'GOPR0372-000001.png', or remove the folder"
                )


def _sequences(
    blurry: Sequence[Path], sharp: Sequence[Path], layout: PairLayout
) -> Iterator[_NamedSides]:
    """Frames of a pair of folders, by name below the sequence's folder."""
    if not layout.flat:
        yield "", (tuple(blurry), tuple(sharp))
        return
    both = zip(blurry, sharp, strict=True)
    for name, frames in groupby(both, lambda pair: pair[0].stem.rpartition("-")[0]):
        first, second = zip(*frames, strict=True)
        yield name, (first, second)


def _folders(paths: Sequence[Path], layout: PairLayout) -> list[tuple[Path, Path, Path]]:
    """Triples of blurry folder, sharp folder and sequence folder (which gives the name)."""
    candidates = []
    pattern = f"*{layout.blurry}/*" if layout.split else layout.blurry
    for blurry in (path for path in paths if path.match(pattern)):
        if layout.split:
            tree = blurry.parent.name.removesuffix(layout.blurry) + layout.sharp
            candidates.append((blurry, blurry.parent.with_name(tree) / blurry.name, blurry))
        else:
            sequence = blurry.parents[layout.blurry.count("/")]
            candidates.append((blurry, sequence / layout.sharp, sequence))
    return [found for found in candidates if found[0].is_dir() and found[1].is_dir()]
