"""Where a measurement comes from, without the folders of a user."""

from __future__ import annotations

from pathlib import PureWindowsPath

import torch

from unsmear.evaluate.origin import origin_of, portable_command


def test_commands_tell_no_folders(monkeypatch):
    command = [
        "/home/x/.venv/bin/unsmear",
        "eval",
        "--data",
        "/data/GOPRO/test",
        "--json",
        "a.json",
    ]
    assert portable_command(command) == "unsmear eval --data test --json a.json"
    assert portable_command(["unsmear", "--json=/home/x/a.json"]) == "unsmear --json=a.json"
    for option in ("-m", "-m=", "--model="):
        command = ["unsmear", f"{option}/home/x/a=b.pt"]
        assert portable_command(command) == f"unsmear {option}a=b.pt"
    assert portable_command(["unsmear", "--size=1x1", "a=/b"]) == "unsmear --size=1x1 a=/b"
    monkeypatch.setattr("unsmear.evaluate.origin.Path", PureWindowsPath)
    command = [r"C:\site-packages\unsmear\__main__.py", "eval", "--data", r"D:\me\test"]
    assert portable_command(command) == "unsmear eval --data test"
    module = ["/home/x/src/unsmear/__main__.py", "eval"]
    assert portable_command(module) == "unsmear eval"
    assert portable_command(["benchmarks/fusion.py", "a b"]) == "benchmarks/fusion.py 'a b'"


def test_origin_names_machine_versions_command_and_date():
    origin = origin_of(torch.device("cpu"), ["unsmear", "eval"])
    assert "thread" in origin.machine
    assert torch.__version__ in origin.versions
    assert "Unsmear" in origin.versions
    assert origin.date.count("-") == 2
    assert origin.line.startswith("`unsmear eval`, ")
