"""Makes ``slicer_names.json``: the names that shipped code may use from ``slicer``, ``qt`` and ``ctk``.

They come from Slicer's and CTK's own sources and, for the classes that are wrapped for Python, from ``slicer-core`` and
PySide6.  Run it again when the module is to be built for a newer Slicer::

    python Testing/project/slicer_names.py SLICER_CHECKOUT CTK_CHECKOUT

Both are git checkouts (bare ones will do), read at HEAD.
"""

from __future__ import annotations

import argparse
import ast
import enum
import json
import re
import subprocess
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_suffix(".json")
PYTHON = "Base/Python/slicer"
APPLICATION = ("Base/QTGUI/qSlicerApplication.h", "Base/QTCore/qSlicerCoreApplication.h")
CLASS = re.compile(r"^class\s+(?:Q_\w+_EXPORT|\w+_EXPORT)\s+(\w+)", re.MULTILINE)
CALLED = re.compile(r"\b([a-z]\w+)\s*\(")
PROPERTY = re.compile(r"Q_PROPERTY\(\s*[\w:*<>]+\s*\*?\s*(\w+)")


class Checkout:
    """A git checkout, read at HEAD."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commit = self._git("rev-parse", "HEAD").strip()
        self.files = self._git("ls-tree", "-r", "--name-only", "HEAD").splitlines()

    def read(self, path: str) -> str:
        return self._git("show", f"HEAD:{path}")

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments], capture_output=True, check=True, encoding="utf-8",
            errors="replace",
        )  # fmt: skip
        return done.stdout


def module_names(source: str) -> set[str]:
    """The public names that a Python module defines or imports at its top."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return {name for name in names if not name.startswith("_") and name != "*"}


def package_names(slicer: Checkout, folder: str) -> set[str]:
    """The same for a package: what its ``__init__`` has, and with ``import *`` what its modules have."""
    names: set[str] = set()
    for path in slicer.files:
        if path.startswith(f"{folder}/") and path.endswith(".py") and "/" not in path[len(folder) + 1 :]:
            names |= module_names(slicer.read(path)) | {Path(path).stem}
    return names - {"__init__"}


def classes(checkout: Checkout, pattern: str) -> set[str]:
    """Exported C++ classes in the headers that match."""
    wanted = re.compile(pattern)
    found: set[str] = set()
    for path in checkout.files:
        if wanted.search(path) and path.endswith(".h"):
            found |= set(CLASS.findall(checkout.read(path)))
    return found


def slicer_namespaces(slicer: Checkout) -> dict[str, list[str]]:
    """``slicer`` and its modules."""
    import slicer as core

    top = {name for name in dir(core) if not name.startswith("_")}
    top |= classes(
        slicer,
        r"^(Libs/MRML/Widgets|Base/QT(Core|GUI|CLI|App)|Modules/(Loadable/\w+|Scripted/DICOMLib)(/Widgets)?)/q[A-Z]\w+\.h$",
    )
    namespaces: dict[str, set[str]] = {}
    for path in slicer.files:
        inner = path.removeprefix(f"{PYTHON}/")
        if inner != path and re.fullmatch(r"\w+\.py", inner) and inner != "__init__.py":
            namespaces[f"slicer.{Path(inner).stem}"] = module_names(slicer.read(path))
    namespaces["slicer.parameterNodeWrapper"] = package_names(slicer, f"{PYTHON}/parameterNodeWrapper")
    application = {name for path in APPLICATION for name in members(slicer.read(path))}
    namespaces["slicer.app"] = application | qt_members("QApplication")
    namespaces["slicer.modules"] = {
        match.group(1).lower()
        for path in slicer.files
        if (match := re.match(r"Modules/(?:Loadable|Scripted|CLI)/(\w+)/", path))
    }
    # Set by qSlicerPythonManager and Base/Python/slicer/__init__.py when the application starts.
    top |= {"app", "modules", "mrmlScene", "moduleNames"} | {name.split(".")[1] for name in namespaces}
    return {"slicer": sorted(top), **{name: sorted(names) for name, names in namespaces.items()}}


def members(header: str) -> set[str]:
    """Methods, slots, signals and properties that a header mentions."""
    return set(CALLED.findall(header)) | set(PROPERTY.findall(header))


def qt_members(name: str) -> set[str]:
    """All members of a Qt class."""
    from PySide6 import QtWidgets

    return {member for member in dir(getattr(QtWidgets, name)) if not member.startswith("_")}


def qt_namespaces() -> dict[str, list[str]]:
    """``qt``'s classes, and of each class what is used without an instance: enumerators and methods."""
    from PySide6 import QtCore, QtGui, QtWidgets

    top: dict[str, Any] = {}
    for module in (QtCore, QtGui, QtWidgets):
        # dir() and not vars(): newer PySide6 makes its classes when they are first asked for.
        # The first one stays: QtGui has a Qt of its own, which adds nothing.
        top = {name: getattr(module, name) for name in dir(module) if name.startswith("Q")} | top
    namespaces = {"qt": sorted(top)}
    for name, value in top.items():
        if isinstance(value, type):
            namespaces[f"qt.{name}"] = sorted(class_names(value))
            bases = [base.__name__ for base in value.__mro__[1:] if base.__name__ in top]
            if bases:
                namespaces[f"qt.{name} bases"] = bases
    return namespaces


def class_names(value: type) -> set[str]:
    """Enumerators (PythonQt puts them into the class), enumerations and methods of the class itself."""
    inherited = {name for base in value.__mro__[1:] if base.__module__.startswith("PySide6") for name in dir(base)}
    found: set[str] = set()
    for name in sorted(set(dir(value)) - inherited):
        member = getattr(value, name, None)
        if isinstance(member, type) and issubclass(member, enum.Enum):
            found |= {name, *member.__members__}
        elif not isinstance(member, type) and not name.startswith("_"):
            # Methods too: a class that overrides one calls its base's as qt.QTreeWidget.keyPressEvent(self, event).
            found.add(name)
    return found


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slicer", type=Path)
    parser.add_argument("ctk", type=Path)
    options = parser.parse_args()
    slicer, ctk = Checkout(options.slicer), Checkout(options.ctk)
    names = {
        **slicer_namespaces(slicer),
        "ctk": sorted(classes(ctk, r"^Libs/(Core|Widgets|Visualization/VTK/\w+|DICOM/\w+)/ctk\w+\.h$")),
        **qt_namespaces(),
    }
    lines = [f' "{name}": {json.dumps(" ".join(members))}' for name, members in names.items()]
    made = json.dumps({"Slicer": slicer.commit, "CTK": ctk.commit})
    TARGET.write_text(f'{{\n "made from": {made},\n' + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
