"""Benchmarks and scripts report mistakes in their input in one line, before they work."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import image, load_script, write_video
from unsmear.errors import ConfigError, UnsmearError
from unsmear.models.zoo import load_model
from unsmear.video.images import write_image

ROOT = Path(__file__).parent.parent
CONTEST = "--data photos --val val --steps 1 --device cpu"
CARD = "paper --val val --photographs credits.tsv --command"
RUNS = "x y"  # `paper` came from two runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs, pairs and a table of credits."""
    made = tmp_path_factory.mktemp("bad")
    for name in ("photos", "val/a/blur", "val/a/sharp"):
        (made / name).mkdir(parents=True)
        for index in range(2):
            write_image(made / name / f"{index}.png", image(48, 64, index))
    (made / "credits.tsv").write_text("licence\tcredit\tsource_repo\n")
    for name in ("one", "two"):
        (made / name).mkdir()
        write_video(made / name / "same.mp4", frames=2)
    (made / "empty").mkdir()
    return made


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (f"benchmarks/baseline.py paper {CONTEST} --json no/x.json", "no folder 'no'"),
        (f"benchmarks/baseline.py paper {CONTEST} --fresh 0", "fresh is 0"),
        (f"benchmarks/baseline.py paper {CONTEST} --ssim-every 0", "ssim_every is 0"),
        (f"benchmarks/baseline.py paper {CONTEST} --steps 0 --threads 5000", "threads is 5000"),
        (f"benchmarks/baseline.py paper {CONTEST} --steps 0", "steps is 0"),
        (f"benchmarks/baseline.py paper {CONTEST} --minutes nan", "minutes is nan"),
        (f"benchmarks/baseline.py paper {CONTEST} --val nowhere", "'nowhere' is not a folder"),
        (f"benchmarks/baseline.py paper {CONTEST} --seeds 1 0 1", "one seed is named '1'"),
        (f"benchmarks/baseline.py nosuch {CONTEST}", "unknown model 'nosuch'"),
        (f"benchmarks/fusion.py nosuch {CONTEST}", "fusion is 'nosuch'"),
        (f"benchmarks/fusion.py factorised:level=x {CONTEST}", "'x' is no JSON"),
        (f"benchmarks/ablation.py base=1 {CONTEST}", "variant 'base=1'"),
        ("benchmarks/coded.py lite --val nowhere", "'nowhere' is not a folder"),
        ("benchmarks/coded.py lite lite --val val", "more than one model is named 'lite'"),
        ("benchmarks/coded.py lite --val val --json no/x.json", "no folder 'no'"),
        ("benchmarks/coded.py lite --val val --json val/x.json", "is the input 'val'"),
        ("benchmarks/coded.py m.safetensors --val val --json m.safetensors", "the input 'm.s"),
        ("benchmarks/windows.py --model m.safetensors --json m.safetensors", "the input 'm.s"),
        ("benchmarks/memory.py --model m.safetensors --json m.safetensors", "the input 'm.s"),
        (
            "benchmarks/synthesis.py --data photos --clips one/same.mp4 --json one/same.mp4",
            "is the input 'one/same.mp4'",
        ),
        ("benchmarks/attention_use.py empty --data photos --json empty/x.json", "input 'empty'"),
        ("benchmarks/windows.py --size abc", "size is 'abc'"),
        ("benchmarks/windows.py --frames 0", "frames is 0"),
        ("benchmarks/windows.py 4", "window is 4"),
        ("benchmarks/memory.py 0x0:0", "'0x0:0': at least 1x1:1"),
        ("benchmarks/memory.py --json no/x.json", "no folder 'no'"),
        ("benchmarks/attention.py --channels 0", "channels is 0"),
        ("benchmarks/synthesis.py --data nowhere --clips one/same.mp4", "is not a folder"),
        ("benchmarks/synthesis.py --data photos --clips one/same.mp4 two/same.mp4", "'same'"),
        ("benchmarks/synthesis.py --data photos --clips one/same.mp4 --quality 0", "quality is 0"),
        ("benchmarks/synthesis.py --data photos --clips one/same.mp4 --quality nan", "is nan"),
        ("benchmarks/attention_use.py nowhere --data photos", "no *.safetensors in 'nowhere'"),
        ("scripts/fit_niqe.py fit --data nowhere --model n.json", "'nowhere' is not a folder"),
        ("scripts/fit_niqe.py check", "check needs --data, --pairs or both"),
        ("scripts/fit_niqe.py check --pairs nowhere", "'nowhere' is not a folder"),
        ("scripts/fit_niqe.py check --pairs val --model one/same.mp4", "not a NIQE model"),
        ("scripts/calibrate_guard.py --val val --clips one --model nosuch", "unknown model"),
        ("scripts/calibrate_guard.py --val nowhere --clips one", "'nowhere' is not a folder"),
        ("scripts/calibrate_guard.py --val val --clips empty", "no *.mp4 in 'empty'"),
        ("scripts/retrain.py lite --data photos --processes 0", "processes is 0"),
        ("scripts/calibrate_blur.py check --data photos", "2 photographs below photos"),
        ("scripts/calibrate_blur.py gain --data photos --workers 0", "workers is 0"),
        ("scripts/failures.py lite --out no/f.png", "no folder 'no'"),
        ("scripts/failures.py lite --out f.txt", "the suffix must be"),
        ("scripts/pack_weights.py lite.safetensors no/x.safetensors", "no folder 'no'"),
        ("scripts/pack_weights.py a.safetensors a.safetensors", "is the input"),
        ("scripts/mix_weights.py a b no/x.safetensors --share 0.5", "no folder 'no'"),
        (f"scripts/model_card.py {CARD} {RUNS} z", "2 runs led to these weights"),
        (f"scripts/model_card.py {CARD} {RUNS} --notes no.md", "'no.md': No such file"),
        (f"scripts/model_card.py {CARD} {RUNS} --photographs no.tsv", "'no.tsv': No such file"),
        (f"scripts/model_card.py {CARD} {RUNS} --val nowhere", "'nowhere' is not a folder"),
        (f"scripts/model_card.py {CARD} {RUNS} --out no/card.md", "no folder 'no'"),
    ],
)
def test_it_is_told_in_a_line(folder, monkeypatch, capsys, command, told):
    script, *arguments = command.split()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    said = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2
    assert told in said[-1]
    assert len(said) == 1 or said[0].startswith("usage:")


def test_files_of_one_name_are_no_one_model(folder, weights_file, tmp_path):
    (tmp_path / "other").mkdir()
    twin = shutil.copy(weights_file, tmp_path / "other")
    with pytest.raises(ConfigError, match="more than one model is named 'small'"):
        load_script("benchmarks/coded.py").measured([str(weights_file), twin], folder / "val", "t")


def test_only_what_ran_out_of_memory_says_so(monkeypatch):
    bench = load_script("benchmarks/attention.py")
    assert bench.ran_out_of_memory(-9, "")
    assert bench.ran_out_of_memory(1, "RuntimeError: DefaultCPUAllocator: can't allocate memory")
    assert not bench.ran_out_of_memory(1, "ImportError: no module")
    failed = bench.subprocess.CompletedProcess([], 1, "", "ImportError: no module")
    monkeypatch.setattr(bench.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UnsmearError, match="failed with 1"):
        bench.measure_apart("dense", (1, 4, 4), 8)


def test_networks_are_damaged_where_they_have_the_layer():
    guard = load_script("scripts/calibrate_guard.py")
    names = {}
    for model in ("paper", "lite"):
        network = load_model(model).network
        names[model] = [name for name, _ in guard.damages_to(network)]
        with torch.no_grad():
            for _, damage in guard.damages_to(network):
                damage(network)
    assert "local_fusion x4" in names["lite"]
    assert "local_fusion x4" not in names["paper"]


def test_the_peak_is_in_bytes_on_macos(monkeypatch):
    bench = load_script("benchmarks/memory.py")
    monkeypatch.setattr(bench.sys, "platform", "linux")
    assert bench.mebibytes(2048) == 2
    monkeypatch.setattr(bench.sys, "platform", "darwin")
    assert bench.mebibytes(2 << 20) == 2
