"""The panel's code runs on stand-ins of the application, over the real scene; see ``Testing/standins/slicer_app``."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="the panel's tests need the slicer-core wheel: pip install slicer-core")
pytest.importorskip(
    "standins.slicer_app.pythonqt_style",
    reason="the panel's tests need Qt: pip install PySide6-Essentials, and on Linux "
    "sudo apt-get install libdbus-1-3 libegl1 libfontconfig1 libgl1 libglib2.0-0 libxkbcommon0",
    exc_type=ImportError,
)

# Test files import the panel, and with it qt and ctk, at their top.
from standins.slicer_app import application

application.install()

import slicer  # noqa: E402

from HierSubclassSegLib.scene import session  # noqa: E402
from standins.slicer_app import dialogs, modules, packages  # noqa: E402


def output_folder() -> Path:
    """Where pictures go: ``$HIERSEG_TEST_OUTPUT``, by default ``build/test-output`` of the checkout."""
    folder = Path(os.environ.get("HIERSEG_TEST_OUTPUT", Path(__file__).resolve().parents[2] / "build" / "test-output"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def _nothing_goes_unnoticed() -> Iterator[None]:
    """An exception in a slot or an observer, which Qt and VTK only print, fails the test; so does an unread answer."""
    raised: list[str] = []
    before = sys.excepthook
    sys.excepthook = lambda *details: raised.append("".join(traceback.format_exception(*details)))
    dialogs.forget()
    packages.asked.clear()
    yield
    slicer.app.processEvents()
    sys.excepthook = before
    unread = list(dialogs.answers)
    dialogs.forget()
    assert not raised, "\n".join(raised)
    assert not unread, f"The test gave answers that no dialog asked for: {unread}"


@pytest.fixture
def app_scene() -> Iterator[Any]:
    """A new, empty scene as ``slicer.mrmlScene``, with the module logics that the project uses."""
    opened = session.open_session()
    application.use(opened)
    yield opened.scene
    slicer.app.processEvents()
    opened.close()
    slicer.app.processEvents()
    application.use(None)


@pytest.fixture
def load_module(app_scene: Any) -> Iterator[Callable[[str | Path], Any]]:
    """Loads a scripted module from its file; it is left and unloaded after the test.  Enter it with ``selectModule``."""
    loaded: list[str] = []

    def load(path: str | Path) -> Any:
        module = modules.load(path)
        loaded.append(module.name)
        return module

    yield load
    for name in loaded:
        modules.unload(name)


@pytest.fixture
def screenshot(request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Writes a picture of a widget into the test output folder: ``screenshot(widget, "after apply")``."""

    def write(widget: Any, name: str) -> Path:
        slicer.app.processEvents()
        stem = re.sub(r"\W+", "_", f"{request.node.name}-{name}").strip("_")
        path = output_folder() / f"{stem}.png"
        assert widget.grab().save(str(path)), f"{path} could not be written"
        return path

    return write


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """Runs the event loop until a condition holds: ``wait_for(lambda: done, seconds=10)``."""
    import time

    def wait(condition: Callable[[], Any], seconds: float = 10.0, what: str = "the condition") -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what} did not hold within {seconds} s"
            slicer.app.processEvents()
            time.sleep(0.002)

    return wait
