"""A journey: steps one after the other, each with a screenshot and a line in a table; runs inside Slicer."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
import traceback
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from hands import CannotDoError, wait

OUT = Path(os.environ.get("HIERSEG_TEST_OUT", ".")).resolve()


class UntriedError(Exception):
    """This build of Slicer, or this computer, lacks what a step needs."""


class Journey:
    """Runs steps and writes ``<name>.json`` after each, so that a crash leaves what was done.

    A step is a function whose docstring is its title; it gets the journey and may return facts worth keeping.  The
    first failure ends the journey: its other steps are untried.

    Attributes:
        name: of the journey and of its files.
        kept: what steps leave for later ones.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.kept: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self._begin = time.perf_counter()
        OUT.mkdir(parents=True, exist_ok=True)
        # Where Python stood when Slicer crashed.
        self._fault = open(OUT / f"{name}.crash.txt", "w", encoding="utf-8")  # noqa: SIM115 - open until the end
        faulthandler.enable(self._fault)

    def run(self, steps: list[Callable[[Journey], Any]]) -> int:
        """Do the steps.

        Returns:
            0, or 1 if one failed.
        """
        failed = ""
        # What stands in the log before this line is Slicer's own; see logs.py.
        print("HierSubclassSeg tour begins", flush=True)
        for number, step in enumerate(steps, 1):
            row: dict[str, Any] = {
                "step": step.__name__,
                "title": (step.__doc__ or step.__name__).strip().split("\n")[0],
            }
            self.rows.append(row)
            if failed:
                row |= {"state": "untried", "why": f"after the failure of {failed!r}"}
                continue
            # Written before as well: after a crash the table says in which step.
            row["state"] = "failed"
            row["why"] = "Slicer ended in this step"
            self._write()
            begin = time.perf_counter()
            try:
                facts = step(self)
            except (UntriedError, unittest.SkipTest) as reason:
                row |= {"state": "untried", "why": str(reason)}
            except Exception as error:  # noqa: BLE001 - whatever it is, the table must say it
                failed = row["title"]
                kind = "" if isinstance(error, CannotDoError | AssertionError) else f"{type(error).__name__}: "
                row |= {"state": "failed", "why": f"{kind}{error}"}
                # Not the word that the log is searched for: this is the tour's own report.
                print("".join(traceback.format_exception(error)).replace("Traceback", "Trace of the failed step"))
            else:
                row["state"] = "ok"
                row.pop("why")
                if facts:
                    row["facts"] = facts
            row["seconds"] = round(time.perf_counter() - begin, 2)
            row["picture"] = self.picture(f"{self.name}-{number:02d}-{step.__name__}")
            self._write()
        self._write()
        return 1 if failed else 0

    def picture(self, name: str) -> str:
        """The main window as PNG."""
        wait(0.2)
        slicer.util.mainWindow().grab().save(str(OUT / f"{name}.png"))
        return f"{name}.png"

    def _write(self) -> None:
        whole = {"journey": self.name, "seconds": round(time.perf_counter() - self._begin, 1), "steps": self.rows}
        (OUT / f"{self.name}.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def window(width: int = 1400, height: int = 1000, panel: int = 400) -> None:
    """Give the main window and the module panel their sizes."""
    import qt

    main = slicer.util.mainWindow()
    main.resize(width, height)
    dock = slicer.util.findChild(main, "PanelDockWidget")
    main.resizeDocks([dock], [panel], qt.Qt.Horizontal)
    wait(0.3)


def settings() -> None:
    """Tell the module which Python runs its worker; Slicer runs with settings that are thrown away."""
    import qt

    python = os.environ.get("HIERSEG_PYTHON", "")
    if python:
        qt.QSettings().setValue("HierSubclassSeg/Python", python)


def leave(code: int) -> None:
    """End Slicer in its ordinary way."""
    sys.stdout.flush()
    slicer.util.exit(code)
