"""The menus of the hierarchy: of one row, and of the whole tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from HierSubclassSegLib.scene import surfaces, visibility
from HierSubclassSegLib.scene.status import Status

if TYPE_CHECKING:
    from HierSubclassSegLib.gui.hierarchy_section import HierarchySection

_OPACITIES = (100, 75, 50, 25, 10)


def fill_row_menu(menu: Any, section: HierarchySection, name: str) -> None:
    """What can be done with one node and what is below it."""
    tree, actions = section.tree, section.actions
    has_segments = section.rows.shown.get(name) is not None
    if has_segments:
        _add(menu, _("Show only this"), lambda: actions.show_only(name))
        _opacities(menu, section, name)
        _add(menu, _("Show in 3D"), lambda on: _in_3d(section, name, on), checked=section.surfaces.shows(name))
        menu.addSeparator()
        _add(menu, _("Color…"), lambda: actions.choose_color(name))
    if tree.children(name):
        _add(menu, _("Color subclasses by shade"), lambda: actions.shade(name))
    if has_segments or section.editable:
        statuses = menu.addMenu(_("Status"))
        for value, text in _statuses().items():
            _add(
                statuses,
                text,
                lambda _on, value=value: actions.set_status(name, value),
                checked=section.rows.statuses.get(name) is value,
            )
        locked = name in section.rows.locked
        _add(menu, _("Locked"), lambda on: actions.set_locked(name, on), checked=locked)
    if section.editable:
        menu.addSeparator()
        _add(menu, _("Add a subclass…"), lambda: actions.add_subclass(name))
        _add(menu, _("Rename"), lambda: actions.rename(name))
        _add(menu, _("Terminology…"), lambda: actions.choose_codes(name))
        _add(menu, _("Delete…"), lambda: actions.delete(name))


def fill_section_menu(menu: Any, section: HierarchySection) -> None:
    """What concerns the whole tree, and where one can come from."""
    actions = section.actions
    if section.tree is not None:
        if section.editable:
            _add(menu, _("Add a structure at the top…"), lambda: actions.add_subclass(None))
            menu.addSeparator()
        _add(menu, _("Show all"), lambda: actions.show_all(True))
        _add(menu, _("Hide all"), lambda: actions.show_all(False))
        _opacities(menu, section, None)
        _add(menu, _("Show in 3D"), lambda on: _in_3d(section, None, on), checked=surfaces.in_3d(section.node))
        _add(menu, _("Unfold all"), lambda: section.fold_all(False))
        _add(menu, _("Fold all"), lambda: section.fold_all(True))
        section.columns.fill_menu(menu.addMenu(_("Columns")))
        menu.addSeparator()
    if section.node is not None:
        _add(menu, _("Group by label tree…"), section.grouping.ask)
    if section.tree is not None:
        _add(menu, _("Save label tree as…"), actions.save_tree)
    label_maps = slicer.util.getNodesByClass("vtkMRMLLabelMapVolumeNode")
    if label_maps and not section.editable:
        below = menu.addMenu(_("Group a label map"))
        for node in label_maps:
            _add(below, node.GetName(), lambda node=node: section.grouping.import_label_map(node))


def _opacities(menu: Any, section: HierarchySection, name: str | None) -> None:
    now = None if name is None else visibility.opacity(section.node, section.tree, name)
    below = menu.addMenu(_("Opacity"))
    for percent in _OPACITIES:
        _add(
            below,
            f"{percent} %",
            lambda _on, percent=percent: section.actions.set_opacity(name, percent / 100.0),
            checked=now is not None and round(100 * now) == percent,
        )


def _in_3d(section: HierarchySection, name: str | None, on: bool) -> None:
    if on:
        section.surfaces.show(name)
    else:
        section.surfaces.hide(name)


def _statuses() -> dict[Status, str]:
    return {
        Status.NOT_STARTED: _("Not started"),
        Status.IN_PROGRESS: _("In progress"),
        Status.COMPLETED: _("Completed"),
        Status.FLAGGED: _("Flagged"),
    }


def _add(menu: Any, text: str, called: Callable[..., Any], checked: bool | None = None) -> None:
    """An entry; one with a check mark gets the new state as its argument."""
    action = menu.addAction(text)
    if checked is None:
        action.triggered.connect(lambda *_checked: called())
    else:
        action.checkable = True
        action.checked = checked
        action.toggled.connect(called)
