"""What is needed to run the worker: reports of real child processes, some with a torch that is broken on purpose."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

import pytest

from HierSubclassSegLib.compute import setup

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = setup.load_requirements(ROOT / "HierSubclassSeg/Resources/requirements.txt")
posix_only = pytest.mark.skipif(os.name != "posix", reason="plays programs with shell scripts")


def fake_torch(folder: Path, code: str) -> dict[str, str]:
    """An environment whose torch is a package of these lines."""
    package = folder / "site/torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(code, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(package.parent)}


WORKING = """
import sys, types
__version__ = {version!r}
version = types.SimpleNamespace(cuda={cuda!r})
class _Cuda:
    def is_available(self): return {cards} > 0
    def device_count(self): return {cards}
    def get_device_properties(self, i): return types.SimpleNamespace(name="Fake 4090", total_memory=24 << 30)
cuda = _Cuda()
backends = types.SimpleNamespace(mps=types.SimpleNamespace(is_available=lambda: False))
class _Sum:
    def __float__(self): return 3.0
    def item(self): return 3.0
class _Ones:
    def sum(self): return _Sum()
def ones(n, device="cpu"):
    if device != "cpu" and {no_kernel}: raise RuntimeError("no kernel image is available")
    return _Ones()
nn = types.ModuleType("torch.nn"); nn.__path__ = []
sys.modules["torch.nn"] = nn
sys.modules["torch.nn.functional"] = types.ModuleType("torch.nn.functional")
print("a package that chatters while it is imported")
"""


def working(version: str = "2.10.0", cuda: str = "", cards: int = 0, no_kernel: bool = False) -> str:
    return WORKING.format(version=version, cuda=cuda, cards=cards, no_kernel=no_kernel)


def with_driver(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """The environment of a computer whose NVIDIA driver lists one card."""
    (folder / "bin").mkdir()
    program = folder / "bin/nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA RTX 4090, 24564, 580.65.06'\n", encoding="utf-8")
    program.chmod(0o755)
    return {**environment, "PATH": f"{program.parent}{os.pathsep}{environment['PATH']}"}


def test_the_requirements_are_those_of_the_package_without_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    torch = [line for line in project["dependencies"] if setup.split_requirement(line)[0] == "torch"]
    assert torch == [setup.TORCH]
    assert sorted(REQUIREMENTS) == sorted(set(project["dependencies"]) - set(torch))
    assert not any("==" in line for line in REQUIREMENTS), "pinned versions fight with other extensions"
    least = ".".join(str(number) for number in setup.LEAST_PYTHON)
    assert project["requires-python"] == f">={least}"


def test_the_python_that_runs_the_tests_is_ready() -> None:
    report = setup.examine(sys.executable, REQUIREMENTS)
    assert report.ready, report.diagnostics()
    assert report.missing == ()
    assert report.versions is not None
    assert report.versions["torch"] in report.sentence
    assert "the processor" in report.sentence or "cuda" in report.sentence or "mps" in report.sentence
    assert f"torch: {report.versions['torch']}" in report.diagnostics()


@pytest.mark.parametrize(
    ("code", "expected", "word"),
    [
        ("raise ImportError('DLL load failed while importing _C')", "HS-TORCH-BROKEN", "DLL load failed"),
        ("__version__ = '2.10.0'", "HS-TORCH-BROKEN", "AttributeError"),
        ("import os; os._exit(3)", "HS-TORCH-BROKEN", "code 3"),
        ("import os, signal; os.abort()", "HS-TORCH-BROKEN", "ends the program"),
        ("raise SystemExit(0)", "HS-TORCH-BROKEN", "SystemExit"),
        (working("2.7.1"), "HS-TORCH-VERSION", "2.7.1"),
        (working("2.9.1+cu128", "12.8"), "HS-TORCH-VERSION", "2.9.1"),
    ],
    ids=["import-error", "half-installed", "exits", "crashes", "system-exit", "old", "excluded"],
)
def test_a_torch_that_cannot_be_used_is_told_from_none(code: str, expected: str, word: str, tmp_path: Path) -> None:
    report = setup.examine(sys.executable, REQUIREMENTS, fake_torch(tmp_path, code))
    assert report.code == expected
    assert word in report.sentence
    assert report.torch_there
    assert not report.ready
    assert not report.torch_ready
    assert report.hint


def test_an_empty_folder_named_torch_is_a_broken_torch(tmp_path: Path) -> None:
    """What an installation leaves that was stopped by Windows' limit on path lengths; it can be imported."""
    (tmp_path / "torch/lib").mkdir(parents=True)
    # In front of the real one only a package counts, so the child sees no other site-packages.
    report = setup.examine(sys.executable, [], {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONNOUSERSITE": "1"})
    assert report.ready or report.code == "HS-TORCH-BROKEN"


def test_a_child_that_hangs_is_ended(tmp_path: Path) -> None:
    report = setup.examine(sys.executable, [], fake_torch(tmp_path, "import time; time.sleep(600)"), seconds=3.0)
    assert report.code == "HS-TORCH-BROKEN"
    assert "does not come to an end" in report.sentence


def test_a_card_is_named_with_its_memory(tmp_path: Path) -> None:
    report = setup.examine(sys.executable, REQUIREMENTS, fake_torch(tmp_path, working(cuda="12.8", cards=1)))
    assert report.ready
    assert report.sentence == "torch 2.10.0 on cuda:0: Fake 4090, 24.0 GiB."
    assert report.hint == ""


@posix_only
@pytest.mark.parametrize(
    ("torch", "word"),
    [
        (working(), "built without CUDA"),
        (working(cuda="12.8"), "update the NVIDIA driver"),
        (working(cuda="12.8", cards=1, no_kernel=True), "no kernel image"),
    ],
    ids=["no-cuda-build", "old-driver", "card-too-new"],
)
@pytest.mark.may_skip("plays nvidia-smi with a shell script")
def test_a_card_that_torch_cannot_use_gives_a_hint(torch: str, word: str, tmp_path: Path) -> None:
    report = setup.examine(sys.executable, REQUIREMENTS, with_driver(tmp_path, fake_torch(tmp_path, torch)))
    assert report.ready
    assert report.sentence == "torch 2.10.0 on the processor."
    assert word in report.hint
    assert report.graphics == ("NVIDIA RTX 4090",)


def test_packages_that_are_missing_or_old_are_named(tmp_path: Path) -> None:
    wanted = [*REQUIREMENTS, "no-such-package>=1", "tqdm>=999"]
    report = setup.examine(sys.executable, wanted, fake_torch(tmp_path, working()))
    assert report.code == "HS-SETUP-PACKAGES"
    assert report.missing == ("no-such-package>=1", "tqdm>=999")
    assert report.torch_ready


@pytest.mark.may_skip("plays a Python with a shell script")
@posix_only
def test_programs_that_are_no_python_give_one_sentence(tmp_path: Path) -> None:
    absent = setup.examine(tmp_path / "python", REQUIREMENTS)
    assert absent.code == "HS-SETUP-PYTHON"
    assert "cannot be started" in absent.sentence
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 'unknown option -m' >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    other = setup.examine(program, REQUIREMENTS)
    assert other.code == "HS-SETUP-PYTHON"
    assert "unknown option -m" in other.sentence


def test_an_old_python_says_so() -> None:
    line = setup.MARK + '{"python": "3.9.10", "versions": {}, "torch": {"installed": false}}'
    report = setup.read_report("PythonSlicer", REQUIREMENTS, line.encode(), b"", 0)
    assert report.code == "HS-SETUP-PYTHON"
    assert "3.9.10" in report.sentence
    assert "3.11" in report.sentence


@pytest.mark.parametrize(
    ("version", "specifier", "met"),
    [
        ("2.10.0", ">=2.8,!=2.9.*", True),
        ("2.9.1+cu128", ">=2.8,!=2.9.*", False),
        ("2.8.0a0+git", ">=2.8,!=2.9.*", True),
        ("1.6.1", ">=1.6.1,<1.7", True),
        ("1.7", ">=1.6.1,<1.7", False),
        ("6", ">=6.0", True),
        ("2.4.6", "", True),
        ("", ">=1", False),
    ],
)
def test_versions_are_compared_as_pip_does(version: str, specifier: str, met: bool) -> None:
    assert setup.satisfies(version, specifier) is met
