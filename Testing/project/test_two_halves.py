"""The one rule: the learning half and the Slicer half never import each other's libraries.

The shared vocabulary imports the standard library and numpy alone, so that it works before anything is installed.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEARNING = ROOT / "training"
SLICER = ROOT / "HierSubclassSeg"
VOCABULARY = (
    "labeltree",
    "labeltree_format",
    "dataset",
    "dataset_format",
    "transaction",
    "bundle",
    "bundle_format",
    "bundle_files",
    "resources",
    "errors",
    "atomic",
    "worker.protocol",
    "worker.crops",
)


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full module name of every import in a file, at any depth; relative ones are made absolute."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*parts[1 : len(parts) - node.level], *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _is_import_call(node):
            yield node.lineno, str(node.args[0].value)  # type: ignore[attr-defined]


def _is_import_call(node: ast.Call) -> bool:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    literal = node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    return name in {"import_module", "__import__"} and bool(literal)


def crossings(folder: Path, forbidden: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted(folder.rglob("*.py"))
        for line, name in imports_of(path)
        if name.split(".")[0] in forbidden
    ]


def test_the_learning_half_knows_nothing_of_slicer() -> None:
    assert (
        crossings(
            LEARNING, {"slicer", "vtk", "vtkmodules", "qt", "ctk", "mrml", "HierSubclassSegLib", "HierSubclassSeg"}
        )
        == []
    )


def test_the_slicer_half_knows_nothing_of_torch() -> None:
    assert crossings(SLICER, {"torch", "monai", "torchvision", "safetensors", "nibabel", "scipy"}) == []


def test_the_walk_sees_every_way_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    folder = tmp_path / "half"
    folder.mkdir()
    lines = [
        "import torch",
        "import torch.nn as nn",
        "from torch.nn import Module",
        "def f():\n    from torch import nn",
        "import importlib\nimportlib.import_module('torch')",
        "__import__('torch')",
        "try:\n    import torch\nexcept ImportError:\n    pass",
    ]
    for index, text in enumerate(lines):
        (folder / f"m{index}.py").write_text(text, encoding="utf-8")
    (folder / "clean.py").write_text("import torchlight\n'import torch'\n", encoding="utf-8")
    assert len(crossings(folder, {"torch"})) == len(lines)


def reach(module: str, seen: set[str] | None = None) -> set[str]:
    """Foreign top-level modules that a module of hierseg imports, directly or through others of hierseg."""
    seen = set() if seen is None else seen
    base = LEARNING / Path(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if module in seen or not path.is_file():
        return set()
    seen.add(module)
    foreign: set[str] = set()
    # Packages above are imported as well.
    if "." in module:
        foreign |= reach(module.rpartition(".")[0], seen)
    for _, name in imports_of(path):
        if name.split(".")[0] == "hierseg":
            foreign |= reach(name, seen) | reach(name.rpartition(".")[0], seen)
        else:
            foreign.add(name.split(".")[0])
    return foreign


@pytest.mark.parametrize("name", VOCABULARY)
def test_the_shared_vocabulary_needs_numpy_alone(name: str) -> None:
    assert (LEARNING / "hierseg" / Path(*name.split("."))).with_suffix(".py").is_file()
    foreign = reach(f"hierseg.{name}") - set(sys.stdlib_module_names)
    assert foreign <= {"numpy"}


def run(code: str, *paths: Path, isolated: bool = False) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(path) for path in paths)}
    command = [sys.executable, *(["-S"] if isolated else []), "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_hierseg_and_the_vocabulary_loads_no_torch() -> None:
    modules = ["hierseg", "hierseg.cli", *(f"hierseg.{name}" for name in VOCABULARY)]
    code = f"import sys\nfor name in {modules!r}: __import__(name)\nprint(*sorted(sys.modules))"
    loaded = {name.split(".")[0] for name in run(code, LEARNING).split()}
    assert not loaded & {"torch", "monai", "scipy", "nibabel", "SimpleITK", "safetensors", "yaml"}


def test_the_vocabulary_works_where_only_numpy_is_installed(tmp_path: Path) -> None:
    import numpy as np

    site = tmp_path / "site"
    site.mkdir()
    for entry in Path(np.__file__).parents[1].glob("numpy*"):
        (site / entry.name).symlink_to(entry)
    code = f"""
import sys, pathlib
for name in {VOCABULARY!r}:
    __import__("hierseg." + name)
from hierseg import resources
from hierseg.dataset import Dataset
from hierseg.labeltree import LabelTree
tree = LabelTree.load(resources.path("label_trees", "brain_start"))
dataset = Dataset.create({str(tmp_path / "set")!r}, "x", ["MRI"], tree)
dataset.save_case("a", [lambda path: path.write_bytes(b"1")], None)
print(len(Dataset.open(dataset.folder).cases()))
"""
    assert run(code, LEARNING, site, isolated=True) == "1\n"
