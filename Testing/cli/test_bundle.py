"""``hierseg bundle``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hierseg.bundle import Bundle, write_bundle
from hierseg.cli import main
from standins.folders import CONFIG, empty_weights
from standins.label_trees import tree_of


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "home"))
    return write_bundle(
        tmp_path / "model",
        config=CONFIG,
        metadata={"name": "small", "version": "1.2.3"},
        tree=tree_of({"background": {}, "tumor": {"core": {}, "edema": {}}}),
        write_weights=empty_weights,
        card="# small\n",
        license_text="MIT\n",
    )


def test_export_import_list_and_check(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "small.zip"
    assert main(["bundle", "export", str(bundle.folder), str(archive)]) == 0
    assert main(["bundle", "import", str(archive)]) == 0
    assert str(tmp_path / "home" / "models" / "small@1.2.3") in capsys.readouterr().out
    assert main(["bundle", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["id"] == "small@1.2.3"
    assert rows[0]["channels"] == ["MRI"]
    for name in ("small", "small@1.2.3", str(bundle.folder)):
        assert main(["bundle", "check", name]) == 0
        assert capsys.readouterr().out.startswith("ok: ")


def test_damage_is_found_and_exits_with_2(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    bundle.weights.write_bytes(bundle.weights.read_bytes() + b" ")
    assert main(["bundle", "check", str(bundle.folder)]) == 2
    assert "model.safetensors" in capsys.readouterr().out
    assert main(["bundle", "check", "--json", str(bundle.folder), "nothing"]) == 2
    rows = json.loads(capsys.readouterr().out)
    assert [row["ok"] for row in rows] == [False, False]
    assert main(["bundle", "import", str(bundle.folder)]) == 2
    assert "SHA-256" in capsys.readouterr().err


def test_an_empty_list_says_what_to_do(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").mkdir()
    assert main(["bundle", "list", str(tmp_path / "none")]) == 0
    assert "hierseg bundle import" in capsys.readouterr().out


def test_another_content_needs_replace(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "import", str(bundle.folder)]) == 0
    write_bundle(
        bundle.folder,
        config=CONFIG,
        metadata={"name": "small", "version": "1.2.3"},
        tree=bundle.tree,
        write_weights=empty_weights,
        card="# changed\n",
        license_text="MIT\n",
    )
    assert main(["bundle", "import", str(bundle.folder)]) == 2
    assert "another bundle small@1.2.3" in capsys.readouterr().err
    assert main(["bundle", "import", "--replace", str(bundle.folder)]) == 0
