"""No name that shipped code uses from ``slicer``, ``qt`` or ``ctk`` is invented: each is in Slicer's own sources.

The stand-ins of the tests would not notice a name that only they have, and Python looks a name up when the line runs:
in the application, in front of a user.  ``slicer_names.json`` lists what there is; ``slicer_names.py`` makes it.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "HierSubclassSeg"
# Module parts whose members are listed; of everything else (an instance, a VTK class) the first name is looked up.
LISTED: dict[str, frozenset[str]] = {
    name: frozenset(members.split())
    for name, members in json.loads(Path(__file__).with_name("slicer_names.json").read_text(encoding="utf-8")).items()
    if isinstance(members, str)
}


def names(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that is used of the three packages, by import or by attribute."""
    tree = ast.parse(source)
    alias = {"slicer": "slicer", "qt": "qt", "ctk": "ctk"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in alias:
            for one in node.names:
                yield node.lineno, f"{node.module}.{one.name}"
                alias[one.asname or one.name] = f"{node.module}.{one.name}"
        elif isinstance(node, ast.Import):
            for one in node.names:
                if one.name.split(".")[0] in ("slicer", "qt", "ctk") and "." in one.name:
                    yield node.lineno, one.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            parts = [node.attr]
            value = node.value
            while isinstance(value, ast.Attribute):
                parts.append(value.attr)
                value = value.value
            if isinstance(value, ast.Name) and value.id in alias:
                yield node.lineno, ".".join([alias[value.id], *reversed(parts)])


def members_of(name: str) -> frozenset[str] | None:
    """What a package, module or class has; None where that is not listed."""
    own = LISTED.get(name)
    if own is None:
        return vtk_members(name)
    return own.union(*(LISTED.get(f"qt.{base}", frozenset()) for base in LISTED.get(f"{name} bases", frozenset())))


def vtk_members(name: str) -> frozenset[str] | None:
    """The same for a class of Slicer's that is wrapped by VTK: ``slicer-core`` has the class itself."""
    package, _, rest = name.partition(".")
    if package != "slicer" or not rest.startswith("vtk") or "." in rest:
        return None
    slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel: pip install slicer-core")
    return frozenset(dir(getattr(slicer, rest))) if hasattr(slicer, rest) else None


def unknown(name: str) -> bool:
    """Whether a part of a dotted name is missing where its members are listed."""
    parts = name.split(".")
    for length in range(1, len(parts)):
        if parts[length].startswith("__"):
            return False
        members = members_of(".".join(parts[:length]))
        if members is None:
            return False
        if parts[length] not in members:
            return True
    return False


FILES = sorted(path for path in MODULE.rglob("*.py") if "__pycache__" not in path.parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(MODULE).as_posix())
def test_every_name_is_slicers(path: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for line, name in names(path.read_text(encoding="utf-8"))
        if unknown(name)
    ]
    assert found == [], "not in Slicer's sources; if Slicer has it, run Testing/project/slicer_names.py"


@pytest.mark.parametrize(
    "name",
    [
        "slicer.util.loadVolum",
        "slicer.vtkMRMLSegmentationNod",
        "qt.QPushButon",
        "qt.QSizePolicy.Expandin",
        "ctk.ctkPathLineEdits",
        "slicer.app.layoutManage",
        "slicer.packaging.pip_instal",
        "qt.Qt.AlignRigth",
        "slicer.vtkSegmentation.SegmentMoved",
    ],
)
def test_a_misspelt_name_is_found(name: str) -> None:
    assert unknown(name)


@pytest.mark.parametrize(
    "name",
    [
        "slicer.util.loadVolume",
        "qt.QSizePolicy.Expanding",
        "slicer.mrmlScene.Clear",
        "qt.Qt.AlignRight",
        "qt.QTimer.singleShot",
    ],
)
def test_a_right_name_is_known(name: str) -> None:
    assert not unknown(name)


def test_names_are_found_however_they_are_imported() -> None:
    source = "import slicer\nfrom slicer.util import a\nfrom slicer import b as c\nslicer.x.y()\nc.d\n"
    assert {name for _, name in names(source)} == {"slicer.util.a", "slicer.b", "slicer.x.y", "slicer.x", "slicer.b.d"}
