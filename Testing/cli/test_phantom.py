"""``hierseg phantom`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hierseg.cli import main
from hierseg.dataset import Dataset


def test_makes_a_dataset_and_says_what_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "data"
    arguments = ["phantom", "acdc", "--cases", "2", "--fine", "1", "--size", "24", "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "2 with subclass labels, 2 with superclass labels only" in printed
    assert f"hierseg train {out}" in printed
    assert len(Dataset.open(out).cases("training")) == 4


def test_json_is_all_that_stdout_gets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", "brain", "--cases", "1", "--size", "16", "--out", str(tmp_path / "b"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["scans"] == 1
    assert made["layout"] == "dataset"


def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    assert main(["phantom", "brain", "--cases", "1", "--size", "16", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path) in error
    assert "Traceback" not in error
    assert main(["phantom", "brain", "--cases", "1", "--size", "3", "--out", str(tmp_path / "x")]) == 2
    assert "--size is 3" in capsys.readouterr().err
