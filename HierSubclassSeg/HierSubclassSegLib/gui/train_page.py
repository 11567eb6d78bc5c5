"""The Train tab: start a fine-tuning, follow it, use what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slicer.i18n import tr as _

from HierSubclassSegLib.compute.training import TrainingRun
from HierSubclassSegLib.gui import layouts
from HierSubclassSegLib.gui.column import Column
from HierSubclassSegLib.gui.parameters import PanelParameters
from HierSubclassSegLib.gui.train_run_section import TrainRunSection
from HierSubclassSegLib.gui.train_setup_section import TrainSetupSection


class TrainPage:
    """Fine-tunes a model on a dataset folder; see :class:`~HierSubclassSegLib.gui.page.Page`.

    Args:
        use_model: called with the id of a new model of the user's.
        devices: what the worker found, if it has said so.

    Attributes:
        setup: the choices of a new run.
        runs: the list of runs and the one that is followed.
    """

    def __init__(
        self,
        use_model: Callable[[str], None] = lambda _model: None,
        devices: Callable[[], Sequence[Mapping[str, Any]]] = tuple,
    ) -> None:
        self.title = _("Train")
        self._parameters: PanelParameters | None = None
        self.widget = Column()
        self.setup = TrainSetupSection(self._started, self._setup_changed, devices, self.widget.fit)
        self.runs = TrainRunSection(use_model, self.widget.fit)
        layout = layouts.column(self.widget)
        layout.addWidget(self.setup.widget)
        layout.addWidget(self.runs.widget)
        layout.addStretch(1)

    def set_parameters(self, parameters: PanelParameters | None) -> None:
        """Show and remember choices in another parameter node; None lets go of the present one."""
        self._parameters = parameters
        if parameters is not None:
            self.setup.set_dataset(str(parameters.dataset))

    def enter(self) -> None:
        """The tab is shown: the dataset and the runs may have changed."""
        if self._parameters is not None:
            self.setup.set_dataset(str(self._parameters.dataset))
        if not str(self.setup.folder.currentPath):
            self.setup.set_dataset(self.runs.latest_dataset())
        self.setup.refresh(str(self._parameters.model) if self._parameters is not None else "")
        self.runs.enter()

    def leave(self) -> None:
        """Another tab or module is shown; a training goes on."""
        self.runs.leave()

    def scene_closes(self) -> None:
        """The scene is about to go, and the curve with it; a training goes on."""
        self.runs.leave()
        self._parameters = None

    def close(self) -> None:
        """The module is going; a training goes on."""
        self.setup.close()
        self.runs.close()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _started(self, run: TrainingRun) -> None:
        self.runs.follow(run)

    def _setup_changed(self) -> None:
        if self._parameters is not None:
            self._parameters.dataset = str(self.setup.folder.currentPath)
