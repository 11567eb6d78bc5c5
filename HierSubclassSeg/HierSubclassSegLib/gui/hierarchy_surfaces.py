"""Branches of the hierarchy in 3D: made one after another while the user goes on."""

from __future__ import annotations

from typing import Any, Protocol

import qt
import slicer
from slicer.i18n import tr as _

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.scene import surfaces
from HierSubclassSegLib.ticks import Ticks


class _Section(Protocol):
    node: Any
    tree: LabelTree | None
    message: Message


class Surfaces:
    """Which branches are wanted in 3D, and the work of making their surfaces.

    Args:
        section: whose node and tree.

    Attributes:
        wanted: the names of the branches' topmost nodes.
    """

    def __init__(self, section: _Section) -> None:
        self._section = section
        self.wanted: set[str] = set()
        self._ticks: Ticks[None] | None = None
        self._look = False
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._step)

    def show(self, name: str | None) -> None:
        """Show a branch in 3D (None: everything): what is visible of it, now and later."""
        tree = self._section.tree
        if tree is not None:
            self._look = not surfaces.in_3d(self._section.node)
            self.wanted |= {node.name for node in tree.top_level} if name is None else {name}
            self.follow()

    def hide(self, name: str | None) -> None:
        """Take a branch (None: everything) out of 3D."""
        tree = self._section.tree
        if tree is None:
            return
        if name is None:
            self.wanted.clear()
        else:
            # A branch above that was asked for as a whole goes on with the others of its children.
            above = {node.name for node in tree.ancestors(name)}
            below = {node.name for node in tree.descendants(name)}
            on_the_way = above | {name}
            for other in self.wanted & above:
                self.wanted |= {
                    child.name
                    for node in (tree.node(other), *tree.descendants(other))
                    if node.name in above
                    for child in tree.children(node)
                }
            self.wanted -= on_the_way | below
        self._cancel()
        surfaces.hide(self._section.node, tree, name)
        self.follow()

    def shows(self, name: str) -> bool:
        """Whether a branch is wanted in 3D, by itself or with what is above it."""
        tree = self._section.tree
        return tree is not None and bool(self.wanted & {name, *(node.name for node in tree.ancestors(name))})

    @property
    def busy(self) -> bool:
        """Whether surfaces are being made."""
        return self._ticks is not None

    def follow(self) -> None:
        """Make the surfaces that are wanted and missing."""
        section = self._section
        if self.wanted and self._ticks is None and section.tree is not None:
            missing = surfaces.missing(section.node, section.tree, self.wanted)
            if missing:
                node = section.node
                self._ticks = Ticks(
                    surfaces.show_steps(node, missing),
                    wanted=lambda: section.node is node and node.GetScene() is not None,
                )
                self._timer.start()

    def stop(self) -> None:
        """Another segmentation is shown, or none."""
        self._cancel()
        self.wanted.clear()

    def _cancel(self) -> None:
        self._timer.stop()
        if self._ticks is not None:
            self._ticks.cancel()
            self._ticks = None

    def _step(self) -> None:
        ticks = self._ticks
        if ticks is not None and ticks.step(0.0):
            self._section.message.say(_("Making 3D surfaces … {percent:.0f} %").format(percent=100 * ticks.fraction))
            return
        self._cancel()
        self._section.message.say("")
        if self._look:
            self._look = False
            _look_at_it()
        # Something may have been shown or painted in the meantime.
        self.follow()


def _look_at_it() -> None:
    layout = slicer.app.layoutManager()
    if layout is not None and layout.threeDViewCount:
        layout.threeDWidget(0).threeDView().resetFocalPoint()
