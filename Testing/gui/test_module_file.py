"""The module's own file, loaded from its path, entered, left and unloaded as the application does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

FILE = Path(__file__).resolve().parents[2] / "HierSubclassSeg" / "HierSubclassSeg.py"


def test_the_module_is_loaded_entered_left_and_entered_again(load_module: Callable[[Path], Any]) -> None:
    module = load_module(FILE)
    assert slicer.app.moduleManager().modulesNames() == ["HierSubclassSeg"]
    slicer.util.selectModule("HierSubclassSeg")
    widget = slicer.modules.HierSubclassSegWidget
    assert widget.entered
    panel = widget.panel
    assert panel is not None
    slicer.util.selectModule("")
    assert not widget.entered
    slicer.util.selectModule(module)
    assert widget.entered
    assert widget.panel is panel, "what was chosen and begun is still there"
