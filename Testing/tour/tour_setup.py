"""Someone opens the module in a Slicer without torch and sets it up; runs inside Slicer, and changes its Python.

Only where HIERSEG_WHEELS names a folder with wheels of torch and of the requirements for Slicer's Python: what is
installed stays in that Slicer, which is best a copy.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import qt
import slicer
from hands import click, dialog_button, wait, wait_until, when_dialog
from journey import Journey, UntriedError, leave, window

INSTALL_SECONDS = 1500
LOOK_SECONDS = 150


def page() -> Any:
    """The Segment tab."""
    return slicer.modules.HierSubclassSegWidget.panel.segment_page


def setup() -> Any:
    """The banner."""
    return page().setup


def looked(journey: Journey, name: str) -> Any:
    """Wait until what is there was looked at; gives the report."""
    wait(0.3)
    wait_until(lambda: not setup()._busy, LOOK_SECONDS, "the look at what is there")
    journey.picture(f"{journey.name}-{name}")
    return setup().report


def answer(text: str, said: list[str]) -> Any:
    """Press a button of the next box, and keep what it says."""

    def press(box: Any) -> None:
        said.append(str(box.text))
        box.grab().save(str(Path(os.environ.get("HIERSEG_TEST_OUT", ".")) / f"setup-box-{text}.png"))
        dialog_button(box, text).click()

    return when_dialog(press)


def choose_wheels(folder: Path, said: list[str] | None = None) -> None:
    """Install from a folder of wheels: the button, the folder, the question."""

    def choose(dialog: Any) -> None:
        dialog.findChild("QLineEdit").setText(str(folder))
        if said is not None:
            kept.append(answer("OK", said))
        dialog_button(dialog, "Choose", "Open").click()

    kept: list[Any] = []
    setup().other.collapsed = False
    wait(0.2)
    kept.append(when_dialog(choose))
    click(setup().wheels)
    wait(0.3)
    for timer in kept:
        timer.stop()


def torch_folder() -> Path | None:
    """Where Slicer's Python would import torch from."""
    importlib.invalidate_caches()
    found = importlib.util.find_spec("torch")
    return Path(next(iter(found.submodule_search_locations or ()), "")) if found else None


def nothing_there(journey: Journey) -> dict[str, Any]:
    """Open the module where torch is missing: a banner says so in a line, and nothing is installed"""
    if not os.environ.get("HIERSEG_WHEELS"):
        raise UntriedError("HIERSEG_WHEELS names no folder of wheels to install from")
    window()
    slicer.util.selectModule("HierSubclassSeg")
    window()
    report = looked(journey, "missing")
    assert report.code == "HS-TORCH-MISSING", f"{report.code}: {report.sentence}"
    assert setup().widget.isVisible()
    assert torch_folder() is None
    return {"said": setup().sentence.text, "button": setup().button.text, "python": report.python}


def declined(_journey: Journey) -> dict[str, Any]:
    """Install…, and Cancel on reading what it does: nothing happens"""
    _have_wheels()
    said: list[str] = []
    timer = answer("Cancel", said)
    click(setup().button)
    timer.stop()
    assert "1. " in "".join(said), said
    assert setup()._installer is None
    return {"asked": said[0]}


def without_a_network(journey: Journey) -> dict[str, Any]:
    """Install… where pip reaches nothing: a sentence with the reason"""
    _have_wheels()
    said: list[str] = []
    timer = answer("OK", said)
    click(setup().button)
    timer.stop()
    wait_until(lambda: setup()._installer is None, INSTALL_SECONDS, "pip gives up")
    looked(journey, "no-network")
    assert setup().widget.isVisible()
    assert torch_folder() is None
    return {"said": setup().sentence.text}


def a_folder_without_torch(_journey: Journey) -> dict[str, Any]:
    """A folder that lacks wheels: they are named"""
    _have_wheels()
    folder = Path(slicer.app.temporaryPath) / "no wheels"
    folder.mkdir(exist_ok=True)
    choose_wheels(folder)
    said = setup().sentence.text
    assert "has no wheel of torch" in said, said
    return {"said": said}


def stopped(journey: Journey) -> dict[str, Any]:
    """Stop while torch is being copied: it is looked again, and told what is missing or broken"""
    _have_wheels()
    said: list[str] = []
    choose_wheels(Path(os.environ["HIERSEG_WHEELS"]), said)
    assert said, "nothing was asked"
    wait_until(lambda: torch_folder() is not None, INSTALL_SECONDS, "torch begins to arrive")
    wait(1.0)
    journey.picture(f"{journey.name}-installing")
    click(setup().button)
    wait_until(lambda: setup()._installer is None, 20, "the installation stops")
    report = looked(journey, "stopped")
    assert not report.ready
    return {"asked": said[0], "said": setup().sentence.text, "found": f"{report.code}: {report.sentence}"}


def from_wheels(journey: Journey) -> dict[str, Any]:
    """Install from the folder again: it comes to its end, and the banner goes"""
    _have_wheels()
    said: list[str] = []
    choose_wheels(Path(os.environ["HIERSEG_WHEELS"]), said)
    assert said, "nothing was asked"
    seconds = wait_until(lambda: setup()._installer is None, INSTALL_SECONDS, "the installation ends")
    report = looked(journey, "installed")
    assert report.ready, f"{report.code}: {report.sentence}"
    assert not setup().widget.isVisible()
    return {"asked": said[0], "seconds": round(seconds), "found": report.sentence, "hint": report.hint}


def segment_with_it(_journey: Journey) -> dict[str, Any]:
    """Load a head MRI and press Apply: Slicer's own Python computes"""
    _have_wheels()
    slicer.util.loadVolume(os.environ["HIERSEG_TEST_SAMPLE"])
    wait_until(lambda: page().segment.button.enabled, 10, "Apply can be pressed")
    click(page().segment.button)
    seconds = wait_until(lambda: page().hierarchy.node is not None, 900, page().segment.message.text)
    return {"seconds": round(seconds, 1), "said": page().segment.message.text}


def broken(journey: Journey) -> dict[str, Any]:
    """A file of torch is gone: Setup… says that it does not work, not that it is missing"""
    _have_wheels()
    folder = torch_folder()
    assert folder is not None
    (folder / "_utils.py").unlink()
    # The worker that is running has imported it already.
    setup().report = None
    setup().show()
    report = looked(journey, "broken")
    assert report.code == "HS-TORCH-BROKEN", f"{report.code}: {report.sentence}"
    return {"said": setup().sentence.text}


def repaired(journey: Journey) -> dict[str, Any]:
    """Install from the folder: the broken torch is removed first"""
    _have_wheels()
    found = from_wheels_again(journey)
    assert "1. Remove the torch that is there" in found["asked"], found["asked"]
    return found


def from_wheels_again(journey: Journey) -> dict[str, Any]:
    """The same as the first time, with the banner kept open by Setup…"""
    said: list[str] = []
    choose_wheels(Path(os.environ["HIERSEG_WHEELS"]), said)
    seconds = wait_until(lambda: setup()._installer is None, INSTALL_SECONDS, "the installation ends")
    report = looked(journey, "repaired")
    assert report.ready, f"{report.code}: {report.sentence}"
    return {"asked": said[0], "seconds": round(seconds), "found": report.sentence}


def a_package_is_missing(journey: Journey) -> dict[str, Any]:
    """A package of the requirements is gone: Slicer's own installer brings it, after its own question"""
    _have_wheels()
    slicer.util.executePythonModule("pip", ["uninstall", "-y", "nibabel"])
    setup().report = None
    setup().show()
    report = looked(journey, "package-missing")
    assert report.code == "HS-SETUP-PACKAGES", f"{report.code}: {report.sentence}"
    missing = setup().sentence.text
    said: list[str] = []
    timers = [answer("OK", said)]

    # Ours first, then Slicer's.
    second = qt.QTimer()
    second.setInterval(50)

    def ours_is_answered() -> None:
        if said:
            second.stop()
            timers.append(answer("OK", said))

    second.timeout.connect(ours_is_answered)
    second.start()
    click(setup().button)
    wait_until(lambda: setup()._installer is None, INSTALL_SECONDS, "the installation ends")
    report = looked(journey, "package-installed")
    assert report.ready, f"{report.code}: {report.sentence}"
    return {"said": missing, "asked": said}


def _have_wheels() -> None:
    if not os.environ.get("HIERSEG_WHEELS"):
        raise UntriedError("HIERSEG_WHEELS names no folder of wheels to install from")


STEPS = [
    nothing_there,
    declined,
    without_a_network,
    a_folder_without_torch,
    stopped,
    from_wheels,
    segment_with_it,
    broken,
    repaired,
    a_package_is_missing,
]

if __name__ == "__main__":
    # Not settings(): Slicer's own Python is what is set up.
    leave(Journey("setup").run(STEPS))
