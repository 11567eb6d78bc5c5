"""The examples in docstrings are run: an example that is wrong is worse than none."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT / "training").with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "training/hierseg").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_hold(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0, f"{name} has '>>>' that doctest does not find"
    assert results.failed == 0


def test_the_label_tree_teaches_by_example() -> None:
    assert "hierseg.labeltree" in WITH_EXAMPLES
