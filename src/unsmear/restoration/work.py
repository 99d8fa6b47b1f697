"""The work folder: a hidden folder beside a result, from which an interrupted run is resumed.

A result is made in parts of some frames each. A part appears only when it is complete, and does not
depend on where a run began. So after a crash, a kill or a power cut, the complete parts are reused
and the others restored; on a CPU the result is bit-exact with that of an uninterrupted run.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from filelock import FileLock, Timeout

from unsmear.errors import OutputError, cannot_write, reading, writing
from unsmear.outputs import NO_LOCKS, commit_text, hidden_name
from unsmear.restoration.integers import as_integer
from unsmear.video.images import list_images

_JOB = "job.json"
_PUBLISHING = "publishing"
WHOLE = "whole-"  # prefix of files assembled from all parts
Fingerprint = tuple[str, int, int]  # of a file: name, bytes, time of modification in ns


def work_path(target: Path) -> Path:
    """The work folder of a result: sharp.mp4 -> .sharp.mp4.unsmear, beside it."""
    return target.with_name(hidden_name(target.name, ".unsmear"))


class WorkFolder:
    """The work folder of one result. Use as a context manager: it is locked meanwhile, and deleted
    on exit unless `keep` was called and anything was done.

    Args:
        target: path of the result.
        job: everything that determines the result, as plain values: input, model, settings. Parts
            of another job are deleted, with two exceptions. If only `end` differs and was None
            before, `Sink.keep_before` selects from them. If only `images` differ, the sinks know
            which parts are still valid.

    Attributes:
        path: of the folder.
        kept: whether the folder will stay for the next run.
        continued: whether parts of another job, one of these exceptions, were kept.
        discarded: whether parts of another job were deleted.

    Raises:
        OutputError: another run holds the lock, the file system has no locks, or the folder cannot
            be created.
    """

    def __init__(self, target: Path, job: Mapping[str, object]) -> None:
        self.path = work_path(target)
        self._target = target
        self._job = json.dumps(job, sort_keys=True, default=_plain)
        lock = target.with_name(hidden_name(target.name, ".lock"))
        self._lock = FileLock(lock, timeout=0, fallback_to_soft=False)
        self.kept = self.continued = self.discarded = False

    def __enter__(self) -> WorkFolder:
        try:
            self._lock.acquire()
        except Timeout:
            raise OutputError(
                f"another run is writing '{self._target}': wait for it to finish"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise cannot_write(self._target, error) from None
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
        """Delete what belongs to another job; keep what belongs to this one."""
        there = self._stored_job()
        if there == self._job:
            return
        if there is not None and not self.publishing and _can_continue(self._job, there):
            for whole in self.path.glob(f"{WHOLE}*"):
                whole.unlink()
            self.continued = True
        else:
            self.discarded = there is not None and self._holds_work()
            if self.path.exists():
                self._forget_job()
                shutil.rmtree(self.path)
            self.path.mkdir()
        commit_text(self.path / _JOB, self._job)

    def _forget_job(self) -> None:
        """Call this before the folder is deleted: if that is interrupted, no later run then takes
        what is left for complete parts.
        """
        for name in (_PUBLISHING, _JOB):
            (self.path / name).unlink(missing_ok=True)

    def _stored_job(self) -> str | None:
        try:
            return (self.path / _JOB).read_text(encoding="utf-8")
        except OSError:
            return None

    @property
    def publishing(self) -> bool:
        """Whether an earlier run of this job was interrupted while its results got their names."""
        return (self.path / _PUBLISHING).exists()

    def start_publishing(self) -> None:
        """Note that the results are complete and about to get their names.

        Raises:
            OutputError: the disk is full, or permission is missing.
        """
        with writing(self._target):
            (self.path / _PUBLISHING).touch()

    def note_untouched(self, part: int, frames: int) -> None:
        """Note how many frames of a part that is about to be complete were left unchanged.

        Raises:
            OutputError: the disk is full, or permission is missing.
        """
        with writing(self._target):
            commit_text(self.path / f"{part}.untouched", str(frames))

    def untouched(self, parts: int) -> int:
        """Number of unchanged frames in the first `parts` parts, whichever run made them."""
        files = (self.path / f"{part}.untouched" for part in range(parts))
        return sum(int(file.read_text()) for file in files if file.exists())

    def keep(self) -> None:
        """Keep the folder on exit, if it holds anything to resume from."""
        self.kept = self._holds_work()

    def _holds_work(self) -> bool:
        """Whether the folder holds a complete part, or a first pass."""
        kinds = ("*.spool", "*.done", "*.safetensors")
        return any(any(self.path.glob(kind)) for kind in kinds)

    def __exit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        try:
            if not self.kept:
                with contextlib.suppress(OSError):
                    self._forget_job()
                shutil.rmtree(self.path, ignore_errors=True)
        finally:
            # Delete the file before releasing the lock: otherwise the next run could lock a file
            # that is then deleted, and a third run would lock a new one.
            self._remove_lock()
            self._lock.release()

    def _remove_lock(self) -> None:
        with contextlib.suppress(OSError):
            Path(self._lock.lock_file).unlink()


def _can_continue(job: str, other: str) -> bool:
    """Whether parts of the other job can be used: it has no `end` where this one has, or it differs
    only in `images`.
    """
    try:
        ours, theirs = json.loads(job), json.loads(other)
        free = {"end"} if theirs.get("end", "") is None else {"images"}
        free &= ours.keys() & theirs.keys()
        return ours == {**theirs, **{key: ours[key] for key in free}}
    except (ValueError, TypeError, AttributeError):  # of another version, or damaged
        return False


def _plain(value: object) -> str | int:
    """Serialise a Fraction or an integer of numpy. Other types are refused: the text of a set, for
    one, may differ between processes.
    """
    if isinstance(value, Fraction):
        return str(value)
    if (number := as_integer(value)) is not None:
        return number
    raise TypeError(f"{type(value).__name__} has no place in a job")


def is_publishing(target: Path) -> bool:
    """Whether an earlier run was interrupted while its results, all complete, got their names. Some
    may have theirs already.
    """
    return (work_path(target) / _PUBLISHING).exists()


def fingerprints(source: Path) -> list[Fingerprint]:
    """Fingerprints of a file, or of each image in a folder, which change when a file is changed.

    Raises:
        InputError: one of them cannot be read.
    """
    found: list[Fingerprint] = []
    for file in list_images(source) if source.is_dir() else [source]:
        with reading(file):
            status = file.stat()
        found.append((file.name, status.st_size, status.st_mtime_ns))
    return found
