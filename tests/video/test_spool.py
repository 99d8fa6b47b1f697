"""Packets on disk: what is written is read, and an incomplete spool is not visible."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import disk_full
from unsmear.errors import OutputError
from unsmear.video.spool import EncodedPacket, SpoolWriter, read_spools

TICKS = st.integers(-(1 << 62), 1 << 62)
PACKETS = st.lists(
    st.builds(EncodedPacket, TICKS, TICKS, st.booleans(), st.binary(max_size=200)),
    max_size=12,
)


@given(PACKETS, PACKETS)
def test_packets_come_back_as_they_went(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("spool")
    paths = [folder / "a", folder / "b"]
    for path, packets in zip(paths, (first, second), strict=True):
        writer = SpoolWriter(path)
        writer.write(packets)
        assert not path.exists()
        writer.finish()
    assert list(read_spools(paths)) == first + second
    assert [p.pts for p in read_spools(paths, data=False)] == [p.pts for p in first + second]


def test_what_is_abandoned_is_not_there(tmp_path):
    writer = SpoolWriter(tmp_path / "a")
    writer.write([EncodedPacket(0, 0, True, b"x")])
    writer.abandon()
    assert not (tmp_path / "a").exists()


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be removed there")
def test_a_folder_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        SpoolWriter(tmp_path / "nowhere" / "a")
    (tmp_path / "f").mkdir()
    writer = SpoolWriter(tmp_path / "f" / "a")
    (tmp_path / "f" / "a.part").unlink()
    with pytest.raises(OutputError, match="cannot write"):
        writer.finish()


def test_a_full_disk_is_told_once(tmp_path, monkeypatch):
    """Closing flushes the buffer again; that error adds nothing and is suppressed."""
    writer = SpoolWriter(tmp_path / "a", tmp_path / "out.mp4")

    class Full:
        closed = False

        write = disk_full

        def close(self):
            self.closed = True
            disk_full()

    writer._file.close()
    writer._file = Full()
    with pytest.raises(OutputError, match=r"out\.mp4': No space left"):
        writer.write([EncodedPacket(0, 0, True, b"x")])
    writer.abandon()
    assert writer._file.closed
