"""Resources are found in a checkout, in an installed wheel and in an installed Slicer extension."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hierseg import resources
from hierseg.errors import ResourceError

ROOT = Path(__file__).parents[2]
TREES = {path.stem for path in (ROOT / "Resources" / "LabelTrees").glob("*.json")}
CONFIGS = {path.stem for path in (ROOT / "training" / "configs").glob("*.yaml")}

# Run from elsewhere, with one folder on the path: prints where hierseg and the tree were found, and the tree's name.
PROBE = """
import hierseg, hierseg.labeltree
from hierseg import resources
path = resources.path("label_trees", "acdc")
print(hierseg.__file__)
print(path)
print(hierseg.labeltree.LabelTree.load(path).name)
print(" ".join(resources.names("label_trees")))
print(" ".join(str(folder) for folder in resources.folders("models")))
print(" ".join(resources.names("configs")))
"""


def probe(python_path: Path, tmp_path: Path, **environment: str) -> list[str]:
    # -S: no site-packages, so that an installed hierseg cannot answer; PYTHONPATH comes back for numpy.
    import numpy as np

    paths = os.pathsep.join([str(python_path), str(Path(np.__file__).parents[1])])
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HIERSEG", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROBE],
        env={**clean, "PYTHONPATH": paths, **environment},
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_in_a_checkout(tmp_path: Path) -> None:
    package, path, name, names, models, configs = probe(ROOT / "training", tmp_path)
    assert Path(package).parents[1] == ROOT / "training"
    assert Path(path) == ROOT / "Resources" / "LabelTrees" / "acdc.json"
    assert name == "ACDC"
    assert set(names.split()) == TREES
    assert Path(models) == ROOT / "Resources" / "Models"
    assert set(configs.split()) == CONFIGS


def test_in_an_installed_wheel(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    # A copy, so that a build neither sees nor leaves anything in the working tree.
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_file():
            checkout.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
    for name in ("training", "Resources", "docs"):
        shutil.copytree(
            ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", ".*", "*.safetensors")
        )
    # The wheel must carry bundles, whichever are shipped at the moment.
    for kind in ("Models", "Terminologies"):
        (checkout / "Resources" / kind / "probe").mkdir(parents=True)
        (checkout / "Resources" / kind / "probe" / "LICENSE").write_text("x", encoding="utf-8")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=checkout, capture_output=True, encoding="utf-8", check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    package, path, name, names, models, configs = probe(tmp_path / "site", tmp_path)
    assert Path(package).parents[1] == tmp_path / "site"
    assert Path(path).is_relative_to(tmp_path / "site" / "hierseg" / "_resources")
    assert name == "ACDC"
    assert set(names.split()) == TREES
    assert Path(models).is_relative_to(tmp_path / "site")
    assert (Path(models) / "probe" / "LICENSE").is_file()
    assert set(configs.split()) == CONFIGS


@pytest.mark.parametrize("below", ["training", "."])
def test_in_an_installed_extension(tmp_path: Path, below: str) -> None:
    modules = tmp_path / "lib" / "Slicer-5.12" / "qt-scripted-modules"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "training" / "hierseg", modules / below / "hierseg", ignore=ignore)
    shutil.copytree(ROOT / "Resources" / "LabelTrees", modules / "Resources" / "LabelTrees")
    (modules / "Resources" / "Models").mkdir()
    _, path, name, names, models, _ = probe(modules / below, tmp_path)
    assert Path(path) == modules / "Resources" / "LabelTrees" / "acdc.json"
    assert name == "ACDC"
    assert set(names.split()) == TREES
    assert Path(models) == modules / "Resources" / "Models"


def test_a_folder_named_in_the_environment_comes_first(tmp_path: Path) -> None:
    (tmp_path / "mine" / "LabelTrees").mkdir(parents=True)
    text = (ROOT / "Resources" / "LabelTrees" / "acdc.json").read_text(encoding="utf-8")
    (tmp_path / "mine" / "LabelTrees" / "acdc.json").write_text(text.replace('"ACDC"', '"Mine"'), encoding="utf-8")
    _, path, name, names, *_ = probe(ROOT / "training", tmp_path, HIERSEG_RESOURCES=str(tmp_path / "mine"))
    assert Path(path).is_relative_to(tmp_path)
    assert name == "Mine"
    assert set(names.split()) == TREES


@pytest.mark.parametrize("name", ["../LabelTrees/acdc", "/etc/passwd", "..", "a\\b", ""])
def test_names_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(ResourceError):
        resources.path("label_trees", name)


def test_unknown_names_and_kinds_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ResourceError, match="acdc, brain_start"):
        resources.path("label_trees", "liver")
    with pytest.raises(ResourceError, match="label_trees"):
        resources.path("trees", "acdc")
    with pytest.raises(ResourceError, match="label_trees"):
        resources.names("trees")


def test_the_ending_may_be_left_out() -> None:
    assert resources.path("label_trees", "acdc") == resources.path("label_trees", "acdc.json")
    assert resources.path("schemas", "dataset").name == "dataset.schema.json"


def test_user_models_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path))
    assert resources.models_folder() == tmp_path / "models"
    assert resources.all_model_folders()[0] == tmp_path / "models"
    monkeypatch.delenv("HIERSEG_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert resources.models_folder() == tmp_path / "data" / "hierseg" / "models"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert resources.models_folder().parts[-4:] == ("Library", "Application Support", "hierseg", "models")
