"""The folder beside a result in which it grows, so that work that was broken off can go on.

A result is made in parts of some frames each. A part is visible when it is whole, and none
depends on how the run before it went; so after a crash, a kill or a power cut, what is there is
taken and the rest is made, and the result is the same to the last bit.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from unsmear.errors import OutputError, cannot_write, reading, writing
from unsmear.outputs import hidden_name, name_text
from unsmear.video.images import list_images

_JOB = "job.json"
_PUBLISHING = "publishing"
WHOLE = "whole-"  # files in which parts are put together
Fingerprint = tuple[str, int, int]  # of a file: name, bytes, when it was changed, nanoseconds


def work_path(target: Path) -> Path:
    """Where a result grows: sharp.mp4 -> .sharp.mp4.unsmear, beside it."""
    return target.with_name(hidden_name(target.name, ".unsmear"))


class WorkFolder:
    """The folder of one result. Use as a context manager: nobody else works in it meanwhile.

    Args:
        target: of the result.
        job: everything that decides the result, as plain values: input, model, settings. Parts
            that were made for another job are thrown away. Where `end` is None in that one, and in
            nothing else it differs, they stay, for `Sink.keep_before` to choose from. So they do
            where `pictures` alone are others: sinks know which a part was made of.

    Attributes:
        path: of the folder.

    Raises:
        OutputError: another run is at work here, the file system knows no locks, or the folder
            cannot be made.
    """

    def __init__(self, target: Path, job: Mapping[str, object]) -> None:
        self.path = work_path(target)
        self._target = target
        self._job = json.dumps(job, sort_keys=True, default=_plain)
        self._lock = FileLock(target.with_name(hidden_name(target.name, ".lock")), timeout=0)
        self._keep = False

    def __enter__(self) -> WorkFolder:
        try:
            self._lock.acquire()
        except Timeout:
            raise OutputError(
                f"another run is writing '{self._target}': wait for it to finish"
            ) from None
        except OSError as error:
            raise cannot_write(self._target, error) from None
        except NotImplementedError:
            self._remove_lock()
            raise OutputError(
                f"cannot write '{self._target}': its file system has no file locks, which keep two "
                "runs apart; choose an output on another file system"
            ) from None
        try:
            self._begin()
        except BaseException as error:
            self.keep()
            self._leave()
            if isinstance(error, OSError):
                raise cannot_write(self._target, error) from None
            raise
        return self

    def _begin(self) -> None:
        """What belongs to another job goes; what belongs to this one stays as it is."""
        there = self._job_there()
        if there == self._job:
            return
        if there is not None and not self.publishing and _goes_on(self._job, there):
            for whole in self.path.glob(f"{WHOLE}*"):
                whole.unlink()
            name_text(self.path / _JOB, self._job)
            return
        if self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir()
        name_text(self.path / _JOB, self._job)

    def _job_there(self) -> str | None:
        try:
            return (self.path / _JOB).read_text(encoding="utf-8")
        except OSError:
            return None

    @property
    def any_done(self) -> bool:
        """Whether there is something to take up: a whole part, or a first pass."""
        kinds = ("*.spool", "*.done", "*.safetensors")
        return any(any(self.path.glob(kind)) for kind in kinds)

    @property
    def publishing(self) -> bool:
        """Whether an earlier run of this job was broken off while its results got their names."""
        return (self.path / _PUBLISHING).exists()

    def start_publishing(self) -> None:
        """Results are whole and about to get their names.

        Raises:
            OutputError: the disk is full, or its rights say no.
        """
        with writing(self._target):
            (self.path / _PUBLISHING).touch()

    def note_untouched(self, part: int, frames: int) -> None:
        """How many frames of a part, about to be whole, are given as they came in.

        Raises:
            OutputError: the disk is full, or its rights say no.
        """
        with writing(self._target):
            name_text(self.path / f"{part}.untouched", str(frames))

    def untouched(self, parts: int) -> int:
        """How many of the first parts are, whichever run made them."""
        files = (self.path / f"{part}.untouched" for part in range(parts))
        return sum(int(file.read_text()) for file in files if file.exists())

    def keep(self) -> None:
        """Leave what is done for the next run, if anything is."""
        self._keep = self.any_done

    @property
    def kept(self) -> bool:
        """Whether something is left for the next run."""
        return self._keep

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        if not self._keep:
            shutil.rmtree(self.path, ignore_errors=True)
        # Gone before it is released: whoever comes next must not hold what others cannot find.
        self._remove_lock()
        self._lock.release()

    def _remove_lock(self) -> None:
        with contextlib.suppress(OSError):
            Path(self._lock.lock_file).unlink()


def _goes_on(job: str, other: str) -> bool:
    """Whether a job is another one up to a time, where the other goes on to the end of the clip; or
    the same with other pictures.
    """
    try:
        ours, theirs = json.loads(job), json.loads(other)
        free = {"end"} if theirs.get("end", "") is None else {"pictures"}
        free &= ours.keys() & theirs.keys()
        return ours == {**theirs, **{key: ours[key] for key in free}}
    except (ValueError, TypeError, AttributeError):  # of another version, or damaged
        return False


def _plain(value: object) -> str:
    """Only what reads the same in every process: a set, for one, does not."""
    if isinstance(value, Fraction):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a job")


def is_publishing(target: Path) -> bool:
    """Whether an earlier run was broken off while its results, all whole, got their names: one
    may have it already.
    """
    return (work_path(target) / _PUBLISHING).exists()


def fingerprints(source: Path) -> list[Fingerprint]:
    """What tells a file, or each picture of a folder, from another version of itself.

    Raises:
        InputError: one of them cannot be read.
    """
    told: list[Fingerprint] = []
    for file in list_images(source) if source.is_dir() else [source]:
        with reading(file):
            status = file.stat()
        told.append((file.name, status.st_size, status.st_mtime_ns))
    return told
