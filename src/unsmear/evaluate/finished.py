"""Results of finished sequences, kept beside a report until it is written, from which an
interrupted evaluation is resumed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unsmear.errors import InputError
from unsmear.evaluate.records import finite, record_as_json, record_from_json
from unsmear.evaluate.scores import SequenceResults
from unsmear.outputs import hidden_name, telling_of, write_text


@dataclass
class _Kept:
    """What the file holds: results, by a digest of all that determines them."""

    sequences: dict[str, SequenceResults] = field(default_factory=dict)


def finished_path(report: Path) -> Path:
    """The file of finished sequences: scores.json -> .scores.json.unsmear, beside it."""
    return report.with_name(hidden_name(report.name, ".unsmear"))


class FinishedSequences:
    """Finished sequences of an evaluation, in a hidden file beside its report.

    Args:
        report: the report; None, or a device such as /dev/stdout: nothing is kept.

    Attributes:
        reused: number of sequences found, each counted once for each model.
        added: number of sequences added.
    """

    def __init__(self, report: Path | None) -> None:
        device = report is not None and report.exists() and not report.is_file()
        self._report = None if device else report
        self._found = _Kept() if self._report is None else _read(finished_path(self._report))
        self.reused = self.added = 0

    def find(self, job: Mapping[str, object]) -> SequenceResults | None:
        """The results of a sequence, if an earlier run finished it.

        Args:
            job: everything that determines the results, as plain values.
        """
        results = self._found.sequences.get(_digest(job))
        self.reused += results is not None
        return results

    def add(self, job: Mapping[str, object], results: SequenceResults) -> None:
        """Keep the results of a sequence for the next run.

        Raises:
            OutputError: the disk is full, or permission is missing.
        """
        if self._report is None:
            return
        self._found.sequences[_digest(job)] = results
        self.added += 1
        path = finished_path(self._report)
        with telling_of(self._report, path):
            write_text(path, record_as_json(self._found))

    def forget(self) -> None:
        """Delete the file, once the report is written."""
        if self._report is not None:
            finished_path(self._report).unlink(missing_ok=True)


def _digest(job: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(finite(job), sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> _Kept:
    """What the file holds: nothing if there is none, or if another version wrote it."""
    try:
        return record_from_json(_Kept, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, InputError):
        return _Kept()
