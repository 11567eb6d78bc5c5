"""``hierseg tree``, and what is common to all subcommands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hierseg.cli import SUBCOMMANDS, available, main

ROOT = Path(__file__).parents[2]


def test_check_tells_sound_from_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(
        '{"format_version": 1, "name": "x", "unlabelled": 255, "nodes": [{"name": "a", "value": 1, "parent": "a"}]}',
        encoding="utf-8",
    )
    assert main(["tree", "check", "acdc", "brats2021"]) == 0
    assert "'ACDC', 5 nodes, 4 leaves" in capsys.readouterr().out
    assert main(["tree", "check", "acdc", str(wrong), "liver"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["ok", "wrong", "wrong"]
    assert "its own ancestor" in lines[1]
    assert main(["tree", "check", "--json", "acdc", str(wrong)]) == 2
    rows = json.loads(capsys.readouterr().out)
    assert [row["ok"] for row in rows] == [True, False]
    assert rows[0]["leaves"] == 4


def test_show_prints_names_values_and_levels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tree", "show"]) == 0
    assert "samseg_brain" in capsys.readouterr().out.split()
    assert main(["tree", "show", "samseg_brain"]) == 0
    out = capsys.readouterr().out
    assert "\ndeep gray matter  304\n" in out
    assert "\n    left hippocampus  17  (opposite: right hippocampus)\n" in out
    assert main(["tree", "show", "acdc", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "ACDC"


def test_convert_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, back = tmp_path / "t.csv", tmp_path / "back.json"
    assert main(["tree", "convert", "brats2021", str(table)]) == 0
    assert main(["tree", "convert", str(table), str(back), "--name", "again"]) == 0
    content = json.loads(back.read_text(encoding="utf-8"))
    assert content["name"] == "again"
    assert {row["name"]: row["value"] for row in content["nodes"]}["enhancing tumor"] == 4
    capsys.readouterr()
    assert main(["tree", "convert", "brats2021", str(tmp_path / "t.xyz")]) == 2
    assert "give '--to'" in capsys.readouterr().err
    assert not (tmp_path / "t.xyz").exists()


def test_a_mistake_is_one_line_without_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["tree", "show", str(tmp_path / "none.json")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hierseg: ")
    assert captured.err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert main(["tree", "convert", "acdc", str(tmp_path / "file" / "t.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hierseg.importers.label_trees.read_label_tree", interrupted)
    assert main(["tree", "show", "acdc"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_help_lists_what_exists_and_only_that(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    listed = {line.split()[0] for line in out.splitlines() if line.startswith("    ") and line.strip()}
    assert set(available()) <= listed
    assert not (set(SUBCOMMANDS) - set(available())) & listed
    with pytest.raises(SystemExit) as ended:
        main(["fly"])
    assert ended.value.code == 2


@pytest.mark.parametrize("name", available())
def test_every_subcommand_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"hierseg {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["tree", "--help"], ["bundle", "list"], ["--version"]])
def test_light_commands_load_no_torch(arguments: list[str], tmp_path: Path) -> None:
    code = f"""
import sys
from hierseg.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
assert not {{"torch", "monai", "scipy", "SimpleITK"}} & set(sys.modules), "heavy"
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "training"), "HIERSEG_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "training")}
    command = f"{sys.executable} -m hierseg tree show totalsegmentator_ct --json | head -n 1"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.stderr == ""
    assert done.stdout == "{\n"
