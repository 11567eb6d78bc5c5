"""Every error code is explained, and every explained code exists."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

from hierseg import errors
from hierseg.cli import main
from HierSubclassSegLib.compute.jobs import RemoteError

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
EXPLAINED = re.findall(r"^### (HS-[A-Z-]+)$", DOCUMENT, re.MULTILINE)


def sources() -> list[Path]:
    return [
        path
        for folder in ("training/hierseg", "HierSubclassSeg")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "__pycache__" not in path.parts
    ]


def test_every_code_in_the_sources_is_explained_and_no_other() -> None:
    used = {code for path in sources() for code in re.findall(r'"(HS-[A-Z-]+)"', path.read_text(encoding="utf-8"))}
    assert used == set(EXPLAINED)
    assert len(EXPLAINED) == len(set(EXPLAINED))


def test_every_class_of_error_has_a_code_of_its_own() -> None:
    """Directly below HiersegError each class is a kind of mistake of its own."""
    named = {
        node.name
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") == "HiersegError" for base in node.bases)
    }
    assert "BundleError" in named
    assert named <= set(errors.CODES)
    assert len(set(errors.CODES.values())) == len(errors.CODES)


def test_errors_carry_their_code() -> None:
    class OneMoreError(errors.BundleError):
        pass

    assert errors.BundleError("x").code == "HS-BUNDLE"
    assert OneMoreError("x").code == "HS-BUNDLE"
    assert RemoteError("x", kind="OutOfMemory").code == "HS-MEMORY"
    assert RemoteError("x", kind="Canceled").code == ""
    assert RemoteError("x", kind="MissingContent").code == "HS-WORKER"


def test_commands_show_the_code_in_json(capsys, tmp_path: Path) -> None:
    assert main(["tree", "show", str(tmp_path / "absent.json"), "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["code"] in EXPLAINED
    assert printed.err.startswith("hierseg: ")
