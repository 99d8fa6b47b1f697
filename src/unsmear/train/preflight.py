"""Checks of a training request before anything is loaded. All mistakes are reported together."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from unsmear.data.changes import AS_PRESET, SynthesisChanges
from unsmear.data.codec import check_codecs
from unsmear.data.pairs import PairedSequence, real_places, some_pairs
from unsmear.data.shake import read_orientation_log
from unsmear.data.sources import (
    DataRecord,
    TrainingFiles,
    find_training_files,
    load_all,
    training_record,
    validation_record,
)
from unsmear.device import check_threads, pick_device
from unsmear.errors import (
    ConfigError,
    InputError,
    Mistakes,
    ModelError,
    OutputError,
    UnsmearError,
)
from unsmear.evaluate.programs import at_least
from unsmear.models.zoo import LoadedModel, find_entry, load_model
from unsmear.train.batches import check_length, check_size
from unsmear.train.changes import AS_SCHEDULED, ScheduleChanges
from unsmear.train.config import (
    CompileChoice,
    LossName,
    PrecisionChoice,
    TrainConfig,
    check_crops,
    check_drafts,
    preset,
)
from unsmear.train.distillation import identity_of
from unsmear.train.journal import check_log
from unsmear.train.loop import check_shards
from unsmear.train.state import BEST_FILE, STATE_FILE, WEIGHTS_FILE, check_resumable
from unsmear.video.images import list_images

_USUAL_TEACHER_WEIGHT = 1.0  # the same as the truth
_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks for. None: as in the preset, or not wanted.

    Attributes:
        data: folders of training data.
        preset: its name.
        out: folder of the run; None: runs/PRESET.
        val: folder of paired sequences.
        shake: orientation logs.
        device: as `unsmear.device.pick_device` takes it.
        steps: of the whole run.
        clips: per batch, in all stages.
        frames: per clip, in all stages.
        crop: side in pixels, in all stages.
        seed: of initial weights and data.
        learning_rate: peak value.
        loss: by name.
        frequency_weight: weight of the loss on the spectrum.
        compile: see `TrainConfig`.
        precision: of convolutions.
        pair_share: share of recorded pairs.
        refine_share: share of clips whose neighbours are restored first.
        synthesis: changes to the preset's synthesis.
        schedule: changes to the preset's optimiser, schedule and reports.
        weights: to start from, a row of the zoo or a file.
        teacher: network whose results are learned from too, a row of the zoo or a file.
        teacher_weight: weight of the loss against these; None: 1, if there is a teacher.
        workers: number of processes that draw batches.
        stop_after: step to stop at.
        threads: of a CPU.
    """

    data: Sequence[Path]
    preset: str = "lite"
    out: Path | None = None
    val: Path | None = None
    shake: Sequence[Path] = ()
    device: str = "auto"
    steps: int | None = None
    clips: int | None = None
    frames: int | None = None
    crop: int | None = None
    seed: int | None = None
    learning_rate: float | None = None
    loss: LossName | None = None
    frequency_weight: float | None = None
    compile: CompileChoice | None = None
    precision: PrecisionChoice | None = None
    pair_share: float | None = None
    refine_share: float | None = None
    synthesis: SynthesisChanges = AS_PRESET
    schedule: ScheduleChanges = AS_SCHEDULED
    weights: str | None = None
    teacher: str | None = None
    teacher_weight: float | None = None
    workers: int | None = None
    stop_after: int | None = None
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request that can be carried out.

    Attributes:
        config: the preset with the wanted changes.
        files: of training data.
        data: what these and the orientation logs are, for the record.
        validation: paired sequences.
        validation_data: what these are; None: there are none.
        initial: weights to start from.
        teacher: network whose results are learned from too.
        device: where to train.
        out: folder of the run.
    """

    config: TrainConfig
    files: TrainingFiles
    data: DataRecord
    validation: Sequence[PairedSequence]
    validation_data: DataRecord | None
    initial: LoadedModel | None
    teacher: LoadedModel | None
    device: torch.device
    out: Path


def prepare(request: Request, processes: int = 1, workers: int = 1) -> Plan:
    """Check a request, and find the files that it names.

    Args:
        request: of the user.
        processes: number of processes that will share the work.
        workers: number of threads that read files.

    Raises:
        UnsmearError: something is wrong (CombinedError: several things).
    """
    mistakes = Mistakes()
    named = mistakes.attempt(lambda: preset(request.preset))
    teacher = None
    if (teaches := request.teacher) is not None:
        teacher = mistakes.attempt(lambda: load_model(teaches))
    # Without such a preset, the other options are still checked, against the default one.
    config = _config(named or preset(Request.preset), request, teacher, mistakes)
    as_asked = not mistakes.errors  # otherwise invalid changes are missing from it
    device = mistakes.attempt(lambda: pick_device(request.device, trains=True))
    files = mistakes.attempt(lambda: find_training_files(request.data))
    out = request.out or Path("runs") / request.preset
    mistakes.attempt(lambda: _check_out(out))
    logs = [mistakes.attempt(partial(read_orientation_log, log)) for log in request.shake]
    data = validation_data = None
    if files is not None and None not in logs:
        data = mistakes.attempt(lambda: training_record(files, request.data, request.shake))
    validation: list[PairedSequence] = []
    if (val := request.val) is not None:
        validation = mistakes.attempt(lambda: some_pairs(val)) or []
        mistakes.attempt(lambda: load_all(_check_first, validation, workers))
        if files is not None:
            mistakes.attempt(lambda: _check_apart(files, validation))
        validation_data = mistakes.attempt(lambda: validation_record(validation, val))
    initial = None
    if (weights := request.weights) is not None:
        initial = mistakes.attempt(lambda: load_model(weights))
    begins = not (out / STATE_FILE).is_file()
    for option, model in (("--weights", initial if begins else None), ("--teacher", teacher)):
        if model is not None:
            mistakes.attempt(partial(check_kept, option, model.weights, out))
    if (threads := request.threads) is not None:
        mistakes.attempt(lambda: check_threads(threads))
    mistakes.attempt(lambda: at_least(1, stop_after=request.stop_after))
    mistakes.attempt(lambda: at_least(0, workers=request.workers))
    mistakes.attempt(check_log)
    if config.synthesis.coder_share and (files is None or files.photographs or files.clips):
        mistakes.attempt(check_codecs)
    if device is not None:
        mistakes.attempt(lambda: check_compiler(config.compile, device))
    if named is not None:
        _check_fit(config, files, initial, processes, workers, mistakes)
    if named is not None and not begins:
        asked = config if as_asked else None
        mistakes.attempt(lambda: check_resumable(out / STATE_FILE, asked, initial, data))
    mistakes.tell()
    assert device is not None
    assert files is not None
    assert data is not None
    return Plan(
        config=config,
        files=files,
        data=data,
        validation=validation,
        validation_data=validation_data,
        initial=initial,
        teacher=teacher,
        device=device,
        out=out,
    )


def _config(
    config: TrainConfig, request: Request, teacher: LoadedModel | None, mistakes: Mistakes
) -> TrainConfig:
    """The preset with the wanted changes that are valid."""
    start = config
    if (steps := request.steps) is not None:
        start = mistakes.attempt(lambda: config.scaled_to(steps)) or config
    batch = (request.clips, request.frames, request.crop)
    start = mistakes.attempt(lambda: start.with_batches(*batch)) or start
    start = mistakes.attempt(lambda: request.schedule.applied_to(start)) or start
    synthesis = mistakes.attempt(lambda: request.synthesis.applied_to(config.synthesis))
    start = dataclasses.replace(start, synthesis=synthesis or config.synthesis)
    changes = _wanted(
        request,
        "seed",
        "learning_rate",
        "loss",
        "frequency_weight",
        "compile",
        "precision",
        "pair_share",
        "refine_share",
    )
    if request.teacher is not None:
        # A teacher that cannot be loaded is already reported; its weight may be wrong too.
        name = request.teacher if teacher is None else identity_of(teacher)
        changes |= {"teacher": name, "teacher_weight": _USUAL_TEACHER_WEIGHT}
    changes |= _wanted(request, "teacher_weight")
    return mistakes.attempt(lambda: dataclasses.replace(start, **changes)) or start


def _wanted(request: Request, *names: str) -> dict[str, Any]:
    """The values, of these names, that the user has set."""
    values = {name: getattr(request, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _check_fit(
    config: TrainConfig,
    files: TrainingFiles | None,
    initial: LoadedModel | None,
    processes: int,
    workers: int,
    mistakes: Mistakes,
) -> None:
    """Check that the files found fit the configuration of the preset."""
    shape = find_entry(config.model).config
    if initial is not None and not shape.can_start_from(initial.network.config):
        mistakes.add(
            ModelError(
                f"the weights '{initial.name}' belong to another network than '{config.model}', "
                "which the preset trains"
            )
        )
    mistakes.attempt(lambda: check_crops(config, shape, config.model))
    mistakes.attempt(lambda: check_drafts(config, shape))
    mistakes.attempt(lambda: check_shards(config, processes))
    if files is not None:
        for error in unfit_pairs(files.pairs, config, workers):
            mistakes.add(error)


def unfit_pairs(
    pairs: Sequence[PairedSequence], config: TrainConfig, workers: int
) -> list[UnsmearError]:
    """Errors for sequences that are too short or too small for the stages of a configuration. Their
    first frames are decoded.
    """
    frames = max(stage.frames for stage in config.stages)
    crop = max(stage.crop for stage in config.stages)

    def check(pair: PairedSequence) -> None:
        check_length(pair, frames)
        check_size(pair, *pair.read(0, 1), crop)

    mistakes = Mistakes()
    mistakes.attempt(lambda: load_all(check, pairs, workers))
    return mistakes.errors


def check_compiler(choice: CompileChoice, device: torch.device) -> None:
    """Check that what `compile` needs is installed.

    Raises:
        ConfigError: torch.compile lacks a C++ compiler (CPU) or Triton (CUDA), or CUDA graphs lack
            a CUDA GPU.
    """
    if choice == "graph" and device.type != "cuda":
        raise ConfigError(
            f"compile is 'graph' on {device}: CUDA graphs need a CUDA GPU; use 'auto'"
        )
    if choice != "on":
        return
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise ConfigError(
            "compile is 'on', but Triton is missing: pip install triton, or use 'off'"
        )
    compilers = (os.environ.get("CXX", "g++"), "clang++", "cl")
    if device.type == "cpu" and not any(shutil.which(name) for name in compilers):
        raise ConfigError(
            "compile is 'on', but there is no C++ compiler: install g++, or use 'off'"
        )


def _check_first(pair: PairedSequence) -> None:
    """Raise InputError if the first frames of a sequence cannot be read, or differ in size."""
    blurry, sharp = pair.read(0, 1)
    if blurry.shape != sharp.shape:
        sizes = " and ".join(f"{side.shape[-1]}x{side.shape[-2]}" for side in (blurry, sharp))
        raise InputError(
            f"sequence '{pair.name}' of --val has blurry and sharp frames of {sizes}: both must "
            "have the same size"
        )


def _check_apart(files: TrainingFiles, validation: Sequence[PairedSequence]) -> None:
    """Raise ConfigError if frames of the validation set are among the training data."""
    folders = (clip for clip in files.clips if clip.is_dir())
    clips = (frame for folder in folders for frame in list_images(folder))
    pairs = (frame for pair in files.pairs for frame in pair.sharp)
    learned = set(real_places((*files.photographs, *clips, *pairs)))
    common = [pair for pair in validation if not learned.isdisjoint(real_places(pair.sharp))]
    if common:
        named = ", ".join(f"'{pair.sharp[0].parent}'" for pair in common[:_MOST_NAMED])
        more = f" and {len(common) - _MOST_NAMED} more" if len(common) > _MOST_NAMED else ""
        raise ConfigError(
            f"--data contains frames of the validation set, {named}{more}: remove them from "
            "--data, or choose another --val"
        )


def check_kept(option: str, weights: Path | None, out: Path) -> None:
    """Raise OutputError if a run would overwrite the weights that it starts or learns from."""
    if weights is None:
        return
    for written in (out / WEIGHTS_FILE, out / BEST_FILE):
        if written.exists() and weights.samefile(written):
            raise OutputError(
                f"the run would overwrite '{written}' of {option}: choose another --out"
            )


def _check_out(out: Path) -> None:
    """Check that a run's folder exists or can be created."""
    whole = out.absolute()
    there = next((folder for folder in (out, *whole.parents) if folder.exists()), None)
    if there is None:  # a drive of Windows
        raise OutputError(f"cannot write to '{out}': no '{whole.anchor}'; choose another --out")
    if not there.is_dir():
        raise OutputError(f"cannot write to '{out}': '{there}' is a file; choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to '{out}': no permission to write to '{there}'")
