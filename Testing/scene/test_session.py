"""A scene without the application leaves nothing behind, however the process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("end", "left"),
    [("session.close()", 0), ("del session", 0), ("pass", 1)],
    ids=["closed", "forgotten", "still-open"],
)
def test_the_folder_goes_with_the_session(end: str, left: int, tmp_path: Path) -> None:
    code = (
        "import os\nfrom HierSubclassSegLib.scene.session import open_session\n"
        f"session = open_session()\nassert session.folder.is_dir()\n{end}\nos._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), check=True)
    assert len(list(tmp_path.glob("HierSubclassSeg-*"))) == left


def test_a_test_worker_leaves_no_folder(tmp_path: Path) -> None:
    """Workers of pytest-xdist end without the interpreter's own clean-up."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "base").mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "1", "-p", "no:cacheprovider"),
            *("--basetemp", str(tmp_path / "base" / "run"), "-k", "test_layers_stay", "Testing/scene/test_painting.py"),
        ],
        cwd=ROOT,
        env=environment(tmp_path / "tmp"),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert list((tmp_path / "tmp").glob("HierSubclassSeg-*")) == []


def environment(folder: Path) -> dict[str, str]:
    """This one, with the folder for temporary files."""
    paths = [str(ROOT / name) for name in ("training", "HierSubclassSeg", "Testing")]
    return {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "PYTHONPATH": os.pathsep.join(paths)}
