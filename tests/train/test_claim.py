from __future__ import annotations

import pytest

from unsmear.errors import OutputError
from unsmear.outputs import NO_LOCKS
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


@pytest.mark.parametrize("code", sorted(NO_LOCKS))
def test_where_there_are_no_locks_runs_go_on(tmp_path, monkeypatch, code):
    """Also where a run was killed on another machine, whose processes cannot be asked for."""

    fcntl = pytest.importorskip("fcntl")

    def missing(*_):
        raise OSError(code, "no locks")

    monkeypatch.setattr(fcntl, "flock", missing)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("1234\nanother-machine\n")
    with claimed(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
    with pytest.raises(OutputError, match=r"cannot write .*file'"):
        (tmp_path / "file").touch()
        with claimed(tmp_path / "file"):
            pass
