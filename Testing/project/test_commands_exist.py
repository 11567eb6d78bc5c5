"""Whatever tells a user to run a command names one that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hierseg.cli import available

ROOT = Path(__file__).resolve().parents[2]
# In quotes or backticks, as sentences and documents write commands.
COMMAND = re.compile(r"[`']hierseg ([a-z]+)")
TEXTS = [
    path
    for pattern in ("*.md", "docs/**/*.md", "training/*.md", "training/hierseg/**/*.py", "HierSubclassSeg/**/*.py")
    for path in sorted(ROOT.glob(pattern))
    # The design names what later work adds.
    if path.name != "architecture.md"
]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_exist(path: Path) -> None:
    named = set(COMMAND.findall(path.read_text(encoding="utf-8")))
    assert named <= set(available()), f"{path.name} names commands that do not exist"


def test_some_are_named() -> None:
    assert {"doctor", "train"} <= {name for path in TEXTS for name in COMMAND.findall(path.read_text(encoding="utf-8"))}
