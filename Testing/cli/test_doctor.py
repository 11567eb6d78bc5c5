"""``hierseg doctor`` says what is there, and one sentence on what to do about each lack."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from hierseg.cli import doctor, main


def findings(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)["findings"]}


def test_everything_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path))
    assert main(["doctor", "--json"]) == 0
    rows = findings(capsys)
    assert {"python", "command", "monai", "cores", "memory", "disk, models", "models folder", "label trees"} <= set(
        rows
    )
    assert torch.__version__ in rows["torch"]["found"]
    assert rows["models folder"]["found"].startswith(str(tmp_path / "models"))
    for row in rows.values():
        assert row["state"] in {"ok", "limited", "missing"}
        assert row["state"] == "ok" or row["advice"], f"{row['name']}: no advice"


def test_a_missing_package_is_an_advice_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "safetensors":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0" if name == "monai" else real(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    assert main(["doctor", "--json"]) == 1
    rows = findings(capsys)
    assert rows["safetensors"]["state"] == "missing"
    assert "pip install" in rows["safetensors"]["advice"]
    assert rows["monai"]["state"] == "limited"


def test_a_broken_bundle_and_a_full_disk_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path))
    (tmp_path / "models" / "broken").mkdir(parents=True)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2**20}))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "manifest.json" in out
    assert "free some space" in out
