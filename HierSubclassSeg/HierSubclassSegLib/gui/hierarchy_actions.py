"""What the user does to a row of the hierarchy; what is refused is said in a sentence above it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from slicer.i18n import tr as _

from hierseg.errors import HiersegError, LabelTreeError
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.gui import hierarchy_dialogs as dialogs
from HierSubclassSegLib.gui.hierarchy_columns import NAME
from HierSubclassSegLib.gui.hierarchy_rows import Rows
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.scene import marks, tree_store, undo, visibility
from HierSubclassSegLib.scene.hierarchy_edits import HierarchyEdits
from HierSubclassSegLib.scene.status import Status


class _Section(Protocol):
    node: Any
    tree: LabelTree | None
    editable: bool
    view: Any
    rows: Rows
    message: Message

    def edits(self) -> HierarchyEdits: ...
    def follow(self) -> None: ...
    def select(self, name: str | None) -> None: ...


class HierarchyActions:
    """Edits of the section's segmentation, each one undo step where there is an undo history."""

    def __init__(self, section: _Section) -> None:
        self._section = section

    # -- every hierarchy ---------------------------------------------------------------------------------------------

    def set_opacity(self, name: str | None, value: float) -> None:
        """Give a branch (None: everything) an opacity, 0..1."""
        section = self._section
        with self._told():
            for node in section.tree.top_level if name is None else [section.tree.node(name)]:
                visibility.set_opacity(section.node, section.tree, node, value)

    def show_only(self, name: str) -> None:
        """Show a branch and hide all others."""
        with self._told():
            visibility.show_only(self._section.node, self._section.tree, name)

    def show_all(self, visible: bool) -> None:
        """Show or hide everything."""
        section = self._section
        with self._told():
            for node in section.tree.top_level:
                visibility.set_visible(section.node, section.tree, node, visible)

    def choose_color(self, name: str) -> None:
        """Ask for a color."""
        color = dialogs.ask_color(self._section.view, name, self._section.edits().color(name))
        if color is not None:
            self._recolor(name, color, below=False)

    def shade(self, name: str) -> None:
        """Color what is below a node in shades of its color."""
        self._recolor(name, None, below=True)

    def set_status(self, name: str, value: Status) -> None:
        """Set the status of a node's segment."""
        with self._told():
            self._section.edits().set_status(name, value)

    def next_status(self, name: str) -> None:
        """Not started, in progress, completed, flagged, and round again."""
        order = list(Status)
        present = self._section.rows.statuses.get(name, Status.NOT_STARTED)
        if self._section.editable or self._section.rows.shown.get(name) is not None:
            self.set_status(name, order[(order.index(present) + 1) % len(order)])

    def set_locked(self, name: str, locked: bool) -> None:
        """Lock or unlock a node; one below a locked node stays locked with it."""
        section = self._section
        with self._told():
            above = next((a.name for a in section.tree.ancestors(name) if a.name in section.rows.locked), None)
            if above is not None and not locked:
                section.message.say(_("'{name}' is locked with '{above}'.").format(name=name, above=above))
                return
            marks.set_locked(section.node, section.tree.node(name), locked)
            # A .seg.nrrd has no attributes: it takes the locks from a tag.
            with undo.unseen_by_undo(section.node.GetSegmentation()):
                tree_store.mirror_state(section.node)

    # -- hierarchies that can be edited ------------------------------------------------------------------------------

    def add_subclass(self, parent: str | None) -> None:
        """Ask for the name of a new structure below another one, or at the top level."""
        name = dialogs.ask_name(self._section.view, self._section.tree, parent)
        if not name:
            return
        with self._told():
            added = self._section.edits().add_subclass(parent, name)
            self._section.follow()
            self._section.select(added.name)

    def rename(self, name: str) -> None:
        """Let the user type another name in the row."""
        item = self._section.rows.items[name]
        self._section.view.editItem(item, NAME)

    def renamed(self, name: str, text: str) -> None:
        """The user has typed a name."""
        section = self._section
        section.rows.forget(name)
        with self._told():
            if text and text != name:
                section.edits().rename(name, text)

    def choose_codes(self, name: str) -> None:
        """Let the user choose codes in Slicer's terminology selector."""
        section = self._section
        codes = dialogs.ask_codes(section.view, section.tree, section.tree.node(name))
        if codes is not None:
            with self._told():
                section.edits().set_codes(name, codes)

    def delete(self, name: str) -> None:
        """Ask what is to be deleted: what is painted, or the structure with it."""
        section = self._section
        below = len(section.tree.descendants(name))
        painted = section.rows.shown.get(name) is not None
        what = dialogs.ask_delete(section.view, name, below, painted)
        with self._told():
            if what == "segments":
                section.edits().delete_segments(name)
            elif what == "node":
                section.edits().remove_node(name)

    def save_tree(self) -> None:
        """Write the label tree to a file that the user chooses."""
        section = self._section
        path = dialogs.ask_tree_to_save(section.view, section.tree.name)
        if path:
            with self._told():
                try:
                    section.tree.save(path)
                except OSError as error:
                    raise LabelTreeError(
                        f"'{path}' could not be written ({error.strerror}); choose another place."
                    ) from error
                section.message.say(_("Saved as {path}.").format(path=path))

    # -- inside -----------------------------------------------------------------------------------------------------

    def _recolor(self, name: str, color: tuple[float, float, float] | None, below: bool) -> None:
        section = self._section
        with self._told():
            if section.editable:
                section.edits().recolor(name, color, below=below)
            elif below:
                visibility.recolor_branch(section.node, section.tree, name, color)
            else:
                # A result keeps its model's tree: only the segment changes.
                segment_id = tree_store.segment_id_of(section.node, section.tree.node(name))
                if segment_id is not None:
                    section.node.GetSegmentation().GetSegment(segment_id).SetColor(*color)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What is refused inside is said; what has changed is shown at once."""
        section = self._section
        section.message.say("")
        try:
            yield
        except HiersegError as error:
            section.follow()
            section.message.say(error.sentence, error=True, tip=error.hint or "")
            return
        said = section.message.text
        section.follow()
        if said:
            section.message.say(said)
