"""The tutorial's numbered lines are the steps that the tour in Slicer makes, in the same order."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_line_of_the_tutorial_is_a_step_of_the_tour() -> None:
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    lines = re.findall(r"^(\d+)\. (?:<!-- (\w+) -->)?", text, re.MULTILINE)
    tree = ast.parse((ROOT / "Testing/tour/tour_tutorial.py").read_text(encoding="utf-8"))
    steps = next(
        [element.id for element in node.value.elts if isinstance(element, ast.Name)]
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STEPS" and isinstance(node.value, ast.List)
    )
    assert [int(number) for number, _step in lines] == list(range(1, len(lines) + 1))
    assert [step for _number, step in lines] == steps


def test_screenshots_are_small() -> None:
    pictures = list((ROOT / "Resources/Screenshots").glob("*.png"))
    assert pictures, "the tour's pictures belong in Resources/Screenshots"
    assert [path.name for path in pictures if path.stat().st_size > 300_000] == []
