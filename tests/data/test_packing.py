from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unsmear.data import packing
from unsmear.data.packing import pack, pack_shots, share, unpack, unpack_shots
from unsmear.data.sources import Shot
from unsmear.errors import UnsmearError

SIZES = st.lists(st.tuples(*(st.integers(1, 5),) * 3), max_size=6)


@given(SIZES)
def test_tensors_come_back_as_they_were(sizes):
    tensors = [torch.randint(256, size, dtype=torch.uint8) for size in sizes]
    packed = pack(tensors)
    found = unpack(packed)
    assert len(found) == len(tensors)
    for one, other in zip(found, tensors, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
        assert one.untyped_storage().data_ptr() == packed.values.untyped_storage().data_ptr()


def test_shots_come_back_as_they_were():
    def shot(frames, height):
        flow = torch.rand(frames - 1, 2, height, 6).half()
        return Shot(torch.randint(256, (frames, 3, height, 6), dtype=torch.uint8), flow, -flow)

    shots = [shot(4, 5), shot(3, 8)]
    for one, other in zip(unpack_shots(pack_shots(shots)), shots, strict=True):
        assert all(torch.equal(getattr(one, side), getattr(other, side)) for side in vars(other))
    assert unpack_shots(pack_shots([])) == []


def refuse(_):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>")


def test_shared_memory_that_is_too_small_is_told_before_it_is_written_to(tmp_path, monkeypatch):
    """Containers have 64 MB: a process that writes beyond would be killed without a message."""
    tensors = [torch.zeros(1000, dtype=torch.uint8), torch.zeros(1000)]
    free = SimpleNamespace(free=4999)
    monkeypatch.setattr(packing, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda _: free)
    with pytest.raises(UnsmearError, match=r"the data need 0 MB .* --shm-size"):
        share(tensors, "the data need")
    assert not any(tensor.is_shared() for tensor in tensors)
    free.free = 5000
    with monkeypatch.context() as patch:  # as if another process took it after the check
        patch.setattr(torch.Tensor, "share_memory_", refuse)
        with pytest.raises(UnsmearError, match="in each training process"):
            share(tensors, "the data need")
    share(tensors, "the data need")
    assert all(tensor.is_shared() for tensor in tensors)
    monkeypatch.setattr(packing, "_SHARED_MEMORY", tmp_path / "elsewhere")
    free.free = 0
    share(tensors, "the data need")
