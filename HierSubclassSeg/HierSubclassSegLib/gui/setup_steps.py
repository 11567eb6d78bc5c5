"""Carrying out an installation that the user has agreed to, step after step, with a log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from hierseg.errors import HiersegError
from HierSubclassSegLib.compute import setup_plan
from HierSubclassSegLib.compute.setup_plan import InstallPlan, Step, StepKind
from HierSubclassSegLib.gui.child import Child

DETAIL_LINES = 200
"""Among the last lines of a failed installation is why it failed: pip tries again, and says so, before it gives up."""


class Installer:
    """Runs the steps of a plan: children with a log, and what Slicer itself offers, which asks the user.

    Args:
        plan: what is to be done.
        env: the children's environment.
        constraints: keeps Slicer's own packages at their versions.
        on_line: called with each line of the log.
        on_done: called once, with what went wrong in one sentence; empty if all went well.
    """

    def __init__(
        self,
        plan: InstallPlan,
        env: Mapping[str, str],
        constraints: Path | None,
        on_line: Callable[[str], None],
        on_done: Callable[[str], None],
    ) -> None:
        self._steps = list(plan.steps)
        self._env, self._constraints = env, constraints
        self._on_line, self._on_done = on_line, on_done
        self._child: Child | None = None
        self._tail: list[str] = []

    def start(self) -> None:
        """Begin."""
        self._next()

    def stop(self) -> None:
        """End the step that is running; ``on_done`` is told."""
        if self._child is not None:
            self._child.stop()

    def forget(self) -> None:
        """End it without telling anybody."""
        if self._child is not None:
            self._child.forget()
            self._child = None

    def _next(self) -> None:
        if not self._steps:
            self._on_done("")
            return
        step = self._steps.pop(0)
        self._on_line(f"— {step.title}")
        if step.kind is StepKind.COMMAND:
            self._tail = []
            self._on_line("$ " + " ".join(step.command))
            self._child = Child(step.command, self._env, lambda *end: self._ended(step, end[2]), self._line)
            return
        try:
            if step.kind is StepKind.PYTORCH_EXTENSION:
                import PyTorchUtils

                setup_plan.install_torch(PyTorchUtils.PyTorchUtilsLogic())
            else:
                from slicer import packaging

                setup_plan.install_packages(step, packaging, self._constraints)
        except HiersegError as error:
            self._on_done(error.sentence)
            return
        except ImportError as error:
            self._on_done(
                _("Slicer's installer is not there ({reason}); use another Python.").format(reason=str(error))
            )
            return
        self._next()

    def _line(self, line: str) -> None:
        self._tail = [*self._tail[-DETAIL_LINES + 1 :], line]
        self._on_line(line)

    def _ended(self, step: Step, code: int | None) -> None:
        self._child = None
        if code == 0:
            self._next()
        elif code is None:
            self._on_done(_("Stopped in the middle of: {step}.").format(step=step.title))
        else:
            reason = setup_plan.why_failed(self._tail, code)
            self._on_done(_("'{step}' failed: {reason}").format(step=step.title, reason=reason))


def pytorch_extension() -> bool:
    """Whether Slicer's PyTorch extension is installed."""
    return hasattr(slicer.modules, "pytorchutils")
