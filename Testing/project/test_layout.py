"""The project's own promises: CMake lists what is there, README's commands exist, links lead somewhere, files stay small."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from hierseg.cli import SUBCOMMANDS, available

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "HierSubclassSeg"
CODE = re.compile(r"```sh\n(.*?)```", re.DOTALL)
DOCUMENTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("training/*.md")]
    if "build" not in path.relative_to(ROOT).parts
)


def python_files() -> list[Path]:
    return [
        path
        for folder in ("training/hierseg", "HierSubclassSeg", "Testing")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "__pycache__" not in path.parts
    ]


def cmake_list(name: str) -> set[str]:
    found = re.search(
        rf"set\({name}\n(.*?)\n?\s*\)", (MODULE / "CMakeLists.txt").read_text(encoding="utf-8"), re.DOTALL
    )
    assert found, f"HierSubclassSeg/CMakeLists.txt has no list {name}"
    return set(found.group(1).split())


@pytest.mark.parametrize(
    ("name", "pattern"), [("MODULE_PYTHON_SCRIPTS", "**/*.py"), ("MODULE_PYTHON_RESOURCES", "Resources/**/*")]
)
def test_cmake_lists_every_file_of_the_module(name: str, pattern: str) -> None:
    """What is not listed is missing in the installed extension, which shows only there."""
    present = {
        path.relative_to(MODULE).as_posix()
        for path in MODULE.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts and path != MODULE / "HierSubclassSeg.py"
    }
    listed = cmake_list(name)
    assert present - listed == set(), "add these to HierSubclassSeg/CMakeLists.txt"
    assert listed - present == set(), "remove these from HierSubclassSeg/CMakeLists.txt"


def test_what_other_programs_say_is_read_as_utf_8() -> None:
    """``text=True`` reads it in the process's locale, which libraries change; ruff finds files that are read so."""
    calls = [
        f"{path.relative_to(ROOT)}:{node.value.lineno}"
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg in ("text", "universal_newlines")
        if isinstance(node.value, ast.Constant) and node.value.value is True
    ]
    assert calls == [], "write encoding='utf-8' in place of text=True"


def test_the_extension_installs_what_the_learning_half_needs() -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert "project(HierSubclassSeg)" in text
    folders = re.findall(r"install\(DIRECTORY ([^\n]*)", text)
    assert set(" ".join(folders).split()) == {"training/hierseg", "Resources", "training/configs", "docs/schemas"}


def commands(document: Path) -> list[str]:
    """The lines of a document's shell blocks, without comments."""
    blocks = CODE.findall(document.read_text(encoding="utf-8"))
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [part.strip() for line in lines if line and not line.startswith("#") for part in line.split("&&")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_in_documents_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for command in commands(document):
        words = command.split()
        if words[0] == "make" and len(words) > 1:
            assert words[1] in targets, command
        if words[0] == "hierseg" and len(words) > 1 and not words[1].startswith("-"):
            assert words[1] in available(), command


def test_readme_shows_the_two_commands_first() -> None:
    first = commands(ROOT / "README.md")[:2]
    assert [command.split()[:2] for command in first] == [["make", "demo"], ["make", "test"]]
    screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:25])
    assert "docs/images/demo.png" in screen
    assert "not for diagnosis" in screen


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_in_documents_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (document.parent / target).exists(), f"{document.relative_to(ROOT)} links to {target}"


def test_every_subcommand_module_is_announced() -> None:
    modules = {path.stem.rstrip("_") for path in (ROOT / "training/hierseg/cli").glob("*.py")}
    helpers = {name for name in modules if name.startswith("_")}
    assert modules - helpers <= set(SUBCOMMANDS), "add the new subcommand to hierseg.cli.SUBCOMMANDS"


def test_files_stay_readable() -> None:
    """About 400 lines a file, more for a list of tests, and 80 a function; what is over is in the message."""
    long_files, long_functions = [], []
    for path in python_files():
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT).as_posix()
        if text.count("\n") > (600 if name.startswith("Testing/") else 450):
            long_files.append(f"{name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno
                if lines > 80:
                    long_functions.append(f"{name}:{node.lineno} {node.name}: {lines} lines")
    assert long_files == []
    assert long_functions == []


def test_every_package_says_what_belongs_there() -> None:
    silent = [
        path.relative_to(ROOT).as_posix()
        for folder in ("training/hierseg", "HierSubclassSeg")
        for path in sorted((ROOT / folder).rglob("__init__.py"))
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_every_folder_with_code_is_a_package() -> None:
    """A folder without ``__init__.py`` would be missing from the wheel's view and from mypy's."""
    for folder in ("training/hierseg", "HierSubclassSeg/HierSubclassSegLib"):
        for path in (ROOT / folder).rglob("*.py"):
            if "__pycache__" not in path.parts:
                assert (path.parent / "__init__.py").exists(), path.relative_to(ROOT)


def test_no_test_folder_is_a_package() -> None:
    """With importlib mode two test files may have one name only as long as their folders are no packages."""
    assert [path for path in (ROOT / "Testing").rglob("__init__.py") if path.parent.name != "standins"] == []


def test_nothing_large_is_tracked() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is nothing that could be tracked")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / name for name in listed.decode().split("\0") if name]
    large = [path.relative_to(ROOT).as_posix() for path in files if path.is_file() and path.stat().st_size > 9_000_000]
    assert large == []
