from __future__ import annotations

import ast
import pickle
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

import unsmear
from tests.conftest import assert_same_frames, one_scene, picture, stamps_of, write_video
from unsmear.errors import CombinedError, ConfigError, InputError, MissingExtraError, ModelError
from unsmear.restoration.quality import QualityOptions
from unsmear.restoration.settings import Settings, Span
from unsmear.restoration.stream import restore_stream
from unsmear.restoration.tiles import TileSize
from unsmear.video.encoding import EncodeChoice


def arrays(count=4, height=20, width=28):
    return [picture(height, width, seed) for seed in range(count)]


def test_arrays_in_arrays_out(weights_file):
    frames = arrays()
    restored = list(unsmear.restore(iter(frames), model=str(weights_file), device="cpu"))
    assert len(restored) == 4
    for before, after in zip(frames, restored, strict=True):
        assert isinstance(after, np.ndarray)
        assert (after.shape, after.dtype) == (before.shape, np.uint8)


def test_tensors_give_the_same_numbers_as_arrays(weights_file):
    model = unsmear.open_model(str(weights_file), "cpu")
    frames = arrays()
    as_tensors = [torch.from_numpy(f).permute(2, 0, 1) / 255 for f in frames]
    one = list(unsmear.restore(frames, model=model))
    two = list(unsmear.restore(as_tensors, model=model))
    for array, tensor in zip(one, two, strict=True):
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_array_equal(array, (tensor.permute(1, 2, 0) * 255).round().byte().numpy())


def test_frames_come_while_more_go_in(weights_file):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield picture(16, 16)

    for burst, ahead in ((0, 1), (2, 3)):
        taken = 0
        stream = unsmear.restore(
            endless(), model=str(weights_file), device="cpu", window=3, burst=burst
        )
        next(stream)
        next(stream)
        assert taken == 2 + ahead


def test_frames_are_made_again_where_that_is_asked_for(aligned_file, weights_file):
    model = unsmear.open_model(str(aligned_file), "cpu")
    frames = one_scene(4, 16, 24)
    once = torch.stack(list(unsmear.restore(frames, model=model, refine=0)))
    again = torch.stack(list(unsmear.restore(frames, model=model, refine=1)))
    wanted = restore_stream(model.engine, frames, model.window, quality=QualityOptions(refine=1))
    torch.testing.assert_close(again, torch.stack(list(wanted)))
    assert not torch.equal(again, once)
    with pytest.raises(ConfigError, match="needs a model that aligns neighbours"):
        unsmear.restore(frames, model=str(weights_file), refine=1)


def test_window_all_takes_collections_and_refuses_iterators(weights_file):
    model = unsmear.open_model(str(weights_file), "cpu")
    frames = [picture(20, 28, 1)] * 4
    whole = list(unsmear.restore(frames, model=model, window="all"))
    wide = list(unsmear.restore(frames, model=model, window=7))
    for one, two in zip(whole, wide, strict=True):
        assert np.abs(one.astype(int) - two).max() <= 1
    assert len(list(unsmear.restore(frames, model=model, window="all", ensemble=2))) == 4
    with pytest.raises(InputError, match="twice"):
        unsmear.restore(iter(frames), model=model, window="all")

    class Once:
        left = iter(frames)

        def __iter__(self):
            yield from self.left

    with pytest.raises(InputError, match=r"twice: give a list"):
        list(unsmear.restore(Once(), model=model, window="all"))


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        torch.zeros(8, 8),
        torch.zeros(1, 8, 8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        np.zeros((0, 8, 3), np.uint8),
        torch.zeros(3, 8, 0),
        "frame.png",
    ],
)
def test_frames_of_another_kind_are_refused(weights_file, frame):
    with pytest.raises(InputError, match=r"must be|give numpy"):
        list(unsmear.restore([frame], model=str(weights_file), device="cpu"))


def test_mixed_sizes_are_refused(weights_file):
    frames = [picture(16, 16), picture(16, 24)]
    with pytest.raises(InputError, match="the same size"):
        list(unsmear.restore(frames, model=str(weights_file), device="cpu"))


def test_mistakes_in_options_show_at_once(weights_file):
    with pytest.raises(ModelError):
        unsmear.restore([], model="nope")
    with pytest.raises(ConfigError):
        unsmear.restore([], model=str(weights_file), window=2)


def test_python_restores_a_video_file(tmp_path, weights_file):
    """With numpy's numbers too, which cannot be stored in a job as they are."""
    source = write_video(tmp_path / "in.mp4", frames=3)
    outcome = unsmear.restore_video(
        str(source),
        str(tmp_path / "out.mp4"),
        model=str(weights_file),
        device="cpu",
        window=np.int64(3),
        settings=Settings(
            strength=np.float32(0.5),
            quality=QualityOptions(ensemble=np.int64(1), refine=np.int8(0), burst=np.uint8(1)),
            tiling=TileSize(np.int64(64), np.int32(64)),
            span=Span(start=np.float32(0), end=np.int8(9)),
            encode=EncodeChoice(crf=np.int64(20)),
        ),
    )
    assert outcome.frames == 3
    assert stamps_of(tmp_path / "out.mp4") == stamps_of(source)
    with pytest.raises(ConfigError, match="window is 2"):
        unsmear.restore_video(source, tmp_path / "o.mp4", model=str(weights_file), window=2)


def test_public_names_are_there_and_others_are_not():
    assert set(unsmear.__all__) <= set(dir(unsmear))
    assert issubclass(InputError, unsmear.UnsmearError)
    for name in unsmear.__all__:
        assert getattr(unsmear, name)
    with pytest.raises(AttributeError):
        unsmear.nothing_like_it  # noqa: B018


def test_type_checkers_see_the_types_and_no_other_names():
    """They read installed packages with this marker only, and a `__getattr__` gives any name."""
    assert (files(unsmear) / "py.typed").is_file()
    module = ast.parse((files(unsmear) / "__init__.py").read_text(encoding="utf-8"))
    assert not [one for one in module.body if getattr(one, "name", "") == "__getattr__"]


def test_errors_cross_processes():
    """An exception that cannot be unpickled breaks a process pool."""
    lacking = MissingExtraError("openvino", "fast", "engine openvino")
    for error in (lacking, CombinedError((ConfigError("one"), lacking))):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))
    assert [type(one) for one in again.errors] == [ConfigError, MissingExtraError]


def test_tensors_may_all_lie_in_one_buffer(weights_file):
    model = unsmear.open_model(str(weights_file), "cpu")
    frames = one_scene(5, 16, 24)
    buffer = torch.empty(3, 16, 24)

    def reused():
        for frame in frames:
            yield buffer.copy_(frame)

    wanted = list(unsmear.restore(list(frames), model=model, window=3))
    assert_same_frames(unsmear.restore(reused(), model=model, window=3), wanted)


@pytest.mark.parametrize("tiling", ["auto", TileSize(16, 16)])
def test_frames_come_back_in_one_piece(weights_file, tiling):
    """OpenCV and pipes to FFmpeg need contiguous frames."""
    model = unsmear.open_model(str(weights_file), "cpu")
    frames = [picture(34, 50, seed) for seed in range(2)]
    for frame in unsmear.restore(frames, model=model, window=1, tiling=tiling):
        assert frame.flags.c_contiguous
    tensors = [torch.from_numpy(frame).permute(2, 0, 1) / 255 for frame in frames]
    for frame in unsmear.restore(tensors, model=model, window=1, tiling=tiling, burst=0):
        assert frame.is_contiguous()
        assert frame.untyped_storage().nbytes() == 4 * frame.numel()


def test_frames_that_the_network_spoils_come_back_as_they_came_in(weights_file):
    model = unsmear.open_model(str(weights_file), "cpu")
    model.network.head.bias.fill_(0.6)
    frames = arrays(3)
    for given in (frames, [torch.from_numpy(f).permute(2, 0, 1).half() / 255 for f in frames]):
        with pytest.warns(UserWarning, match="frame 0 is returned unchanged") as told:
            restored = list(unsmear.restore(given, model=model))
        assert len(told) == 1
        assert told[0].filename == __file__
        for before, after in zip(given, restored, strict=True):
            assert (before == after).all()


def test_frames_of_a_loader_that_knows_no_length_are_restored(weights_file):
    class Streamed(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from torch.rand(2, 3, 16, 24)

    frames = torch.utils.data.DataLoader(Streamed(), batch_size=None)
    assert len(list(unsmear.restore(frames, model=weights_file, device="cpu"))) == 2


def test_a_window_larger_than_memory_is_told_at_the_first_frame(weights_file, monkeypatch):
    model = unsmear.open_model(str(weights_file), "cpu")
    with pytest.raises(ConfigError, match=r"GiB of memory.*--window all"):
        next(unsmear.restore(iter(arrays(1)), model=model, window=10**12 + 1))
    assert len(list(unsmear.restore(arrays(1), model=model, window=10**12 + 1))) == 1
    monkeypatch.setattr("unsmear.restoration.stream.physical_memory", lambda: 20 * 28 * 12)
    assert len(list(unsmear.restore(arrays(1), model=model, window=1))) == 1
    with pytest.raises(ConfigError, match="window is 1: buffering frames of 28x20"):
        next(unsmear.restore(arrays(1), model=model, window=1, ensemble=2))


def test_overshoot_of_filters_is_restored_within_the_range(weights_file):
    """With no warning: it is not the network that changed the frame much."""
    frame = one_scene(1, 40, 40)[0]
    frame[:, :, :20], frame[:, :, 20:30] = 1.8, -0.4
    (found,) = unsmear.restore([frame], model=weights_file, device="cpu")
    assert not torch.equal(found, frame)
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize("model", [None, 3, torch.nn.Identity()])
def test_what_is_no_model_is_told_by_its_type(model):
    for taken in (unsmear.open_model, lambda given: unsmear.restore([], model=given)):
        with pytest.raises(ConfigError, match=f"model is a {type(model).__name__}: give a name"):
            taken(model)


def test_arguments_of_other_types_are_taken_or_told(weights_file):
    frames = [picture(16, 24)]
    assert len(list(unsmear.restore(frames, model=weights_file, device="cpu"))) == 1
    model = unsmear.open_model(str(weights_file), "cpu")
    assert len(list(unsmear.restore(frames, model=model, window=np.int64(3)))) == 1
    for window in ("5", 5.0, True):
        with pytest.raises(ConfigError, match="must be an odd number of frames"):
            unsmear.restore(frames, model=model, window=window)
    for tiling in ("64x64", "none", (64, 64), TileSize(0, 0), TileSize(64.0, 64.0)):
        with pytest.raises(ConfigError, match="must be auto, off or a TileSize"):
            unsmear.restore(frames, model=model, tiling=tiling)
        with pytest.raises(ConfigError, match="must be auto, off or a TileSize"):
            Settings(tiling=tiling)
    for strength in ("0.5", 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"strength is .*: must be from 0"):
            Settings(strength=strength)
    for name in ("quality", "span", "encode"):
        with pytest.raises(
            ConfigError, match=rf"{name} is {{}}: must be an unsmear\.\w+\.\w+\.[A-Z]"
        ):
            Settings(**{name: {}})
    with pytest.raises(ConfigError, match=r"settings is a dict: must be an unsmear\.Settings"):
        unsmear.restore_video("in.mp4", "out.mp4", model=model, settings={})
    assert Span(start=0.5, end=2) == Span(start=Fraction(1, 2), end=Fraction(2))
    for time in ("1:30", float("nan"), np.float32("inf")):
        with pytest.raises(ConfigError, match=r"end is .*: must be a finite number of seconds"):
            Span(end=time)
    for crf in ("20", 20.5):
        with pytest.raises(ConfigError, match=f"crf is {crf!r}: must be from 0"):
            EncodeChoice(crf=crf)
    for path in ("in.mp4", Path("in.mp4")):
        with pytest.raises(InputError, match=r"'in.mp4' is a path: .*unsmear\.restore_video"):
            unsmear.restore(path, model=model)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (255.0, r"frame 1's largest value is 255: tensors must be 0\.\.1; divide"),
        (-1.0, r"frame 1's smallest value is -1: .* for -1\.\.1, x / 2 \+ 0\.5"),
        (float("nan"), "frame 1 contains nan"),
        (float("inf"), "frame 1 contains inf"),
        (-float("inf"), "frame 1 contains -inf"),
    ],
)
def test_numbers_that_are_none_of_a_picture_are_refused(weights_file, value, message):
    frames = [torch.zeros(3, 8, 8, requires_grad=True) for _ in range(2)]
    with torch.no_grad():
        frames[1][0, 3, 3] = value
    with pytest.raises(InputError, match=message):
        list(unsmear.restore(frames, model=weights_file, device="cpu"))
