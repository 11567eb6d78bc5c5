"""Hierarchy: the label tree of a segmentation with eyes, colors and volumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from hierseg.errors import HiersegError
from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.gui import icons, texts
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.scene import colors, tree_store, visibility
from HierSubclassSegLib.scene.hierarchy_edits import HierarchyEdits
from HierSubclassSegLib.scene.measures import Measures

NAME, ML, EYE = 0, 1, 2
COUNT_SECONDS = 0.01
"""Time that counting voxels may take of the event loop at a go."""
_NEXT = {"on": False, "partial": True, "off": True}


class HierarchySection:
    """A tree that follows one segmentation; an eye shows or hides a branch.

    Args:
        editable: the tree can be edited, and shows the nodes that have no segment yet.
        on_selected: called with a node's name when the user picks its row; not by :meth:`select`.

    Attributes:
        node: the segmentation, or None.
        session: the painting session (``scene.painting.RefineSession``) that edits go through while there is one;
            set by who opens and closes it.
        save_state: saves the state for undo where there is no session: the embedded Segment Editor's
            ``saveStateForUndo``; None: edits cannot be undone.
    """

    def __init__(self, editable: bool = False, on_selected: Callable[[str], Any] | None = None) -> None:
        self.editable = editable
        self.on_selected = on_selected
        self.session: HierarchyEdits | None = None
        self.save_state: Callable[[], Any] | None = None
        self.node: Any = None
        self._tree: LabelTree | None = None
        self._measures: Measures | None = None
        self._items: dict[str, Any] = {}
        self._shown: dict[str, str | None] = {}
        self._observed: list[tuple[Any, int]] = []
        self._depth: int | None = None
        self._make_widgets()
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._follow)
        self._counting = qt.QTimer()
        self._counting.setInterval(20)
        self._counting.timeout.connect(self._count)

    # -- what is shown ----------------------------------------------------------------------------------------------

    def set_node(self, node: Any) -> None:
        """Show another segmentation, or none."""
        self._unobserve()
        self.node = node
        self._depth = None
        self._build()
        if node is None:
            return
        kind = slicer.vtkSegmentation
        segmentation = node.GetSegmentation()
        for event in (
            kind.SegmentAdded,
            kind.SegmentRemoved,
            kind.SegmentModified,
            kind.RepresentationModified,
            kind.SourceRepresentationModified,
        ):
            self._observe(segmentation, event)
        self._observe(node, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent)

    def close(self) -> None:
        """Stop following."""
        self._later.stop()
        self._counting.stop()
        self._unobserve()
        self.node = None

    @property
    def selected(self) -> str | None:
        """The name of the node whose row is picked."""
        item = self.view.currentItem()
        return None if item is None else str(item.data(NAME, qt.Qt.UserRole))

    def select(self, name: str | None) -> None:
        """Pick the row of a node; ``on_selected`` is not called."""
        item = self._items.get(name) if name is not None else None
        blocked = self.view.blockSignals(True)
        self.view.setCurrentItem(item)
        self.view.blockSignals(blocked)
        if item is not None:
            self.view.scrollToItem(item)

    def show_depth(self, depth: int) -> None:
        """Show the tree to a depth, 1 for the top level."""
        if self.node is None or self._tree is None:
            return
        self._depth = depth
        visibility.show_depth(self.node, self._tree, depth)
        for name, item in self._items.items():
            item.setExpanded(self._tree.node(name).depth < depth)
        self._show_eyes()

    def toggle(self, name: str) -> None:
        """Show a branch that is hidden or partly shown, hide one that is shown."""
        state = self._shown.get(name)
        if self.node is None or self._tree is None or state is None:
            return
        visibility.set_visible(self.node, self._tree, name, _NEXT[state], self._depth)
        self._show_eyes()

    def search(self, text: str) -> None:
        """Show only the rows whose name or alias holds the text, with what is above and below them."""
        if self._tree is None:
            return
        wanted = text.strip().lower()
        found: set[str] = set()
        for node in self._tree.nodes:
            if node.name in self._items and any(wanted in name.lower() for name in (node.name, *node.aliases)):
                found.add(node.name)
                found |= {other.name for other in self._tree.ancestors(node)}
                found |= {other.name for other in self._tree.descendants(node)}
        for name, item in self._items.items():
            item.setHidden(bool(wanted) and name not in found)
            if wanted and name in found:
                item.setExpanded(True)

    # -- building ---------------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        self.message = Message()
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
        row.addWidget(self.depths)
        row.addWidget(self.filter)
        self.view = qt.QTreeWidget()
        self.view.objectName = "hierarchyTree"
        self.view.setColumnCount(3)
        self.view.setHeaderLabels([_("Structure"), _("ml"), ""])
        self.view.setMinimumHeight(160)
        self.view.uniformRowHeights = True
        self.view.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        header = self.view.header()
        header.stretchLastSection = False
        header.setSectionResizeMode(NAME, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(ML, qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(EYE, qt.QHeaderView.ResizeToContents)
        self.view.headerItem().setTextAlignment(ML, qt.Qt.AlignRight | qt.Qt.AlignVCenter)
        self.view.itemClicked.connect(self._clicked)
        self.view.currentItemChanged.connect(self._picked)
        self._space = qt.QShortcut(qt.QKeySequence("Space"), self.view)
        self._space.context = qt.Qt.WidgetShortcut
        self._space.activated.connect(self._toggle_current)
        for part in (self.message.widget, self.bar, self.view):
            layout.addWidget(part)

    def _build(self) -> None:
        """Make all rows anew."""
        folded = {name for name, item in self._items.items() if not item.isExpanded()} if self._items else None
        self._items, self._tree, self._measures = {}, None, None
        self.view.clear()
        sentence = ""
        if self.node is not None:
            try:
                self._tree = tree_store.read_tree(self.node)
            except HiersegError as error:
                sentence = error.sentence
            if self._tree is None and not sentence:
                sentence = _("'{name}' has no label tree.").format(name=self.node.GetName())
        self.message.say(sentence or (_("Results appear here.") if self.node is None else ""))
        self.bar.visible = self.view.visible = self._tree is not None or self.node is None
        self.bar.enabled = self._tree is not None
        if self._tree is None:
            return
        self._measures = Measures(self.node, self._tree)
        self._with_segment = self._nodes_with_segments()
        for node in self._tree.top_level:
            self._add_rows(node, self.view.invisibleRootItem())
        for name, item in self._items.items():
            item.setExpanded(name not in folded if folded is not None else self._tree.node(name).depth < 2)
        self._fill_depths()
        self._show_eyes()
        self.search(str(self.filter.text))
        self._counting.start()

    def _nodes_with_segments(self) -> set[str]:
        """The names of the nodes with a segment of their own or below them."""
        found: set[str] = set()
        for path in tree_store.segments_by_path(self.node, self._tree):
            node = self._tree.node(path)
            found |= {node.name, *(other.name for other in self._tree.ancestors(node))}
        return found

    def _add_rows(self, node: Node, parent: Any) -> None:
        if node.name not in self._with_segment:
            return
        item = qt.QTreeWidgetItem(parent)
        item.setText(NAME, node.name)
        item.setToolTip(NAME, node.path)
        item.setData(NAME, qt.Qt.UserRole, node.name)
        item.setTextAlignment(ML, qt.Qt.AlignRight | qt.Qt.AlignVCenter)
        item.setIcon(NAME, icons.swatch(self._color(node)))
        self._items[node.name] = item
        for child in self._tree.children(node):
            self._add_rows(child, item)

    def _color(self, node: Node) -> tuple[float, float, float]:
        segment_id = tree_store.segment_id_of(self.node, node)
        if segment_id is None:
            return colors.node_color(self._tree, node)
        return tuple(self.node.GetSegmentation().GetSegment(segment_id).GetColor())

    def _fill_depths(self) -> None:
        deepest = max(self._tree.node(name).depth for name in self._items) if self._items else 1
        self.depths.clear()
        for depth in range(1, deepest):
            self.depths.addItem(_("Level {number}").format(number=depth), depth)
        self.depths.addItem(_("All levels"), deepest)
        self.depths.currentIndex = self.depths.count - 1

    # -- following --------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Look again, once for many events."""
        if self.node is None or self.node.GetScene() is None:
            return
        try:
            tree = tree_store.read_tree(self.node)
        except HiersegError:
            tree = None
        if tree != self._tree or tree is None or self._nodes_with_segments() != self._with_segment:
            self._build()
            return
        for name, item in self._items.items():
            item.setIcon(NAME, icons.swatch(self._color(tree.node(name))))
        self._measures.refresh(tree)
        self._show_eyes()
        self._counting.start()

    def _show_eyes(self) -> None:
        states = visibility.states(self.node, self._tree, self._depth)
        ink = self.view.palette.color(qt.QPalette.Text)
        pictures = {state: icons.eye(state, ink) for state in ("on", "partial", "off")}
        for name, item in self._items.items():
            state = states.get(name)
            if state is not None:
                item.setIcon(EYE, pictures[state])
                item.setToolTip(
                    EYE, _("Shown") if state == "on" else _("Hidden") if state == "off" else _("Partly shown")
                )
        self._shown = states

    def _count(self) -> None:
        """Count voxels for a moment."""
        changed = self._measures.step(COUNT_SECONDS) if self._measures is not None and self.node is not None else []
        for name in changed:
            if name in self._items:
                self._items[name].setText(ML, texts.volume(self._measures.ml(name)))
        if not changed:
            self._counting.stop()

    # -- clicks -----------------------------------------------------------------------------------------------------

    def _clicked(self, item: Any, column: int) -> None:
        if column == EYE:
            self.toggle(str(item.data(NAME, qt.Qt.UserRole)))

    def _picked(self, item: Any, *_before: object) -> None:
        if item is not None and self.on_selected is not None:
            self.on_selected(str(item.data(NAME, qt.Qt.UserRole)))

    def _toggle_current(self) -> None:
        item = self.view.currentItem()
        if item is not None:
            self.toggle(str(item.data(NAME, qt.Qt.UserRole)))

    def _depth_picked(self, *_arguments: object) -> None:
        depth = self.depths.itemData(self.depths.currentIndex)
        if depth:
            self.show_depth(int(depth))

    def _observe(self, source: Any, event: Any) -> None:
        self._observed.append((source, source.AddObserver(event, lambda *_arguments: self._later.start())))

    def _unobserve(self) -> None:
        for source, tag in self._observed:
            source.RemoveObserver(tag)
        self._observed = []
