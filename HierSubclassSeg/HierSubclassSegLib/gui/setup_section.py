"""Setup: a banner that is there only while something is missing, and what can be done about it.

What is missing is found by a child process of the Python that is to do the work.  Nothing is installed before the user
has pressed a button and read what it does.  Once everything was found to be there, that is remembered for this Python,
and no child is started until a worker says otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

import hierseg
from hierseg.errors import HiersegError
from HierSubclassSegLib.compute import setup, setup_plan
from HierSubclassSegLib.compute.setup import SetupReport
from HierSubclassSegLib.compute.setup_plan import InstallPlan
from HierSubclassSegLib.compute.setup_worker import TrialOutcome, WorkerTrial
from HierSubclassSegLib.gui import layouts, worker
from HierSubclassSegLib.gui.child import Child
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.gui.qprocess_transport import QProcessTransport
from HierSubclassSegLib.gui.setup_steps import Installer, pytorch_extension

READY_SETTING = "HierSubclassSeg/Ready"
"""What was found to be complete: the worker's command line and hierseg's release."""
HINT_SETTING = "HierSubclassSeg/Hint"
"""What kept a graphics card from being used when that was found."""
REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
POLL_MS = 100


class SetupSection:
    """A sentence on what is missing, a button that installs it, and, folded, other ways and the log.

    Args:
        changed: called when another worker was chosen, or packages were installed.
        hint: called with what keeps a graphics card from being used; empty if nothing does.

    Attributes:
        widget: the banner.
        report: what was found by the last look; None before it.
    """

    def __init__(self, changed: Callable[[], None], hint: Callable[[str], None]) -> None:
        self._changed, self._hint = changed, hint
        self.report: SetupReport | None = None
        self._plan = InstallPlan()
        self._probe: Child | None = None
        self._installer: Installer | None = None
        self._trial: WorkerTrial | None = None
        self._tried = self._problem = ""
        self._wanted = False
        self._made = False
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._poll)
        self._look_later = qt.QTimer()
        self._look_later.setSingleShot(True)
        self._look_later.setInterval(0)
        self._look_later.timeout.connect(self.look)
        self.widget = qt.QFrame()
        self.widget.objectName = "setupBanner"
        self.widget.setFrameShape(qt.QFrame.StyledPanel)
        self.widget.visible = False

    # -- what the page calls ----------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Look at what is there, unless it was complete the last time or is being looked at."""
        if self.report is not None or self._busy:
            return
        if _setting(READY_SETTING) == _identity():
            self._hint(_setting(HINT_SETTING))
        else:
            # The panel is seen first.
            self._look_later.start()

    def show(self) -> None:
        """The user wants to see the setup, whether something is missing or not."""
        self._wanted = True
        self._make()
        self.other.collapsed = False
        self.widget.visible = True
        self.worker_edit.text = worker.chosen()
        if self.report is None and not self._busy:
            self.look()
        self._show_state()

    def look(self) -> None:
        """Find out what the chosen worker has, in a child; the banner appears if something is missing."""
        self._look_later.stop()
        if self._busy:
            return
        self._make()
        qt.QSettings().remove(READY_SETTING)
        try:
            command = worker.command()
        except HiersegError as error:
            self._show(error.sentence, error=True)
            return
        if command[1:3] == ["-m", "hierseg"]:
            self.sentence.say(_("Looking at what is installed…"))
            self._probe = Child(
                setup.probe_command(command[0]),
                worker.startup_environment(),
                lambda out, err, code: self._probed(command[0], out, err, code),
                seconds=setup.PROBE_SECONDS,
            )
        else:
            self._try(worker.chosen())
        self._show_state()

    def diagnostics(self) -> list[str]:
        """What the last look has found, for a report."""
        return self.report.diagnostics().splitlines() if self.report is not None else []

    def close(self) -> None:
        """Stop all children."""
        self._timer.stop()
        self._look_later.stop()
        for child in (self._probe, self._installer):
            if child is not None:
                child.forget()
        if self._trial is not None:
            self._trial.cancel()
            end = time.monotonic() + 1.0
            while not self._trial.finished and time.monotonic() < end:
                self._trial.poll()
                time.sleep(0.01)
        self._probe = self._installer = self._trial = None

    # -- looking ----------------------------------------------------------------------------------------------------

    @property
    def _busy(self) -> bool:
        return self._probe is not None or self._installer is not None or self._trial is not None

    def _probed(self, python: str, out: bytes, err: bytes, code: int | None) -> None:
        self._probe = None
        problem, self._problem = self._problem, ""
        if not out and not err:
            report = setup.not_started(python, _("there is no such program, or it does not answer"))
        else:
            report = setup.read_report(python, setup.load_requirements(REQUIREMENTS), out, err, code)
        self.report = report
        hint = report.hint if report.ready else ""
        qt.QSettings().setValue(HINT_SETTING, hint)
        self._hint(hint)
        self.log.appendPlainText(report.diagnostics())
        self._plan = InstallPlan()
        if report.ready:
            self._complete(f"{report.sentence} {report.hint}".strip())
            return
        sentence = report.sentence
        if not worker.chosen():
            self._plan = setup_plan.make_plan(report, pytorch_extension=pytorch_extension())
            if self._plan.refusal:
                # A Python that does not even start says so itself.
                sentence = f"{sentence} {report.hint}" if report.code == "HS-SETUP-PYTHON" else self._plan.refusal
                self.other.collapsed = False
        else:
            sentence = f"{sentence} {report.hint}"
        if problem:
            sentence = f"{problem.rstrip('.')}. {sentence}"
        self._show(sentence, error=True, tip=report.hint)

    def _complete(self, sentence: str) -> None:
        """Nothing is missing: the banner goes, unless the user has asked for it."""
        qt.QSettings().setValue(READY_SETTING, _identity())
        self._plan = InstallPlan()
        if self.report is not None and not worker.chosen():
            # Offered to whoever opens the setup: a torch for the graphics card, where this one cannot use it.
            self._plan = setup_plan.make_plan(self.report, pytorch_extension=pytorch_extension())
        self.sentence.say(sentence)
        self.widget.visible = self._wanted
        self._show_state()

    def _show(self, sentence: str, *, error: bool = False, tip: str = "") -> None:
        self.sentence.say(sentence, error=error, tip=tip)
        self.widget.visible = True
        self._show_state()

    # -- installing -------------------------------------------------------------------------------------------------

    def _button_clicked(self, *_arguments: object) -> None:
        if self._installer is not None:
            self._installer.stop()
        elif self._plan.steps:
            self._install(self._plan)
        else:
            self._wanted = False
            self.widget.visible = False

    def _wheels_clicked(self, *_arguments: object) -> None:
        if self.report is None or self._busy:
            return
        folder = qt.QFileDialog.getExistingDirectory(self.widget, _("A folder of wheel files"))
        if not folder:
            return
        try:
            plan = setup_plan.make_plan(self.report, wheels=Path(folder), constraints=self._constraints())
        except HiersegError as error:
            self._show(error.sentence, error=True, tip=error.hint)
            return
        self._install(plan)

    def _install(self, plan: InstallPlan) -> None:
        steps = "\n".join(f"{number}. {step.title}" for number, step in enumerate(plan.steps, 1))
        question = _("This changes the packages of {python}:").format(python=self.report.python if self.report else "")
        if not slicer.util.confirmOkCancelDisplay(f"{question}\n\n{steps}"):
            return
        self.other.collapsed = False
        self._installer = Installer(
            plan, worker.startup_environment(), self._constraints(), self._add_line, self._installed
        )
        self._show(_("Installing…"))
        self._installer.start()

    def _add_line(self, line: str) -> None:
        self.log.appendPlainText(line)
        # It was folded when the first lines came: then it does not follow by itself.
        self.log.verticalScrollBar().value = self.log.verticalScrollBar().maximum

    def _constraints(self) -> Path | None:
        if self.report is None:
            return None
        return setup_plan.write_constraints(self.report, Path(slicer.app.temporaryPath) / "hierseg-constraints.txt")

    def _installed(self, problem: str) -> None:
        self._installer = None
        # What failed or was stopped half way may have changed the Python as well.
        self._problem = problem
        self.look()
        self._changed()

    # -- another Python or computer ---------------------------------------------------------------------------------

    def _browse(self, *_arguments: object) -> None:
        path = qt.QFileDialog.getOpenFileName(self.widget, _("A Python that has torch and hierseg's requirements"))
        if path:
            self.worker_edit.text = path

    def _test_clicked(self, *_arguments: object) -> None:
        self._try(str(self.worker_edit.text))

    def _use_clicked(self, *_arguments: object) -> None:
        text = str(self.worker_edit.text).strip()
        worker.choose(text)
        self.report = None
        self._changed()
        if text:
            # Tested before it is relied on.
            self._try(text)
        else:
            self.look()

    def _try(self, text: str) -> None:
        if self._busy:
            return
        try:
            transport = QProcessTransport(worker.command(text), worker.startup_environment())
            self._trial = WorkerTrial(transport, self._tested, shown=text.strip() or worker.own_python())
        except HiersegError as error:
            self.outcome.say(error.sentence, error=True, tip=error.hint)
            return
        self._tried = text.strip()
        self.outcome.say(_("Waiting for an answer…"))
        self._timer.start()
        self._show_state()

    def _tested(self, outcome: TrialOutcome) -> None:
        self.outcome.say(f"{outcome.sentence} {outcome.hint}".strip(), error=not outcome.ok)
        if outcome.detail:
            self.log.appendPlainText(outcome.detail)
        if self._tried != worker.chosen():
            return
        if outcome.ok:
            self._complete(outcome.sentence)
        else:
            self.other.collapsed = False
            self._show(outcome.sentence, error=True, tip=outcome.hint)

    def _poll(self) -> None:
        if self._trial is not None:
            self._trial.poll()
            if self._trial.finished:
                self._trial = None
        if self._trial is None:
            self._timer.stop()
            self._show_state()

    # -- widgets ----------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        """Make what is in the banner: where nothing is missing, nobody needs it."""
        if self._made:
            return
        self._made = True
        column = qt.QVBoxLayout(self.widget)
        column.setContentsMargins(6, 6, 6, 6)
        self.sentence = Message()
        self.button = qt.QPushButton()
        self.button.objectName = "setupInstallButton"
        self.button.clicked.connect(self._button_clicked)
        self.other = ctk.ctkCollapsibleButton()
        self.other.objectName = "setupOtherButton"
        self.other.text = _("Another Python or computer, log")
        self.other.collapsed = True
        for part in (self.sentence.widget, self.button, self.other):
            column.addWidget(part)
        inside = qt.QVBoxLayout(self.other)
        self.worker_edit = qt.QLineEdit()
        self.worker_edit.objectName = "workerEdit"
        self.worker_edit.placeholderText = _("Slicer's own Python")
        self.worker_edit.toolTip = _(
            "A Python, the folder of a virtual environment, or a command such as: ssh HOST hierseg worker"
        )
        self.worker_edit.text = worker.chosen()
        browse = qt.QToolButton()
        browse.text = "…"
        browse.toolTip = _("Choose a Python")
        browse.clicked.connect(self._browse)
        self.test = _button(_("Test"), _("Start it and see whether it answers"), self._test_clicked)
        self.use = _button(_("Use this Python"), _("Segment with it from now on"), self._use_clicked)
        self.wheels = _button(
            _("Install from a folder of wheels…"), _("Without a network: from files copied here"), self._wheels_clicked
        )
        self.outcome = Message()
        self.log = qt.QPlainTextEdit()
        self.log.readOnly = True
        self.log.maximumBlockCount = 2000
        self.log.setFixedHeight(100)
        self.log.placeholderText = _("What was found, and what an installation says, appears here.")
        for part in (
            layouts.row(self.worker_edit, browse),
            layouts.row(self.test, self.use),
            self.outcome.widget,
            self.wheels,
            self.log,
        ):
            inside.addWidget(part)
        self._show_state()

    def _show_state(self) -> None:
        busy = self._busy
        installing = self._installer is not None
        done = self.report is not None and self.report.ready and not self.report.other_torch
        self.button.visible = installing or bool(self._plan.steps) or self._wanted
        self.button.enabled = installing or not busy
        if installing:
            self.button.text = _("Stop")
        else:
            install = _("Install… (about {size})").format(size=self._plan.size) if self._plan.size else _("Install…")
            self.button.text = install if self._plan.steps else _("Close")
        self.button.toolTip = "\n".join(step.title for step in self._plan.steps)
        for control in (self.test, self.use, self.worker_edit):
            control.enabled = not busy
        self.wheels.enabled = not busy and self.report is not None and not done and not worker.chosen()


def _button(text: str, tip: str, clicked: Callable[..., Any]) -> qt.QPushButton:
    button = qt.QPushButton(text)
    button.toolTip = tip
    button.clicked.connect(clicked)
    return button


def _identity() -> str:
    """The worker that is chosen, and the release that uses it."""
    try:
        return f"{' '.join(worker.command())} {hierseg.__version__}"
    except HiersegError:
        # Equal to nothing that was ever remembered.
        return "?"


def _setting(name: str) -> str:
    return str(qt.QSettings().value(name) or "")
