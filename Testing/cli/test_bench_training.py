"""``hierseg bench training``: the rates and shares add up, and a slow stage is seen where it is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from engine.blobs import TINY, make
from hierseg.cli import main
from hierseg.data.transforms import PatchTransform
from hierseg.engine import benchmark
from hierseg.engine.benchmark import STAGES, bench_training
from hierseg.methods.two_head import TwoHead


def test_json_says_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "blobs")
    words = [
        "bench",
        "training",
        str(tmp_path / "blobs"),
        "--iterations",
        "2",
        "--runs",
        "2",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    settings = ["patch_size=[32,16,16]", "width=4", "batch_size=2"]
    assert (
        main([*words, *(word for pair in settings for word in ("--set", pair)), "--out", str(tmp_path / "b.json")]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    assert set(found["share_of_time"]) == set(STAGES)
    # Medians of shares that add up to 1 in each of two rounds do so as well.
    assert sum(row["median"] for row in found["share_of_time"].values()) == pytest.approx(1.0, abs=0.01)
    for row in (*found["samples_per_second"].values(), *found["share_of_time"].values(), found["device_busy"]):
        assert 0 <= row["min"] <= row["median"] <= row["max"]
    assert (found["iterations"], found["rounds"], found["settings"]["batch_size"]) == (2, 2, 2)
    assert found["machine"]["cores"] >= 1


@pytest.mark.parametrize("slow", ["augmentation", "loading", "forward"])
def test_a_slow_stage_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    make(tmp_path / "blobs")

    def slowed(function: Any) -> Any:
        def waits(*arguments: Any, **keys: Any) -> Any:
            time.sleep(0.3)
            return function(*arguments, **keys)

        return waits

    kind, name = {
        "augmentation": (PatchTransform, "__call__"),
        "loading": (benchmark._Timed, "__getitem__"),
        "forward": (TwoHead, "step"),
    }[slow]
    monkeypatch.setattr(kind, name, slowed(getattr(kind, name)))
    found = bench_training(tmp_path / "blobs", {**TINY, "method": "two_head"}, iterations=2, rounds=1, device="cpu")
    shares = {stage: row["median"] for stage, row in found["share_of_time"].items()}
    assert max(shares, key=shares.__getitem__) == slow
    # What is slow to load does not slow down rounds that load nothing.
    assert (found["loading_keeps"] < 0.5) == (slow != "forward")
    assert (found["device_busy"]["median"] > 0.5) == (slow == "forward")


@pytest.mark.parametrize("words", [["bench", "training"], ["bench", "losses", "somewhere"]])
def test_the_dataset_belongs_to_training(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "needs a dataset folder" in capsys.readouterr().err
