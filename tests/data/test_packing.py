from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from unsmear.data.packing import pack, pack_shots, unpack, unpack_shots
from unsmear.data.sources import Shot

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
