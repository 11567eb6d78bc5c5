"""What an installation would do, and how its steps are carried out with Slicer's own functions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hierseg.errors import ResourceError
from HierSubclassSegLib.compute.setup import SKIPPED, TORCH, SetupReport
from HierSubclassSegLib.compute.setup_plan import (
    InstallPlan,
    Step,
    StepKind,
    install_packages,
    install_torch,
    make_plan,
    why_failed,
    write_constraints,
)

LINUX = {"python": "3.12.10", "system": "linux", "machine": "x86_64"}
NOTHING = SetupReport(
    "HS-TORCH-MISSING",
    "torch is not installed.",
    python="PythonSlicer",
    versions=LINUX,
    missing=("monai>=1.6.1,<1.7", "SimpleITK>=2.3", "tqdm>=4.66"),
    installed={"numpy": "2.4.6", "pydicom": "3.0.1"},
)


def changed(report: SetupReport, **fields: Any) -> SetupReport:
    return SetupReport(**{**{name: getattr(report, name) for name in report.__dataclass_fields__}, **fields})


def test_torch_comes_first_and_what_slicer_brings_is_left_alone() -> None:
    plan = make_plan(NOTHING, pytorch_extension=True)
    assert [step.kind for step in plan.steps] == [StepKind.PYTORCH_EXTENSION, StepKind.PIP_ENSURE]
    assert plan.steps[1].requirements == ("monai>=1.6.1,<1.7", "tqdm>=4.66")
    assert "processor" in plan.steps[0].title
    assert plan.refusal == ""


def test_without_the_extension_its_detection_runs_in_a_child(tmp_path: Path) -> None:
    constraints = write_constraints(NOTHING, tmp_path / "constraints.txt")
    assert constraints.read_text(encoding="utf-8") == "numpy==2.4.6\npydicom==3.0.1\n"
    plan = make_plan(changed(NOTHING, graphics=("NVIDIA A100",)), constraints=constraints)
    detect, torch, _ = plan.steps
    assert detect.command[:4] == ("PythonSlicer", "-m", "pip", "install")
    assert torch.command[-4:] == ("install", "-c", str(constraints), TORCH)
    assert "NVIDIA A100" in torch.title


def test_a_failure_of_the_detection_is_a_failure_of_the_step(tmp_path: Path) -> None:
    """light-the-torch 0.8.1, run with -m, drops pip's exit code; a package of that name stands in for it here."""
    package = tmp_path / "light_the_torch"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    said = "def main():\n    import sys\n    print(sys.argv[1:])\n    return 3\n"
    (package / "__main__.py").write_text(f"{said}\n\nif __name__ == '__main__':\n    main()\n", encoding="utf-8")
    _, torch, _ = make_plan(changed(NOTHING, python=sys.executable)).steps
    done = subprocess.run(
        torch.command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout.strip() == f"['install', '{TORCH}']"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["WARNING: Retrying after ... Failed to establish a new connection", "TypeError: x"], "cannot be reached"),
        (["ERROR: Exception:", "OSError: [Errno 28] No space left on device"], "the disk is full"),
        (["ERROR: No matching distribution found for torch>=2.8"], "there is no torch 2.8 or newer"),
        (["Collecting x", "ERROR: no such thing", "a last word"], "no such thing"),
        (["a last word"], "a last word"),
        ([], "exit code 7"),
    ],
)
def test_why_an_installation_failed(lines: list[str], reason: str) -> None:
    assert reason in why_failed(lines, 7)


def test_a_broken_torch_is_removed_before_another_is_installed() -> None:
    plan = make_plan(changed(NOTHING, code="HS-TORCH-BROKEN", torch_there=True), pytorch_extension=True)
    assert plan.steps[0].command[:5] == ("PythonSlicer", "-m", "pip", "uninstall", "-y")
    assert plan.steps[1].kind is StepKind.PYTORCH_EXTENSION


def test_only_packages_missing_leaves_torch_alone() -> None:
    plan = make_plan(changed(NOTHING, code="HS-SETUP-PACKAGES", torch_there=True))
    assert [step.kind for step in plan.steps] == [StepKind.PIP_ENSURE]


def test_nothing_missing_is_nothing_to_do() -> None:
    assert make_plan(changed(NOTHING, code="")) == InstallPlan()


@pytest.mark.parametrize(
    ("versions", "word"),
    [
        ({"python": "3.12.10", "system": "darwin", "machine": "x86_64"}, "Intel"),
        ({"python": "3.12.10", "system": "win32", "machine": "x86"}, "32-bit"),
        ({"python": "3.9.10", "system": "linux", "machine": "x86_64"}, "too old"),
        (None, "too old a Python or none"),
    ],
)
def test_where_torch_cannot_be_had_only_another_python_is_offered(versions: dict[str, str] | None, word: str) -> None:
    plan = make_plan(changed(NOTHING, versions=versions), pytorch_extension=True)
    assert plan.steps == ()
    assert word in plan.refusal
    assert "another Python" in plan.refusal


def test_apple_processors_get_torch() -> None:
    versions = {"python": "3.12.10", "system": "darwin", "machine": "arm64"}
    assert make_plan(changed(NOTHING, versions=versions)).refusal == ""


def test_offline_everything_comes_from_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no wheel of torch, monai, tqdm"):
        make_plan(NOTHING, wheels=tmp_path)
    for name in ("torch-2.10.0-cp312-cp312-linux_x86_64", "monai-1.6.1-py3-none-any", "tqdm-4.67-py3-none-any"):
        (tmp_path / f"{name}.whl").touch()
    (step,) = make_plan(NOTHING, wheels=tmp_path, pytorch_extension=True).steps
    assert step.kind is StepKind.COMMAND
    assert step.command[3:7] == ("install", "--no-index", "--find-links", str(tmp_path))
    assert step.command[7:] == (TORCH, "monai>=1.6.1,<1.7", "tqdm>=4.66")
    with pytest.raises(ResourceError, match="is no folder"):
        make_plan(NOTHING, wheels=tmp_path / "absent")


class Packaging:
    """``slicer.packaging`` as ``Base/Python/slicer/packaging.py`` has it: the arguments of ``pip_ensure``, and what it raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, {}

    def pip_ensure(
        self, requirements: list[str], constraints: str | None = None, skip_packages: list[str] | None = None,
        prompt_install: bool = True, prompt_restart: bool = True, requester: str | None = None,
        skip_in_testing: bool = True, show_progress: bool = True,
    ) -> None:  # fmt: skip
        self.asked = {"requirements": requirements, "skip": skip_packages, "requester": requester}
        if self.error is not None:
            raise self.error


STEP = Step(StepKind.PIP_ENSURE, "", requirements=("monai>=1.6.1,<1.7",))


def test_the_rest_goes_through_pip_ensure() -> None:
    packaging = Packaging()
    install_packages(STEP, packaging)
    assert packaging.asked == {
        "requirements": ["monai>=1.6.1,<1.7"],
        "skip": list(SKIPPED),
        "requester": "HierSubclassSeg",
    }


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (RuntimeError("User declined package installation"), "declined"),
        (subprocess.CalledProcessError(1, "pip"), "exit code 1"),
    ],
)
def test_a_failed_installation_is_one_sentence(error: Exception, word: str) -> None:
    with pytest.raises(ResourceError, match=word):
        install_packages(STEP, Packaging(error))


def test_a_declined_torch_is_one_sentence() -> None:
    class PyTorchLogic:
        def installTorch(
            self,
            askConfirmation: bool = False,
            forceComputationBackend: Any = None,
            torchVersionRequirement: Any = None,
        ) -> None:
            assert askConfirmation
            assert torchVersionRequirement == ">=2.8,!=2.9.*"

    with pytest.raises(ResourceError, match="declined"):
        install_torch(PyTorchLogic())


def test_a_torch_that_cannot_use_the_graphics_card_can_be_exchanged() -> None:
    slow = changed(
        NOTHING, code="", graphics=("NVIDIA A100",), torch_there=True, missing=(), versions={**LINUX, "cuda": ""}
    )
    remove, *rest = make_plan(slow).steps
    assert "uninstall" in remove.command
    assert "torch for NVIDIA A100" in rest[-1].title
    for other in (changed(slow, graphics=()), changed(slow, versions={**LINUX, "cuda": "13.0"})):
        assert make_plan(other) == InstallPlan()
