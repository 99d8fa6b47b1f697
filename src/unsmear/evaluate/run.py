"""The work of `unsmear eval`, with its arguments checked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from unsmear.data.pairs import DEFAULT_LAYOUTS, PairedSequence, find_layout, find_pairs, some_pairs
from unsmear.engines import EngineName
from unsmear.engines.choice import OpenedModel, open_model
from unsmear.errors import ConfigError, InputError, UnsmearError
from unsmear.evaluate import Pairing
from unsmear.evaluate.benchmark import Benchmark
from unsmear.evaluate.frames import Comparison, find_alone, find_comparisons, find_restored
from unsmear.evaluate.protocol import Protocol
from unsmear.evaluate.saving import check_places, keep_nothing, saved_frames
from unsmear.evaluate.scores import BenchmarkResult, MeasuredModel, SequenceResult
from unsmear.models import DEFAULT_MODEL
from unsmear.models.checkpoint import digest_of
from unsmear.models.zoo import load_polish
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.stream import Scene, Window, describe_scenes, restore_stream


@dataclass(frozen=True)
class DatasetWork:
    """Evaluation of a model on a data set. `save`: folder for the restored frames, if any."""

    title: str
    sequences: Sequence[PairedSequence]
    model: OpenedModel
    window: Window
    quality: QualityOptions
    save: Path | None = None

    @property
    def frames(self) -> int:
        """Number of frames; a protocol may count fewer."""
        return sum(len(sequence.sharp) for sequence in self.sequences)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.model.engine.device

    def run(self, benchmark: Benchmark) -> list[BenchmarkResult]:
        """Restore and measure by each protocol, see `Benchmark.run`, and save the frames, see
        `saved_frames`. When frames are saved, all sequences are restored.
        """
        engine, model = self.model.engine, self._measured()
        restorer = {**asdict(model), "engine": engine.identity, "threads": engine.threads}

        def restore(blurry: Iterable[Tensor]) -> Iterator[Tensor]:
            scenes: Sequence[Scene] = ()
            if self.window == "all":
                blurry = list(blurry)  # two passes; sequences of data sets are short
                scenes = describe_scenes(engine, blurry, ensemble=self.quality.ensemble)
            return restore_stream(engine, blurry, self.window, scenes=scenes, quality=self.quality)

        saving = nullcontext(keep_nothing) if self.save is None else saved_frames(self.save)
        with saving as keep:
            measured = benchmark.run(
                self.sequences, restore, keep, restorer=restorer if self.save is None else None
            )
        return _results(self.title, benchmark, measured, model)

    def _measured(self) -> MeasuredModel:
        quality = self.quality
        return MeasuredModel(
            name=self.model.name,
            digest=digest_of(self.model.network),
            window=self.window,
            engine=self.model.engine.name,
            device=str(self.device),
            ensemble=quality.ensemble,
            refine=quality.refine,
            burst=quality.burst,
            polish=digest_of(load_polish(told=quality.reblur)) if quality.polish else None,
            reblur=quality.reblur,
        )


@dataclass(frozen=True)
class FolderWork:
    """Evaluation of restored frames, from folders or videos, with or without other sides."""

    title: str
    comparisons: Sequence[Comparison]

    @property
    def frames(self) -> int:
        """Number of frames; a protocol may count fewer."""
        return sum(len(pair.restored) for pair in self.comparisons)

    @property
    def device(self) -> torch.device:
        """Device that computes the measures."""
        return torch.device("cpu")

    def run(self, benchmark: Benchmark) -> list[BenchmarkResult]:
        """Measure by each protocol, see `Benchmark.compare`."""
        notes = tuple(pair.note for pair in self.comparisons if pair.note is not None)
        return _results(self.title, benchmark, benchmark.compare(self.comparisons), notes=notes)


def _results(
    title: str,
    benchmark: Benchmark,
    measured: Sequence[Sequence[SequenceResult]],
    model: MeasuredModel | None = None,
    notes: tuple[str, ...] = (),
) -> list[BenchmarkResult]:
    return [
        BenchmarkResult(title, protocol, tuple(sequences), model, notes)
        for protocol, sequences in zip(benchmark.protocols, measured, strict=True)
    ]


def check_several(
    models: Sequence[str], protocols: Sequence[Protocol], *, save: Path | None, plot: Path | None
) -> None:
    """Check what several models or protocols contradict.

    Args:
        models: names or paths, as given.
        protocols: by which they are measured.
        save: folder for the restored frames, if any.
        plot: image file for the plot, if any.

    Raises:
        ConfigError: a model is given twice, also under two paths; or with several of them there is
            a plot, or frames are saved, of several models or rounded in several ways.
    """
    places = [Path(model).resolve() if _is_path(model) else model for model in models]
    if twice := [model for model, one in zip(models, places, strict=True) if places.count(one) > 1]:
        raise ConfigError(f"model '{twice[0]}' is given twice: give each once")
    if plot is not None and (len(models) > 1 or len(protocols) > 1):
        raise ConfigError("--plot shows one result: give a single --model and --protocol")
    if save is None:
        return
    if len(models) > 1:
        raise ConfigError("--save is for the frames of one model: give a single --model")
    if len({protocol.eight_bit for protocol in protocols}) > 1:
        told = ", ".join(f"{protocol.name} {protocol.eight_bit}" for protocol in protocols)
        raise ConfigError(
            f"--save writes frames as the protocol rounds them, and these differ ({told}): give "
            "protocols that round alike"
        )


def find_work(
    data: Path | None,
    restored: Path | None,
    sharp: Path | None,
    layout: str | None,
    models: Sequence[str],
    window: Window | None,
    device: str | None,
    engine: EngineName | None = None,
    quality: QualityOptions = QualityOptions(),
    *,
    no_reference: bool = False,
    save: Path | None = None,
    pair: Pairing = "name",
) -> list[DatasetWork] | list[FolderWork]:
    """Set up the evaluation of models on a data set (`data`), one after the other, or of existing
    frames (`restored`) against those of a data set (`data`) or others (`sharp`).

    Args:
        data: folder of a data set.
        restored: video, or folder of images, nested or not; with `data` see `find_restored`.
        sharp: ground truth, likewise.
        layout: layout of the data set; None: detected among `DEFAULT_LAYOUTS`.
        models: names, or paths of weights files; empty: `DEFAULT_MODEL`.
        window: number of frames that contribute to each one; None: the model's default.
        device: see `open_model`; None: `auto`.
        engine: see `open_model`; None: `torch`.
        quality: what runs around the network.
        no_reference: whether `restored` suffices, because no requested measure needs ground truth.
        save: folder for the frames that the model restores, see `check_save`.
        pair: how restored images find their counterparts, see `find_comparisons`.

    Raises:
        ConfigError: neither `data` nor `restored` is given, `sharp` with `data`, or `restored` or
            `sharp` alone; options of the model are given with `restored`, or a layout without
            `data`, or `save` without a model, or pairing by order without both sides; a model does
            not support the quality; or see `open_model`.
        InputError: no frames are found, or they cannot be paired (CombinedError: those of several
            sequences); two would be saved under one name; or the layout is unknown.
        ModelError: see `open_model`.
        MissingExtraError: see `open_model`.
    """
    enough = data is not None or (restored is not None and (sharp is not None or no_reference))
    if not enough or (data is not None and sharp is not None):
        raise ConfigError(
            "give either --data, to evaluate a model on a data set, or --restored with --data or "
            "--sharp, to measure existing frames; --niqe does not need --sharp"
        )
    if restored is not None and save is not None:
        raise ConfigError("--save is for frames that a model restores: leave out --restored")
    if pair == "order" and (restored is None or (data is None and sharp is None)):
        raise ConfigError("--pair order pairs --restored with --data or --sharp: give both sides")
    if restored is not None:
        options = (window, device, engine)
        given = models or any(option is not None for option in options)
        if given or quality != QualityOptions():
            raise ConfigError(
                "--model, --window, --device, --engine, --ensemble, --refine, --burst, --polish "
                "and --reblur are of a model that restores: leave them out with --restored"
            )
        if data is None and layout is not None:
            raise ConfigError("--layout applies to --data: leave it out with --sharp")
    if data is None:
        assert restored is not None
        pairs = find_alone(restored) if sharp is None else _compared(restored, sharp, pair)
        return [FolderWork(_short(restored), pairs)]
    sequences = some_pairs(data, DEFAULT_LAYOUTS if layout is None else (find_layout(layout),))
    where = f"on {_short(data)}" + (f" ({layout})" if layout else "")
    if restored is not None:
        found = find_restored(restored, sequences, pair)
        return [FolderWork(f"{_short(restored)} {where}", found)]
    if save is not None:
        check_places(sequences)
    works = []
    models = models or [DEFAULT_MODEL]
    for model, short in zip(models, _names_of(models), strict=True):
        loaded = open_model(model, device or "auto", engine or "torch")
        quality.check(loaded.engine)
        name = _in_words(short, loaded.engine.name, window, quality)
        chosen = loaded.window if window is None else window
        works.append(DatasetWork(f"{name} {where}", sequences, loaded, chosen, quality, save))
    return works


def _compared(restored: Path, sharp: Path, pair: Pairing) -> list[Comparison]:
    """`find_comparisons`, whose error is replaced by the remedy if `sharp` is a data set."""
    try:
        return find_comparisons(restored, sharp, pair)
    except InputError:
        found: list[PairedSequence] = []
        with suppress(UnsmearError):
            found = find_pairs(sharp)
        if not found:
            raise
        raise InputError(
            f"'{sharp}' holds blurry and sharp frames in the layout {found[0].layout}, not only a "
            f"ground truth: give --data '{sharp}' instead of --sharp"
        ) from None


def _is_path(model: str) -> bool:
    return model.endswith(".safetensors")


def _names_of(models: Sequence[str]) -> Sequence[str]:
    """Names of models for titles, all different: files as `_short` has them, or, if that does not
    tell them apart, with as much of their paths as does.
    """
    short = [_short(Path(model).with_suffix("")) if _is_path(model) else model for model in models]
    parts = [Path(model).parts for model in models]
    ends = (["/".join(one[-count:]) for one in parts] for count in range(1, max(map(len, parts))))
    apart = (names for names in (short, *ends) if len(set(names)) == len(names))
    return next(apart, models)


def _in_words(name: str, engine: str, window: Window | None, quality: QualityOptions) -> str:
    """A model as asked for: what ran around the network, then engine and window unless default."""
    options = [engine] if engine != "torch" else []
    options += [f"window {window}"] if window is not None else []
    return f"{name}, {quality.in_words()}" + (f" ({', '.join(options)})" if options else "")


def _short(path: Path) -> str:
    """The last two parts of a path as given: all training runs use one file name for their weights,
    and many data sets have a folder `test` or `val`. Only the last of an absolute path, so that
    records do not reveal the folders of a user.
    """
    parts = [part for part in Path(os.path.normpath(path)).parts if part != ".."]
    if not parts or path.is_absolute():
        return path.resolve().name
    return "/".join(parts[-2:])
