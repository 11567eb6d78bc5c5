"""Commands say, read and write the same in a process whose locale knows ASCII only.

It may be so from the start, or since a library has set it: ITK does when it writes DICOM, in Slicer and here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hierseg.dataset import Dataset
from hierseg.imageio import write_volume
from standins.label_trees import tree_of

TREE = tree_of({"Hintergrund": {}, "Großhirn": {"weiße Substanz": {}, "graue Substanz": {}}})
ASCII_FROM_THE_START = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

CHILD = """
import json, locale, sys
locale.setlocale(locale.LC_ALL, "C")
assert locale.getencoding() not in ("UTF-8", "utf-8"), locale.getencoding()
from hierseg.cli import main
for words in json.loads(sys.argv[1]):
    print(">", words[0], flush=True)
    code = main(words)
    if code:
        sys.exit(code)
"""


def dataset_at(folder: Path) -> None:
    dataset = Dataset.create(folder, "Köpfe", ["T1 für Kinder"], TREE)
    labels = np.zeros((8, 8, 8), TREE.dtype)
    labels[2:6], labels[2:4] = TREE.node("weiße Substanz").value, TREE.node("Großhirn").value
    dataset.save_case(
        "one",
        [lambda path: write_volume(path, np.random.default_rng(0).random((8, 8, 8), np.float32), np.eye(4))],
        lambda path: write_volume(path, labels, np.eye(4)),
        group="Würzburg",
        provenance={"user": "Jörg"},
    )


@pytest.mark.parametrize(
    ("environment", "place"), [(ASCII_FROM_THE_START, "heads"), ({}, "Köpfe")], ids=["from the start", "set later"]
)
def test_nothing_depends_on_the_locale(tmp_path: Path, environment: dict[str, str], place: str) -> None:
    folder = tmp_path / place
    data = folder / "data"
    folder.mkdir()
    dataset_at(data)
    out = {name: str(folder / name) for name in ("Dataset001_Heads", "back", "scores")}
    commands = [
        ["export", "nnunet", str(data), "--out", out["Dataset001_Heads"]],
        ["import", "nnunet", out["Dataset001_Heads"], "--out", out["back"]],
        ["evaluate", str(data / "labels"), str(data), "--out", out["scores"]],
        ["tree", "show", str(data / "label_tree.json")],
    ]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(commands)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        check=False,
        timeout=200,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, said
    assert "Error" not in said
    assert Dataset.open(Path(out["back"])).tree == TREE
    assert "weiße Substanz" in (Path(out["scores"]) / "scores.md").read_text(encoding="utf-8")
    assert "Köpfe" in (Path(out["Dataset001_Heads"]) / "what-was-lost.md").read_text(encoding="utf-8")
