"""Setup as a user meets it: real child processes, stand-ins for what pip would do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import qt
import slicer

from HierSubclassSegLib.gui import setup_section, worker
from HierSubclassSegLib.gui.setup_section import SetupSection
from standins.panels import open_panel
from standins.slicer_app import dialogs, packages


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    worker.choose("")
    yield
    worker.choose("")


@pytest.fixture
def odd_python(tmp_path: Path) -> Callable[[str], str]:
    """A program that answers the look at it in its own way."""

    def make(script: str) -> str:
        path = tmp_path / "python-odd"
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    return make


def says(**facts: Any) -> str:
    """A script that reports like ``hierseg.probe``."""
    import json

    whole = {"python": "3.12.1", "system": "linux", "machine": "x86_64", "graphics": [], "versions": {}, "modules": []}
    return f"echo 'HIERSEG-PROBE {json.dumps({**whole, **facts})}'"


@pytest.fixture
def opened(app_scene: Any) -> Iterator[Callable[..., SetupSection]]:
    widgets: list[Any] = []

    def make(**named: Any) -> SetupSection:
        widgets.append(open_panel(**named))
        return widgets[-1].panel.segment_page.setup

    yield make
    for widget in widgets:
        widget.cleanup()


def test_nothing_is_shown_and_nothing_started_where_all_was_there(opened: Callable[..., SetupSection]) -> None:
    setup = opened()
    assert setup.widget.isHidden()
    assert setup._probe is None


def test_a_complete_python_is_found_to_be_so_once(
    opened: Callable[..., SetupSection], wait_for: Callable[..., None]
) -> None:
    setup = opened(known=False)
    wait_for(lambda: setup.report is not None, 60)
    assert setup.report.ready, setup.report.sentence
    assert setup.widget.isHidden()
    assert qt.QSettings().value(setup_section.READY_SETTING) == setup_section._identity()
    setup.show()
    assert not setup.widget.isHidden()
    assert setup.button.text == "Close"
    setup.button.click()
    assert setup.widget.isHidden()


def test_missing_torch_is_told_in_a_line_and_installed_on_a_word(
    opened: Callable[..., SetupSection],
    odd_python: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    wait_for: Callable[..., None],
    screenshot: Callable[..., Path],
) -> None:
    python = odd_python(
        f'if [ "$2" = hierseg.probe ]; then\n{says(torch={"installed": False})}\nelse echo "ran $*"; fi'
    )
    monkeypatch.setattr(worker, "own_python", lambda: python)
    setup = opened(known=False)
    wait_for(lambda: setup.report is not None, 30)
    assert not setup.widget.isHidden()
    assert setup.sentence.text == "torch, which computes the segmentation, is not installed."
    assert setup.button.text == "Install… (about 350 MB)"
    assert "torch for the processor (about 250 MB)" in setup.button.toolTip
    assert setup.other.collapsed
    assert packages.asked == []
    setup.sentence.say("A sentence that is long enough to need several lines in a narrow panel. " * 3, error=True)
    setup.other.collapsed = False
    slicer.app.processEvents()
    label = setup.sentence.widget
    assert label.height >= label.heightForWidth(label.width) > 40
    setup.other.collapsed = True
    setup.sentence.say("torch, which computes the segmentation, is not installed.", error=True)
    screenshot(setup.widget.window(), "missing")
    dialogs.answers.append(qt.QMessageBox.Cancel)
    setup.button.click()
    assert setup._installer is None
    assert "1. Install light-the-torch" in dialogs.texts()
    dialogs.answers.append(qt.QMessageBox.Ok)
    setup.button.click()
    wait_for(lambda: setup._installer is None, 30)
    log = setup.log.plainText
    assert "ran -m pip install" in log
    bar = setup.log.verticalScrollBar()
    assert bar.value == bar.maximum > 0, "the log follows what is said"
    assert "ran -c import sys; from light_the_torch" in log
    wait_for(lambda: setup._probe is None, 30)
    assert not setup.widget.isHidden(), "this Python still has no torch"


def test_a_failing_installation_says_why(
    opened: Callable[..., SetupSection],
    odd_python: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    wait_for: Callable[..., None],
) -> None:
    failing = 'echo "ERROR: no space left on device" >&2; exit 1'
    python = odd_python(f'if [ "$2" = hierseg.probe ]; then\n{says(torch={"installed": False})}\nelse {failing}; fi')
    monkeypatch.setattr(worker, "own_python", lambda: python)
    setup = opened(known=False)
    wait_for(lambda: setup.report is not None, 30)
    dialogs.answers.append(qt.QMessageBox.Ok)
    setup.button.click()
    wait_for(lambda: setup._installer is None, 30)
    wait_for(lambda: setup._probe is None, 30)
    assert "failed: no space left on device. torch, which" in setup.sentence.text
    assert setup.button.text.startswith("Install…")


def test_where_no_torch_can_be_had_only_another_python_is_offered(
    opened: Callable[..., SetupSection],
    odd_python: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    wait_for: Callable[..., None],
) -> None:
    python = odd_python(says(system="darwin", torch={"installed": False}))
    monkeypatch.setattr(worker, "own_python", lambda: python)
    setup = opened(known=False)
    wait_for(lambda: setup.report is not None, 30)
    assert "There is no torch 2.8 or newer for Intel Macs" in setup.sentence.text
    assert setup.button.isHidden()
    assert not setup.other.collapsed


def test_another_python_is_tested_and_used(
    opened: Callable[..., SetupSection],
    tmp_path: Path,
    wait_for: Callable[..., None],
    screenshot: Callable[..., Path],
) -> None:
    setup = opened()
    setup.show()
    wait_for(lambda: setup._probe is None, 60)
    setup.worker_edit.text = str(tmp_path / "nothing")
    setup.test.click()
    assert "does not exist" in setup.outcome.text
    setup.worker_edit.text = "echo hierseg worker"
    setup.test.click()
    wait_for(lambda: setup._trial is None, 60)
    assert setup.outcome.text
    assert worker.chosen() == ""
    setup.worker_edit.text = sys.executable
    setup.use.click()
    assert worker.chosen() == sys.executable
    wait_for(lambda: setup._trial is None, 60)
    assert "answers: torch" in setup.outcome.text
    assert worker.python() == sys.executable
    screenshot(setup.widget.window(), "another Python")


def test_wheels_come_from_a_folder(
    opened: Callable[..., SetupSection],
    odd_python: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_for: Callable[..., None],
) -> None:
    python = odd_python(
        f'if [ "$2" = hierseg.probe ]; then\n{says(torch={"installed": False})}\nelse echo "ran $*"; fi'
    )
    monkeypatch.setattr(worker, "own_python", lambda: python)
    setup = opened(known=False)
    wait_for(lambda: setup.report is not None, 30)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    dialogs.answers.append(str(wheels))
    setup.wheels.click()
    assert "has no wheel of torch" in setup.sentence.text
    for line in ["torch==2.8", *setup.report.missing]:
        name = setup_section.setup.split_requirement(line)[0]
        (wheels / f"{name.replace('-', '_')}-1-py3-none-any.whl").write_bytes(b"")
    dialogs.answers += [str(wheels), qt.QMessageBox.Ok]
    setup.wheels.click()
    wait_for(lambda: setup._installer is None, 30)
    assert "--no-index --find-links" in setup.log.plainText


def test_a_card_that_torch_cannot_use_is_told_now_and_the_next_time(
    opened: Callable[..., SetupSection],
    odd_python: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    wait_for: Callable[..., None],
) -> None:
    names = {setup_section.setup.split_requirement(line)[0] for line in requirements()}
    versions = {setup_section.setup.normalized(name): "9999" for name in names}
    versions |= {"monai": "1.6.1"}
    torch = {"installed": True, "version": "2.8.0", "cuda": "", "devices": []}
    python = odd_python(says(torch=torch, versions=versions, graphics=[{"name": "NVIDIA A100"}]))
    monkeypatch.setattr(worker, "own_python", lambda: python)
    setup = opened(known=False)
    wait_for(lambda: setup.report is not None, 30)
    assert setup.report.ready, setup.report.sentence
    assert setup.widget.isHidden(), "all that is needed is there"
    # The hint has a button: Setup… offers a torch for the card.
    setup.show()
    assert "NVIDIA A100 is there" in setup.sentence.text
    assert setup.button.text == "Install… (about 3.0 GB)"
    assert "torch for NVIDIA A100" in setup.button.toolTip
    again = open_panel()
    options = again.panel.segment_page.segment.options
    options.widget.collapsed = False
    assert "NVIDIA A100 is there, but this torch is built without CUDA" in options.hint.text
    assert again.panel.segment_page.setup.report is None
    again.cleanup()


def requirements() -> list[str]:
    return setup_section.setup.load_requirements(setup_section.REQUIREMENTS)


def test_an_installation_can_be_stopped(
    opened: Callable[..., SetupSection],
    odd_python: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    wait_for: Callable[..., None],
) -> None:
    python = odd_python(
        f'if [ "$2" = hierseg.probe ]; then\n{says(torch={"installed": False})}\nelse echo begun; sleep 60; fi'
    )
    monkeypatch.setattr(worker, "own_python", lambda: python)
    setup = opened(known=False)
    wait_for(lambda: setup.report is not None, 30)
    dialogs.answers.append(qt.QMessageBox.Ok)
    setup.button.click()
    assert setup.button.text == "Stop"
    wait_for(lambda: "begun" in setup.log.plainText, 30)
    setup.button.click()
    wait_for(lambda: setup._installer is None, 5)
    # What was stopped may have changed this Python: it is looked at again, and both are told.
    wait_for(lambda: setup._probe is None, 30)
    assert setup.sentence.text.startswith("Stopped in the middle of: Install light-the-torch")
    assert setup.sentence.text.endswith("torch, which computes the segmentation, is not installed.")
    assert setup.button.text.startswith("Install…")
