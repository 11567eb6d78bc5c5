"""``hierseg bench`` prints what a timing needs to be read: machine, versions, setting, medians and spreads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hierseg.cli import main
from standins.tiny_bundle import write_tiny_bundle

STAGES = {"load", "preprocess", "network", "decode", "restore", "total"}


def test_prints_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_bundle(tmp_path / "tiny")
    arguments = [
        "bench",
        "predict",
        "--bundle",
        str(tmp_path / "tiny"),
        "--size",
        "12",
        "--runs",
        "2",
        "--device",
        "cpu",
    ]
    assert main([*arguments, "--seed", "7", "--out", str(tmp_path / "b.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    assert set(printed["seconds"]) == STAGES
    assert all(row["min"] <= row["median"] <= row["max"] for row in printed["seconds"].values())
    assert printed["seconds"]["total"]["max"] >= printed["seconds"]["network"]["min"] > 0
    assert printed["model"]["bundle"] == "tiny@1.0.0"
    assert printed["image"]["shape"] == [12, 12, 12]
    assert printed["seed"] == 7
    assert {"torch", "hierseg"} <= set(printed["versions"])
    assert printed["machine"]["cores"] >= 1


def test_random_network_has_the_leaves_that_were_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--size", "8", "--leaves", "6", "--runs", "1", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["leaves"] == 6


@pytest.mark.parametrize("option", ["--size", "--leaves", "--runs"])
def test_numbers_out_of_range(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "predict", option, "0"]) == 2
    assert option in capsys.readouterr().err
