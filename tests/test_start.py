"""The first contact, through `__main__.py`, `cli.py` and `command.py` to all that they check first:
few imports, one-line errors, exit code 2, nothing left behind.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

import pytest

import unsmear
from tests.conftest import write_video
from unsmear.cli import main
from unsmear.errors import quoted

PROJECT = Path(__file__).parent.parent


def test_training_rooms_need_neither_pyav_nor_cyclopts():
    """Nor, as it takes seconds to import, the compiler of torch."""
    others = "('av', 'cyclopts', 'skimage', 'torch._dynamo')"
    blocked = f"import sys\nfor name in {others}: sys.modules[name] = None\n"
    rooms = "import unsmear.models.zoo, unsmear.data.synthesis, unsmear.train.loop\n"
    subprocess.run([sys.executable, "-c", blocked + rooms], check=True)


def test_commands_in_messages_are_quoted_for_the_shell(monkeypatch):
    assert quoted(Path("my clip.mp4")) == "'my clip.mp4'"
    monkeypatch.setattr(sys, "platform", "win32")
    assert quoted(Path("my clip.mp4")) == '"my clip.mp4"'


def test_version_agrees_with_the_package(capsys):
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == unsmear.__version__


def text_file(folder: Path) -> Path:
    path = folder / "text.mp4"
    path.write_text("not a video")
    return path


def empty_file(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


def missing_file(folder: Path) -> Path:
    return folder / "missing.mp4"


def sound_only(folder: Path) -> Path:
    import av
    import numpy as np

    path = folder / "sound.mp4"
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def empty_folder(folder: Path) -> Path:
    path = folder / "empty"
    path.mkdir()
    return path


def huge_picture(folder: Path) -> Path:
    """It is told by the header, before 10 GB are allocated."""

    def chunk(kind, data):
        tail = data + struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + tail

    path = folder / "huge"
    path.mkdir()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    (path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (text_file, "text.mp4"),
        (empty_file, "empty.mp4"),
        (missing_file, "missing.mp4"),
        (sound_only, "sound.mp4"),
        (empty_folder, "empty"),
        (huge_picture, "huge/0.png"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_no_output(make, named, tmp_path, refused, weights_file):
    source = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    target = tmp_path / ("out" if source.is_dir() else "out.mp4")
    assert named in refused(source, "-o", target, "-m", weights_file)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "nope"], "unknown model 'nope'"),
        (["-m", "nope.safetensors"], "nope.safetensors"),
        (["--window", "4"], "window is 4"),
        (["--window", "0"], "window is 0"),
        (["--window", "every"], "or all"),
        (["--tile", "huge"], "tile is 'huge'"),
        (["--tile", "8x8"], "at least 64x64"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--device", "cuda:99"], "not available on this machine"),
        (["-o", "out.gif"], "suffix must be one of"),
        (["-o", "nowhere/out.mp4"], "there is no folder"),
        (["--unknown"], "--unknown"),
    ],
)
def test_bad_options_are_one_line_exit_2(
    arguments, message, tmp_path, refused, weights_file, monkeypatch
):
    clip = write_video(tmp_path / "clip.mp4", frames=2)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    weights = [] if "-m" in arguments else ["-m", weights_file]
    assert message in refused(clip, *arguments, *weights)
    assert sorted(tmp_path.iterdir()) == before


def test_existing_output_is_kept_unless_asked(tmp_path, refused, weights_file):
    clip = write_video(tmp_path / "clip.mp4", frames=2)
    target = tmp_path / "out.mp4"
    target.write_text("precious")
    assert "--overwrite" in refused(clip, "-o", target, "-m", weights_file)
    assert target.read_text() == "precious"
    main([str(clip), "-o", str(target), "-m", str(weights_file), "--overwrite"])
    assert target.stat().st_size > 100


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_the_input_is_never_overwritten(tmp_path, refused, weights_file, link):
    clip = write_video(tmp_path / "clip.mp4", frames=2)
    contents = clip.read_bytes()
    target = tmp_path / "link.mp4" if link else clip
    if link:
        getattr(target, link)(clip)
    assert "is the input" in refused(clip, "-o", target, "-m", weights_file, "--overwrite")
    assert clip.read_bytes() == contents


def test_default_output_lies_beside_the_input(tmp_path, capsys, weights_file):
    clip = write_video(tmp_path / "my clip é.mp4", frames=3)
    main([str(clip), "-m", str(weights_file)])
    assert (tmp_path / "my clip é.sharp.mp4").is_file()
    assert "3 frames" in capsys.readouterr().out


def test_ctrl_c_is_answered_from_the_first_import_on(tmp_path):
    """Nothing slow is imported before Ctrl-C is handled."""
    code = (
        "import sys, unsmear.__main__ as start\n"
        "assert 'cyclopts' not in sys.modules and 'rich' not in sys.modules\n"
        "class Interrupts:\n"
        "    def find_spec(self, *_):\n"
        "        raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "start.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "unsmear: interrupted\n")
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"]["unsmear"] == "unsmear.__main__:main"


# Under a job in the background SIGINT is ignored, by children too.
ANSWERED = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"


def test_ctrl_c_is_answered_while_torch_is_imported(tmp_path):
    """Torch's C++ code drops the KeyboardInterrupt."""
    dropped = "import signal\ntry: signal.raise_signal(2)\nexcept KeyboardInterrupt: pass\n"
    (tmp_path / "torch.py").write_text(dropped)
    code = ANSWERED + (
        "import sys, types, unsmear.__main__ as start\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "sys.modules['unsmear.cli'] = types.SimpleNamespace(main=lambda: __import__('torch'))\n"
        "start.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "unsmear: interrupted\n")


def test_a_second_ctrl_c_ends_the_process_without_a_traceback():
    """While it exits, which takes seconds with torch."""
    code = ANSWERED + (
        "import atexit, sys, types, unsmear.__main__ as start\n"
        "atexit.register(signal.raise_signal, 2)\n"
        "once = types.SimpleNamespace(main=lambda: signal.raise_signal(2))\n"
        "sys.modules['unsmear.cli'] = once\n"
        "start.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode != 0, done.stderr) == (True, "unsmear: interrupted\n")
