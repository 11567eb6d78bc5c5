"""Hierarchy: the label tree of a segmentation with eyes, colors, volumes, status and locks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from hierseg.errors import HiersegError
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.gui.hierarchy_actions import HierarchyActions
from HierSubclassSegLib.gui.hierarchy_columns import EYE, LOCK, NAME, STATUS, Columns
from HierSubclassSegLib.gui.hierarchy_follower import Follower
from HierSubclassSegLib.gui.hierarchy_grouping import GroupingOffer
from HierSubclassSegLib.gui.hierarchy_menu import fill_row_menu, fill_section_menu
from HierSubclassSegLib.gui.hierarchy_rows import Rows
from HierSubclassSegLib.gui.hierarchy_surfaces import Surfaces
from HierSubclassSegLib.gui.hierarchy_view import HierarchyView
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.scene import grouping, marks, tree_store, visibility
from HierSubclassSegLib.scene.hierarchy_edits import HierarchyEdits, PlainEdits
from HierSubclassSegLib.scene.measures import Measures

COUNT_SECONDS = 0.01
"""Time that counting voxels may take of the event loop at a go."""
_NEXT = {"on": False, "partial": True, "off": True}


class HierarchySection:
    """A tree that follows one segmentation.

    Args:
        editable: the tree can be edited, and shows the nodes that have no segment yet.
        on_selected: called with a node's name when the user picks its row; not by :meth:`select`.
        on_imported: called with the segmentation that was made of a label map; None: it is shown here.

    Attributes:
        node: the segmentation, or None.
        tree: its label tree, or None.
        session: the painting session (``scene.painting.RefineSession``) that edits go through while there is one;
            set by who opens and closes it.
        save_state: saves the state for undo where there is no session: the embedded Segment Editor's
            ``saveStateForUndo``; None: edits cannot be undone.
        depth: the depth that the tree is shown to, or None.
        rows, columns, actions, surfaces, grouping, message: its parts.
    """

    def __init__(
        self,
        editable: bool = False,
        on_selected: Callable[[str], Any] | None = None,
        on_imported: Callable[[Any], Any] | None = None,
    ) -> None:
        self.editable = editable
        self.on_selected = on_selected
        self.on_imported = on_imported
        self.session: HierarchyEdits | None = None
        self.save_state: Callable[[], Any] | None = None
        self.node: Any = None
        self.tree: LabelTree | None = None
        self.depth: int | None = None
        self._measures: Measures | None = None
        self._folds_by_user = True
        self.message = Message()
        self.view = HierarchyView()
        self.rows = Rows(self.view, editable)
        self.columns = Columns(self.view, editable)
        self.actions = HierarchyActions(self)
        self.surfaces = Surfaces(self)
        self.grouping = GroupingOffer(self)
        self._make_widgets()
        self._follower = Follower(self._follow)
        # Pictures are drawn in the palette's colors.
        self.view.recolored = self._follower.again
        self._counting = qt.QTimer()
        self._counting.setInterval(20)
        self._counting.timeout.connect(self._count)

    # -- what is shown ----------------------------------------------------------------------------------------------

    def set_node(self, node: Any) -> None:
        """Show another segmentation, or none.  A label map volume is offered to be made one."""
        self.surfaces.stop()
        self.rows.clear()
        self.node, self.tree, self.depth = node, None, None
        self._build()
        self._follower.follow(node if _is_segmentation(node) else None)

    def close(self) -> None:
        """Stop following."""
        self._counting.stop()
        self.surfaces.stop()
        self._follower.follow(None)
        self.node = self.session = self.save_state = None

    def edits(self) -> HierarchyEdits:
        """What edits go through: the painting session if there is one for this segmentation."""
        if self.session is not None and self.session.segmentation_node is self.node:
            return self.session
        return PlainEdits(self.node, self.save_state)

    @property
    def selected(self) -> str | None:
        """The name of the node whose row is picked."""
        return _name_of(self.view.currentItem())

    def select(self, name: str | None) -> None:
        """Pick the row of a node; ``on_selected`` is not called."""
        item = self.rows.items.get(name) if name is not None else None
        blocked = self.view.blockSignals(True)
        self.view.setCurrentItem(item)
        self.view.blockSignals(blocked)
        if item is not None:
            self.view.scrollToItem(item)

    def show_depth(self, depth: int) -> None:
        """Show the tree to a depth, 1 for the top level."""
        if self.tree is None:
            return
        self.depth = depth
        visibility.show_depth(self.node, self.tree, depth)
        self._fold({name for name in self.rows.items if self.tree.node(name).depth < depth})
        self.follow()

    def toggle(self, name: str) -> None:
        """Show a branch that is hidden or partly shown, hide one that is shown."""
        state = self.rows.shown.get(name)
        if self.tree is not None and state is not None:
            visibility.set_visible(self.node, self.tree, name, _NEXT[state], self.depth)
            self.follow()

    def search(self, text: str) -> None:
        """Show only the rows whose name or alias holds the text, with what is above and below them."""
        if self.tree is not None:
            self._folds_by_user = False
            self.rows.search(self.tree, text)
            self._folds_by_user = True

    def fold_all(self, folded: bool) -> None:
        """Fold or unfold every branch."""
        self._fold(set() if folded else set(self.rows.items))
        self._remember_folds()

    def follow(self) -> None:
        """Show now what the scene has; otherwise it is shown when the event loop comes round."""
        self._follower.settle()
        self._follow()

    # -- building ---------------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.bar = qt.QWidget()
        row = qt.QHBoxLayout(self.bar)
        row.setContentsMargins(0, 0, 0, 0)
        self.depths = qt.QComboBox()
        self.depths.objectName = "depthCombo"
        self.depths.toolTip = _("How deep the hierarchy is shown")
        self.depths.activated.connect(self._depth_picked)
        self.filter = qt.QLineEdit()
        self.filter.objectName = "searchEdit"
        self.filter.placeholderText = _("Search")
        self.filter.clearButtonEnabled = True
        self.filter.textChanged.connect(self.search)
        self.menu_button = qt.QToolButton()
        self.menu_button.objectName = "hierarchyMenuButton"
        self.menu_button.text = "…"
        self.menu_button.autoRaise = True
        self.menu_button.toolTip = _("More: columns, 3D, colors, label trees")
        self.menu_button.popupMode = qt.QToolButton.InstantPopup
        # Kept: a menu that nothing refers to is gone.
        self._menu = qt.QMenu(self.menu_button)
        self._menu.aboutToShow.connect(self._fill_menu)
        self.menu_button.setMenu(self._menu)
        for part in (self.depths, self.filter, self.menu_button):
            row.addWidget(part)
        self.view.objectName = "hierarchyTree"
        self.view.itemClicked.connect(self._clicked)
        self.view.itemDoubleClicked.connect(self._double_clicked)
        self.view.currentItemChanged.connect(self._picked)
        self.view.itemChanged.connect(self._typed)
        self.view.itemExpanded.connect(self._folded)
        self.view.itemCollapsed.connect(self._folded)
        self.view.customContextMenuRequested.connect(self._open_row_menu)
        key = qt.Qt
        self.view.keys[int(key.Key_Space)] = lambda: self._with_selected(self.toggle)
        if self.editable:
            for code in (key.Key_Return, key.Key_Enter, key.Key_F2):
                self.view.keys[int(code)] = lambda: self._with_selected(self.actions.rename)
            for code in (key.Key_Delete, key.Key_Backspace):
                self.view.keys[int(code)] = lambda: self._with_selected(self.actions.delete)
            self.view.keys[int(key.Key_Insert)] = lambda: self._with_selected(self.actions.add_subclass)
        for part in (self.message.widget, self.bar, self.grouping.widget, self.view):
            layout.addWidget(part)

    def _build(self) -> None:
        """Make all rows anew; what was picked and folded stays, by value: a name may have changed."""
        before = self.tree
        picked = before.node(self.selected).value if before is not None and self.selected is not None else None
        unfolded = {before.node(name).value for name in self.rows.unfolded()} if before is not None else None
        self.tree, self._measures = None, None
        self.rows.clear()
        sentence = self._read_tree()
        self.message.say(sentence)
        self.grouping.offer(self.node if self.node is not None and self.tree is None else None)
        self.view.visible = self.tree is not None or self.node is None
        self.depths.enabled = self.filter.enabled = self.tree is not None
        self.bar.visible = self.view.visible
        if self.tree is None:
            return
        tree = self.tree
        self._names = self._wanted_names()
        self._measures = Measures(self.node, tree)
        folded = marks.folding(self.node, tree)
        if unfolded is not None:
            open_ones = {node.name for node in tree.nodes if node.value in unfolded}
            open_ones |= {
                node.name for node in tree.nodes if node.value not in before.values and not tree.is_leaf(node)
            }
        else:
            open_ones = {n.name for n in tree.nodes if (n.depth < 2 if folded is None else n.name not in folded)}
        self._folds_by_user = False
        self.view.blockSignals(True)
        self.rows.build(tree, self._names, open_ones)
        self.view.blockSignals(False)
        self._folds_by_user = True
        self._fill_depths()
        self._update_rows()
        if picked is not None and any(node.value == picked for node in tree.nodes):
            self.select(tree.by_value(picked).name)
        if self.filter.text:
            self.search(str(self.filter.text))
        self._counting.start()

    def _read_tree(self) -> str:
        """Finds ``self.tree``; a sentence where there is none."""
        if self.node is None:
            return _("Results appear here.") if not self.editable else ""
        if not _is_segmentation(self.node):
            return ""
        try:
            # After an undone grouping the node still remembers the tree.
            if self.editable or grouping.is_grouped(self.node):
                self.tree = tree_store.read_tree(self.node)
        except HiersegError as error:
            return error.sentence
        return ""

    def _wanted_names(self) -> set[str]:
        """All nodes where subclasses can be added; else those with a segment of their own or below them."""
        if self.editable:
            return {node.name for node in self.tree.nodes}
        found: set[str] = set()
        for path in tree_store.segments_by_path(self.node, self.tree):
            node = self.tree.node(path)
            found |= {node.name, *(other.name for other in self.tree.ancestors(node))}
        return found

    def _fill_depths(self) -> None:
        deepest = max((self.tree.node(name).depth for name in self.rows.items), default=1)
        self.depths.clear()
        for depth in range(1, deepest):
            self.depths.addItem(_("Level {number}").format(number=depth), depth)
        self.depths.addItem(_("All levels"), deepest)
        self.depths.currentIndex = deepest - 1 if self.depth is None else min(self.depth, deepest) - 1

    def _fold(self, unfolded: set[str]) -> None:
        self._folds_by_user = False
        for name, item in self.rows.items.items():
            item.setExpanded(name in unfolded)
        self._folds_by_user = True

    # -- following --------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Look again, once for many events."""
        if self.node is None:
            return
        if self.node.GetScene() is None:
            self.set_node(None)
            return
        if not _is_segmentation(self.node):
            return
        before, self.tree = self.tree, None
        self._read_tree()
        after, self.tree = self.tree, before
        if after != before or after is None or self._wanted_names() != self._names:
            self._build()
            return
        self._measures.refresh(after)
        changed = self._follower.painted()
        if changed:
            # The painted one comes first; its siblings and the rest are counted when nothing else happens.
            self.rows.count(self._measures.recount(changed[0]), self._measures)
        self._update_rows()
        self._counting.start()

    def _update_rows(self) -> None:
        blocked = self.view.blockSignals(True)
        self.rows.update(self.node, self.tree, self.depth)
        self.view.blockSignals(blocked)
        self.surfaces.follow()

    def _count(self) -> None:
        """Count voxels for a moment."""
        changed = self._measures.step(COUNT_SECONDS) if self._measures is not None and self.node is not None else []
        blocked = self.view.blockSignals(True)
        self.rows.count(changed, self._measures)
        self.view.blockSignals(blocked)
        if self._measures is None or not self._measures.pending:
            self._counting.stop()

    # -- clicks -----------------------------------------------------------------------------------------------------

    def _clicked(self, item: Any, column: int) -> None:
        name = _name_of(item)
        if column == EYE:
            self.toggle(name)
        elif column == LOCK:
            self.actions.set_locked(name, name not in self.rows.locked)
        elif column == STATUS:
            self.actions.next_status(name)

    def _double_clicked(self, item: Any, column: int) -> None:
        if column != NAME:
            return
        place = self.view.visualItemRect(item)
        at = self.view.viewport().mapFromGlobal(qt.QCursor.pos())
        if at.x() - place.x() < 20:
            self.actions.choose_color(_name_of(item))
        elif self.editable:
            self.actions.rename(_name_of(item))

    def _picked(self, item: Any, *_before: object) -> None:
        if item is not None and self.on_selected is not None:
            self.on_selected(_name_of(item))

    def _typed(self, item: Any, column: int) -> None:
        if column == NAME and self.tree is not None:
            self.actions.renamed(_name_of(item), str(item.text(NAME)).strip())

    def _folded(self, *_item: object) -> None:
        if self._folds_by_user and self.tree is not None and not self.filter.text:
            self._remember_folds()

    def _remember_folds(self) -> None:
        if self.tree is not None:
            unfolded = self.rows.unfolded()
            marks.set_folding(
                self.node, [n for n in self.tree.nodes if n.name not in unfolded and not self.tree.is_leaf(n)]
            )

    def _with_selected(self, action: Callable[[str], Any]) -> None:
        if self.selected is not None:
            action(self.selected)

    def _depth_picked(self, *_arguments: object) -> None:
        depth = self.depths.itemData(self.depths.currentIndex)
        if depth:
            self.show_depth(int(depth))

    def _fill_menu(self) -> None:
        # A cleared menu keeps its submenus.
        for below in self._menu.findChildren(qt.QMenu):
            below.deleteLater()
        self._menu.clear()
        fill_section_menu(self._menu, self)

    def _open_row_menu(self, position: Any) -> None:
        name = _name_of(self.view.itemAt(position))
        if name is not None:
            menu = qt.QMenu(self.view)
            fill_row_menu(menu, self, name)
            menu.exec_(self.view.viewport().mapToGlobal(position))
            menu.deleteLater()


def _name_of(item: Any) -> str | None:
    return None if item is None else str(item.data(NAME, qt.Qt.UserRole))


def _is_segmentation(node: Any) -> bool:
    return node is not None and bool(node.IsA("vtkMRMLSegmentationNode"))
