"""Features of a first pass, kept on disk for the second."""

from __future__ import annotations

import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import disk_full
from unsmear.restoration import store as store_module
from unsmear.restoration.store import FeatureStore, open_store

SHAPES = st.lists(
    st.tuples(*[st.integers(1, 5)] * 4, st.booleans()), min_size=1, max_size=4
)  # the last value: whether channels come last


def features(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(shape, generator=generator).to(
            memory_format=torch.channels_last if last else torch.contiguous_format
        )
        for *shape, last in shapes
    )


@given(frames=st.lists(SHAPES, min_size=1, max_size=5))
def test_what_is_got_is_what_was_put(frames, tmp_path_factory):
    kept = [features(shapes, seed) for seed, shapes in enumerate(frames)]
    with FeatureStore.opened(tmp_path_factory.mktemp("store")) as store:
        for one in kept:
            store.put(one)
        assert len(store) == len(frames)
        for number in (*range(len(frames)), *reversed(range(len(frames)))):
            got = store.get(number)
            assert len(got) == len(kept[number])
            for found, wanted in zip(got, kept[number], strict=True):
                assert torch.equal(found, wanted)
                assert found.stride() == wanted.stride()
        assert store.get(len(frames)) is None


def test_parts_of_larger_tensors_are_kept(tmp_path):
    whole = torch.randn(2, 6, 8, 8)
    part = whole[1:, 2:5, :, 1:7]
    with FeatureStore.opened(tmp_path) as store:
        store.put([part, whole[1:]])
        first, second = store.get(0)
    assert torch.equal(first, part)
    assert torch.equal(second, whole[1:])


def test_a_full_store_keeps_the_first_frames_and_no_later_ones(tmp_path):
    small, large = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 4, 4)  # 16 and 64 bytes
    with FeatureStore.opened(tmp_path, most_bytes=40) as store:
        store.put([small])
        store.put([large])
        store.put([small])  # there is room, but the numbering would no longer match the clip
        assert len(store) == 1
        assert torch.equal(store.get(0)[0], small)
        assert store.get(1) is None


def test_a_store_takes_a_quarter_of_the_free_space_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=140))
    with FeatureStore.opened(tmp_path) as store:
        for _ in range(3):
            store.put([torch.ones(1, 1, 2, 2)])  # 16 bytes
        assert len(store) == 2


@pytest.fixture
def thread():
    with ThreadPoolExecutor(1) as thread:
        yield thread


def test_a_full_disk_ends_the_keeping_and_nothing_else(tmp_path, thread):
    class FullDisk(io.FileIO):
        write = disk_full

    with FullDisk(tmp_path / "features", "w+") as file:
        store = FeatureStore(file, 1 << 20, thread)
        store.put([torch.ones(1, 1, 2, 2)])
        assert len(store) == 0
        assert store.get(0) is None


def test_a_file_that_was_cut_short_is_not_read(tmp_path, thread):
    with (tmp_path / "features").open("w+b", buffering=0) as file:
        store = FeatureStore(file, 1 << 20, thread)
        store.put([torch.ones(1, 1, 2, 2)])
        file.truncate(7)
        assert store.get(0) is None


@pytest.mark.parametrize(("largest", "asked"), [(64, [0, 1, 2]), (63, [0, 1])])
def test_large_frames_are_not_read_ahead(tmp_path, monkeypatch, largest, asked):
    monkeypatch.setattr(store_module, "_LARGEST_AHEAD", largest)
    read = []
    read_one = FeatureStore._read
    monkeypatch.setattr(
        FeatureStore, "_read", lambda self, number: read.append(number) or read_one(self, number)
    )
    frames = [torch.full((1, 1, 4, 4), float(number)) for number in range(4)]
    with FeatureStore.opened(tmp_path) as store:
        for frame in frames:
            store.put([frame])
        assert torch.equal(store.get(0)[0], frames[0])
        assert torch.equal(store.get(1)[0], frames[1])
    assert read == asked


def test_a_frame_is_read_after_the_one_read_ahead(tmp_path, monkeypatch):
    """They share the position in the file."""
    begun, overlapped, read_one = threading.Event(), [], FeatureStore._read

    def read(store, number):
        if number == 1:
            overlapped.append(begun.wait(timeout=0.05))
        if number == 2:
            begun.set()
        return read_one(store, number)

    monkeypatch.setattr(FeatureStore, "_read", read)
    frames = [torch.full((1, 1, 4, 4), float(number)) for number in range(3)]
    with FeatureStore.opened(tmp_path) as store:
        for frame in frames:
            store.put([frame])
        assert torch.equal(store.get(0)[0], frames[0])
        assert torch.equal(store.get(2)[0], frames[2])
    assert overlapped == [False]


def test_nothing_is_seen_of_it(tmp_path):
    with FeatureStore.opened(tmp_path) as store:
        store.put([torch.ones(1, 3, 4, 4)])
        assert os.name == "nt" or list(tmp_path.iterdir()) == []  # has a name there until the end
    assert list(tmp_path.iterdir()) == []


def test_no_store_where_it_would_not_pay_or_cannot_be(tmp_path, exit_stack):
    assert open_store(exit_stack, tmp_path, torch.device("cpu")) is not None
    assert open_store(exit_stack, tmp_path, torch.device("cuda")) is None
    assert open_store(exit_stack, tmp_path / "missing", torch.device("cpu")) is None


@pytest.fixture
def exit_stack():
    with ExitStack() as stack:
        yield stack
