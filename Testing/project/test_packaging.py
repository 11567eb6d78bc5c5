"""The wheel holds what an installed ``hierseg`` needs, and nothing of the tests."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout, built without the network by the build backend itself."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_carries_code_and_resources(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    code = {
        f"hierseg/{path.relative_to(ROOT / 'training/hierseg').as_posix()}"
        for path in (ROOT / "training/hierseg").rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert code <= names
    assert "hierseg/py.typed" in names
    for source, target in (
        ("Resources/LabelTrees", "LabelTrees"),
        ("Resources/Models", "Models"),
        ("training/configs", "configs"),
        ("docs/schemas", "schemas"),
    ):
        for path in (ROOT / source).rglob("*"):
            if path.is_file():
                relative = path.relative_to(ROOT / source).as_posix()
                assert f"hierseg/_resources/{target}/{relative}" in names
    assert not any(name.startswith(("Testing", "HierSubclassSeg")) for name in names)


def test_installed_wheel_finds_its_resources(wheel: Path, tmp_path: Path) -> None:
    """Far from the checkout, with nothing but the wheel: every label tree that the checkout has is found and read."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    script = (
        "import hierseg\n"
        "from hierseg import resources\n"
        "from hierseg.labeltree import LabelTree\n"
        "assert 'site' in hierseg.__file__, hierseg.__file__\n"
        "for name in resources.names('label_trees'):\n"
        "    print(name, len(LabelTree.load(resources.path('label_trees', name)).leaves))\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "HIERSEG"))}
    environment["PYTHONPATH"] = str(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {line.split()[0] for line in done.stdout.splitlines()}
    assert found == {path.stem for path in (ROOT / "Resources/LabelTrees").glob("*.json")}


def test_metadata_says_what_is_needed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Name"] == "hierseg"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    extras = set(metadata.get_all("Provides-Extra"))
    assert extras == {"scene", "demo", "openvino", "dev", "peers"}
    from hierseg import __version__

    assert metadata["Version"] == __version__


def test_every_dependency_is_pinned_for_make() -> None:
    """A dependency without a line in constraints.txt would come in another version every month."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(row for rows in project["optional-dependencies"].values() for row in rows)]
    names = {_canonical(row) for row in wanted}
    pins = [
        line
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert all("==" in pin for pin in pins)
    assert names <= {_canonical(pin) for pin in pins}


def _canonical(requirement: str) -> str:
    name = requirement
    for mark in "<>=!~;[ ":
        name = name.split(mark)[0]
    return name.lower().replace("_", "-").replace(".", "-")


def test_the_version_is_in_the_citation() -> None:
    from hierseg import __version__

    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
