from __future__ import annotations

import pytest
from filelock import FileLock

from unsmear.errors import OutputError
from unsmear.train.claim import claimed


def test_a_folder_is_of_one_run_at_a_time(tmp_path):
    out = tmp_path / "runs" / "a"
    with claimed(out):
        with (
            pytest.raises(OutputError, match="another run is using"),
            claimed(out),
        ):
            pass
        with claimed(tmp_path / "runs" / "b"):
            pass
        (out / "state").touch()
    with claimed(out):
        pass
    assert [path.name for path in (tmp_path / "runs").rglob("*")] == ["a", "state"]


def test_where_there_are_no_locks_runs_go_on(tmp_path, monkeypatch):
    def missing(_):
        raise NotImplementedError

    monkeypatch.setattr(FileLock, "acquire", missing)
    with claimed(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
    with pytest.raises(OutputError, match=r"cannot write .*file'"):
        (tmp_path / "file").touch()
        with claimed(tmp_path / "file"):
            pass
