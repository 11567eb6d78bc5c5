"""Label trees that phantoms share with published data sets."""

from __future__ import annotations

from hierseg import resources
from hierseg.labeltree import LabelTree


class Shipped:
    """A phantom in one of the shipped label trees."""

    tree_name: str

    def tree(self) -> LabelTree:
        """The label tree of its truth."""
        return LabelTree.load(resources.path("label_trees", self.tree_name))
