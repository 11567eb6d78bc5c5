"""``.ci/setup-venv``: sets up once, again when the versions change, and never removes what it did not make.

pip itself is played by a script that writes down what it is asked for: the real one needs the network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PRETENDER = """#!/bin/sh
if [ "$1" = -m ] && [ "$2" = pip ]; then
    echo "$@" >> "{log}"
    exit 0
fi
exec "{python}" "$@"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that the script looks at."""
    folder = tmp_path / "checkout"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/setup-venv", folder / ".ci/setup-venv")
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def set_up(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script in the copy, with a lock of its own."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHON", "PIP_OPTIONS")}
    return subprocess.run(
        [str(checkout / ".ci/setup-venv")],
        env={**inherited, "TMPDIR": str(checkout.parent), **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def pretend_venv(checkout: Path) -> Path:
    """An environment whose pip only keeps a log; returns the log."""
    log = checkout.parent / "pip.log"
    (checkout / ".venv/bin").mkdir(parents=True)
    python = checkout / ".venv/bin/python"
    python.write_text(PRETENDER.format(log=log, python=sys.executable), encoding="utf-8")
    python.chmod(0o755)
    return log


def installs(log: Path) -> list[str]:
    return (
        [line for line in log.read_text(encoding="utf-8").splitlines() if " install " in line] if log.exists() else []
    )


def test_installs_once_and_again_when_a_version_changes(checkout: Path) -> None:
    log = pretend_venv(checkout)
    assert set_up(checkout).returncode == 0
    assert len(installs(log)) == 1
    assert "-c constraints.txt" in installs(log)[0]
    assert ".[scene,demo,openvino,dev]" in installs(log)[0]
    assert set_up(checkout).returncode == 0
    assert len(installs(log)) == 1, "nothing has changed"
    with (checkout / "constraints.txt").open("a") as file:
        file.write("six==1.16.0\n")
    assert set_up(checkout).returncode == 0
    assert len(installs(log)) == 2


def test_pip_options_reach_pip(checkout: Path) -> None:
    log = pretend_venv(checkout)
    assert set_up(checkout, PIP_OPTIONS="--no-cache-dir --prefer-binary").returncode == 0
    assert "--no-cache-dir --prefer-binary" in installs(log)[0]


def test_a_failed_install_is_tried_again(checkout: Path) -> None:
    log = pretend_venv(checkout)
    python = checkout / ".venv/bin/python"
    good = python.read_text(encoding="utf-8")
    python.write_text(good.replace("exit 0", '[ "$3" = install ] && exit 1; exit 0'), encoding="utf-8")
    failed = set_up(checkout)
    assert failed.returncode == 2
    assert "could not be installed" in failed.stderr
    python.write_text(good, encoding="utf-8")
    assert set_up(checkout).returncode == 0
    assert len(installs(log)) == 2


def test_a_python_that_is_too_old_is_one_sentence(checkout: Path) -> None:
    old = checkout / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    done = set_up(checkout, PYTHON=str(old))
    assert done.returncode == 2
    assert str(old) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (checkout / ".venv").exists()


def test_a_tried_python_is_preferred_to_a_newer_one(checkout: Path) -> None:
    """With python3 = 3.14 and a python3.12 beside it, the environment is built on the latter."""
    programs = checkout.parent / "programs"
    programs.mkdir()
    for name, version in (("python3", "3.14"), ("python3.12", "3.12")):
        major, minor = version.split(".")
        script = (
            f'#!/bin/sh\necho "{name} $2" >> "{checkout.parent}/asked.log"\n'
            f'[ "$1" = --version ] && {{ echo "Python {version}"; exit 0; }}\n'
            f'shift\nexec "{sys.executable}" -c "import sys; sys.version_info = ({major}, {minor}); $1"\n'
        )
        (programs / name).write_text(script, encoding="utf-8")
        (programs / name).chmod(0o755)
    set_up(checkout, PATH=f"{programs}:/usr/bin:/bin")
    asked = (checkout.parent / "asked.log").read_text(encoding="utf-8")
    assert "python3.12 venv" in asked
    assert "python3 venv" not in asked


def test_a_folder_of_the_users_is_left_alone(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv/thesis.txt").write_text("keep", encoding="utf-8")
    done = set_up(checkout)
    assert done.returncode == 2
    assert "remove it, or choose another folder" in done.stderr
    assert (checkout / ".venv/thesis.txt").read_text(encoding="utf-8") == "keep"


@pytest.mark.parametrize("script", [".ci/run", ".ci/setup-venv"])
def test_scripts_are_sound_and_executable(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench", "clean"])
def test_make_targets_expand(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="ldconfig is Linux's")
def test_a_long_list_of_libraries_is_read_to_its_end(checkout: Path, tmp_path: Path) -> None:
    """Whoever stops reading at the first match ends ldconfig by SIGPIPE, which once counted as "not found"."""
    pretend_venv(checkout)
    tools = tmp_path / "tools"
    tools.mkdir()
    ldconfig = tools / "ldconfig"
    ldconfig.write_text(
        "#!/bin/sh\necho '  libstdc++.so.6 (libc6,x86-64) => /lib/libstdc++.so.6'\nseq 200000\n", encoding="utf-8"
    )
    ldconfig.chmod(0o755)
    done = set_up(checkout, PATH=f"{tools}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
