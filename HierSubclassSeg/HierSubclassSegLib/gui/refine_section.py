"""Refine: the subclasses of one node become paintable, with the right masking, in an embedded Segment Editor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from hierseg.errors import HiersegError
from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.gui import layouts
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.gui.parameters import PanelParameters
from HierSubclassSegLib.gui.refine_editor import RefineEditor
from HierSubclassSegLib.gui.refine_question import OutsideQuestion
from HierSubclassSegLib.gui.refine_slices import RefineSlices
from HierSubclassSegLib.gui.refine_takeover import RefineTakeOver
from HierSubclassSegLib.gui.refine_view import SeenWhileRefining
from HierSubclassSegLib.gui.refine_workbench import Workbench
from HierSubclassSegLib.gui.superclass_choice import SuperclassChoice
from HierSubclassSegLib.scene import refine_takeover, tags, tree_store
from HierSubclassSegLib.scene.painting import RefineSession
from HierSubclassSegLib.scene.reconcile import Outside

#: after the tab is shown, the embedded editor is made
_PREPARE_MILLISECONDS = 100


class RefineSection:
    """Paints the annotation that the page shows.

    While the tab is shown, a painting session and the embedded editor are on the annotation, so that Slicer's keys undo
    every edit of it; strokes can be made only between :meth:`start` and :meth:`stop`.

    Args:
        session_changed: called with the new session, or None, when it comes or goes.
        selected: called with a node's name when another segment is selected for painting.

    Attributes:
        annotation: the segmentation node, or None.
        widget: to be put into the page.
        message: a sentence about what was done or cannot be done.
    """

    def __init__(
        self,
        session_changed: Callable[[RefineSession | None], Any] = lambda _session: None,
        selected: Callable[[str], Any] = lambda _name: None,
    ) -> None:
        self.annotation: Any = None
        self._bench = Workbench(self._show_editor, self._start_later)
        self._session_changed = session_changed
        self._selected = selected
        self._entered = False
        self._resume: str | None = None
        self._seen: SeenWhileRefining | None = None
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._follow)
        self._resume_later = qt.QTimer()
        self._resume_later.setSingleShot(True)
        self._resume_later.setInterval(0)
        self._resume_later.timeout.connect(self._refine_again)
        self._prepare_later = qt.QTimer()
        self._prepare_later.setSingleShot(True)
        self._prepare_later.setInterval(_PREPARE_MILLISECONDS)
        self._prepare_later.timeout.connect(self._prepare)
        self._make_widgets()

    @property
    def session(self) -> RefineSession | None:
        """The painting session on the annotation, or None."""
        return self._bench.session

    @property
    def editor(self) -> RefineEditor | None:
        """The embedded editor; None before the first annotation."""
        return self._bench.editor

    # -- as a section of the page -----------------------------------------------------------------------------------

    def set_parameters(self, parameters: PanelParameters | None) -> None:
        """Where answers are remembered."""
        self._question.parameters = parameters

    def set_annotation(self, node: Any) -> None:
        """Paint another annotation, or none."""
        if node is self.annotation:
            return
        self._close_session()
        self.annotation, self._resume = node, None
        self.message.say("")
        if self._entered:
            self._open_session()
        self._fill()

    def enter(self) -> None:
        """The tab is shown: what was refined when it was left is refined again."""
        self._entered = True
        self._open_session()
        if self.editor is None:
            # While the user looks at the tab: an annotation then opens in half the time.
            self._prepare_later.start()
        if self.editor is not None and self.session is not None:
            self.editor.keys(True)
        if self._resume is not None:
            # The tab is seen first.
            self._resume_later.start()

    def leave(self) -> None:
        """The tab goes out of sight: what the user saw before comes back."""
        refined = self._resume if self._resume_later.isActive() else self._name_of_refined()
        self._resume_later.stop()
        self.stop()
        self._resume = refined
        self._entered = False
        if self.editor is not None:
            self.editor.keys(False)

    def scene_closes(self) -> None:
        """The scene is about to go."""
        self.set_annotation(None)
        self.set_parameters(None)

    def close(self) -> None:
        """The module is going."""
        self._entered = False
        self.set_annotation(None)
        self._later.stop()
        self._prepare_later.stop()
        self._resume_later.stop()
        if self.editor is not None:
            self.editor.close()

    # -- what the user does -----------------------------------------------------------------------------------------

    @property
    def refining(self) -> bool:
        """Whether strokes can be made."""
        return self.session is not None and self.session.refining

    def start(self, name: str | None) -> bool:
        """Refine a node: its subclasses become paintable inside it.

        Args:
            name: of an inner node; None: the top-level nodes, everywhere.

        Returns:
            Whether strokes can be made now; if not, the message says why.
        """
        self._resume_later.stop()
        self._resume = None
        self._open_session()
        if self.session is None or self.editor is None:
            return False
        self.message.say("")
        self.stop()
        try:
            outside = self._question.answer(self.annotation)
            if outside is not None:
                self._enter(self.session, name, outside)
        except HiersegError as error:
            self.stop()
            self.message.say(error.sentence, error=True, tip=error.hint)
        if not self.session.refining:
            self._show_state()
            return False
        if self._seen is not None:
            self._seen.show()
        self.editor.start()
        self.slices.start(self.annotation)
        self.take_over.start(self.annotation)
        self._show_state()
        self._follow()
        return True

    def stop(self) -> None:
        """End painting; what the user saw before comes back."""
        if self.editor is not None:
            self.editor.stop()
        self.slices.stop()
        self.take_over.stop()
        if self._seen is not None:
            self._seen.restore()
            self._seen = None
        if self.session is not None:
            self.session.leave()
        self._show_state()

    def pick(self, name: str) -> None:
        """The user picked a node elsewhere: it is painted next or, outside Refine, it is what would be refined."""
        if self.session is None:
            return
        tree = self.session.tree
        if name not in tree:
            return
        if self.refining:
            try:
                self.session.select(name)
            except HiersegError as error:
                self.message.say(error.sentence, error=True, tip=error.hint)
            return
        self.choice.pick(tree, tree.node(name))

    def reconcile(self) -> bool:
        """Bring edits made elsewhere in line, before an export.

        Returns:
            False if the user would rather not go on, or it cannot be done.
        """
        if self.annotation is None:
            return True
        self._open_session()
        if self.session is None:
            return False
        outside = self._question.answer(self.annotation)
        if outside is None:
            return False
        try:
            repairs = self.session.reconcile(outside)
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
            return False
        if repairs:
            self.message.say(
                _("Edits made elsewhere were brought in line: {nodes}.").format(
                    nodes=", ".join(sorted(repair.node for repair in repairs))
                )
            )
        return True

    # -- the session ------------------------------------------------------------------------------------------------

    def _open_session(self) -> None:
        if self.session is not None or self.annotation is None:
            return
        try:
            self._bench.open(self.annotation)
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
            return
        if self._entered and self.editor is not None:
            self.editor.keys(True)
        self._session_changed(self.session)

    def _refine_again(self) -> None:
        if self._resume is not None and self._entered:
            self.start(self._resume or None)

    def _prepare(self) -> None:
        if self._entered:
            self._bench.prepare()

    def _close_session(self) -> None:
        self.stop()
        if self.session is not None:
            self._session_changed(None)
        self._bench.close()

    def _enter(self, session: RefineSession, name: str | None, outside: Outside) -> None:
        """Enter a node, with a segment for it and each of its children, and select a child."""
        children = self._provide(session, name)
        chosen = session.selected
        # Before the view, which then follows one selection and not two.
        session.select(children[0] if chosen is None or chosen.name not in children else chosen)
        session.enter(name, outside=outside)
        self._seen = SeenWhileRefining(session, children)

    def _provide(self, session: RefineSession, name: str | None) -> list[str]:
        """Give a node and its children the segments that they lack, in one undo step; returns the children's names."""
        tree = session.tree
        children = [child.name for child in tree.children(None if name is None else tree.node(name))]
        there = tree_store.segments_by_path(self.annotation, tree)
        lacking = [node for node in ([] if name is None else [name]) + children if tree.node(node).path not in there]
        if lacking:
            session.provide(lacking)
        return children

    def _name_of_refined(self) -> str | None:
        """The node that is refined, "" for the top level; None outside Refine."""
        if self.session is None or not self.session.refining:
            return None
        return "" if self.session.refined is None else self.session.refined.name

    # -- taking over ------------------------------------------------------------------------------------------------

    def _take(self, scope: refine_takeover.Scope, least: float | None) -> None:
        session = self.session
        if session is None or not session.refining:
            return
        try:
            copied = refine_takeover.take_over_scope(session, scope, least)
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
            return
        self.message.say(
            _("{count} voxels taken over.").format(count=copied)
            if copied
            else _("Nothing to take over there that is not annotated already.")
        )

    # -- what is seen -----------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        self.message = Message()
        self.widget = qt.QWidget()
        self._question = OutsideQuestion(self.widget)
        self.slices = RefineSlices(self._refined)
        self.take_over = RefineTakeOver(self._take, self.slices.here)
        column = layouts.column(self.widget, 4)
        row = qt.QHBoxLayout()
        column.addLayout(row)
        self.choice = SuperclassChoice(self._superclass_chosen)
        self.combo = self.choice.combo
        self.button = qt.QPushButton(_("Refine"))
        self.button.objectName = "refineButton"
        self.button.clicked.connect(self._clicked)
        self.label = qt.QLabel(_("Subclasses of:"))
        row.addWidget(self.label)
        row.addWidget(self.combo, 1)
        row.addWidget(self.button)
        column.addWidget(self.message.widget)
        self._place = qt.QVBoxLayout()
        column.addLayout(self._place)
        column.addWidget(self.slices.widget)
        column.addWidget(self.take_over.widget)
        self._fill()
        self._show_state()

    def _show_state(self) -> None:
        self.button.text = _("Done") if self.refining else _("Refine")
        self.button.toolTip = (
            _("End painting; the views show what they showed before")
            if self.refining
            else _("Paint the subclasses of the structure, inside it and nowhere else")
        )
        self.slices.widget.visible = self.refining
        if not self.refining:
            self.take_over.widget.visible = False

    def _show_editor(self, widget: Any) -> None:
        self._place.addWidget(widget)

    def _fill(self) -> None:
        """List what can be refined."""
        tree = tree_store.read_tree(self.annotation) if self.annotation is not None else None
        self.button.enabled = tree is not None
        self.choice.fill(tree, self._name_of_refined())

    def _refined(self) -> tuple[LabelTree, Node | None]:
        if self.session is None:
            raise tags.SceneError("nothing is refined.")
        return self.session.tree, self.session.refined

    def _clicked(self) -> None:
        if self.refining:
            self.stop()
            return
        name = self.choice.name
        self._open_session()
        if self.session is not None and (name is None or name in self.session.tree):
            if self._question.answer(self.annotation) is None:
                return
            # Segments now, the view a moment later: each takes Slicer its time.
            self._provide(self.session, name)
        self._resume = name or ""
        self._resume_later.start()

    def _superclass_chosen(self) -> None:
        if self.refining:
            self.start(self.choice.name)

    def _start_later(self, *_arguments: object) -> None:
        self._later.start()

    def _follow(self) -> None:
        """Show the siblings of what is selected, however it was selected, and the tree as it is now."""
        if self.session is None or self.editor is None:
            return
        self._fill()
        if not self.refining:
            return
        node, tree = self.session.selected, self.session.tree
        parent = self.session.refined if node is None else tree.parent(node)
        ids = (tree_store.segment_id_of(self.annotation, child) for child in tree.children(parent))
        self.editor.show_only([segment_id for segment_id in ids if segment_id is not None])
        if node is not None:
            self._selected(node.name)
